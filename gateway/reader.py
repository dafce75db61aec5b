"""Bytes of an open WebSocket -> whole messages, with the parser of the `websockets` library. No I/O.

Between two frames a parser knows nothing. So connections that are between frames, nearly all of them nearly always, share
one, and only who is in the middle of something keeps its own: that saves 1.2 KB for each idle connection.

A parser may be passed on only if it stands exactly between two frames. That is decided by arithmetic: the wire sizes of the
frames that came out add up to the bytes that went in. A client that writes lengths in a longer form than needed (RFC 6455
section 5.2 forbids it, the library lets it pass) makes the sum smaller, never larger, and so merely keeps its own parser.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import BINARY, CONT, PING, PONG, TEXT, Frame
from websockets.protocol import OPEN, SERVER, Protocol

from gateway import frames
from protocol import codes

#: The library reports each opening and closing at level INFO; the node counts those instead, and Hub raises the level.
quiet = logging.getLogger("kith.gateway.websockets")


@dataclass(slots=True, frozen=True)
class Pong:
    """A ping came; this is the answer, ready to be written."""

    wire: bytes


@dataclass(slots=True, frozen=True)
class Ended:
    """The client has closed, or broken RFC 6455. `wire`: the closing frame to answer with; nothing is read any more.
    `has_closed`: the client's close frame came, if only after a breach."""

    close: codes.Close
    wire: bytes
    has_closed: bool


class Mark(Enum):
    """What came without being a message."""

    PART = "a fragment or a pong"
    TEXT = "the beginning of a text message"


#: bytes: a whole binary message.
Incoming = bytes | Pong | Ended | Mark


class Reader:
    """The parser of one connection, or of whoever comes next while it is `clean`. `limit`: bytes of a whole message."""

    __slots__ = ("_parser", "_partial", "_unaccounted")

    def __init__(self, limit: int) -> None:
        self._parser = Protocol(SERVER, state=OPEN, max_size=limit, logger=quiet)
        #: The message of which some fragments came. One buffer: a list would grow by empty fragments.
        self._partial: bytearray | None = None
        self._unaccounted = 0

    @property
    def clean(self) -> bool:
        """Whether it stands between two messages, and so knows nothing of the bytes that it was fed."""
        return self._unaccounted == 0 and self._partial is None and self._parser.state is OPEN

    def feed(self, data: bytes) -> list[Incoming]:
        """What `data` completes. Whatever the bytes are, it does not raise. After Ended it is not called again."""
        parser = self._parser
        parser.receive_data(data)
        unaccounted = self._unaccounted + len(data)
        incoming: list[Incoming] = []
        control = False
        for event in cast("list[Frame]", parser.events_received()):
            payload = cast("bytes", event.data)
            unaccounted -= frames.wire_size(len(payload))
            opcode = event.opcode
            if opcode is BINARY and event.fin:
                incoming.append(payload)
            elif opcode is BINARY or opcode is TEXT:
                incoming.append(Mark.TEXT if opcode is TEXT else Mark.PART)
                if not event.fin:
                    self._partial = bytearray(payload)
            elif opcode is CONT:
                # The parser has seen to it that a message has begun, and that its whole is within the limit.
                partial = cast("bytearray", self._partial)
                partial += payload
                if event.fin:
                    incoming.append(bytes(partial))
                    self._partial = None
                else:
                    incoming.append(Mark.PART)
            elif opcode is PING:
                control = True
                incoming.append(Pong(frames.pong(payload)))
            elif opcode is PONG:
                incoming.append(Mark.PART)
        self._unaccounted = unaccounted
        if parser.state is not OPEN:
            incoming.append(self._ended())
        elif control:
            parser.data_to_send()  # the library's own answers to pings
        return incoming

    def _ended(self) -> Ended:
        parser = self._parser
        if isinstance(parser.parser_exc, PayloadTooBig):
            return Ended(codes.TOO_BIG, frames.close(codes.TOO_BIG.code, codes.TOO_BIG.text), has_closed=False)
        closing = [wire for wire in parser.data_to_send() if frames.is_close(wire)]
        if parser.parser_exc is None:
            return Ended(codes.NORMAL, b"".join(closing), has_closed=True)
        sent = parser.close_sent
        assert sent is not None
        has_closed = parser.close_rcvd is not None
        return Ended(codes.Close(sent.code, "websocket", sent.reason), b"".join(closing), has_closed)


class Readers:
    """The parser that is shared, one per loop: `borrow` it for one call of `feed`, then `give_back` what is clean."""

    __slots__ = ("_limit", "_spare")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spare: Reader | None = None

    def borrow(self) -> Reader:
        """A clean reader."""
        reader, self._spare = self._spare, None
        return reader or Reader(self._limit)

    def give_back(self, reader: Reader) -> None:
        """A clean reader, for whoever comes next."""
        self._spare = reader
