"""Bytes <-> frames.

A WebSocket message holds one frame or a batch, which is an array of frames; the first byte of the first item tells which.
Decoding never trusts a length or a depth that the sender claims: msgspec allocates for items that are there, and gives up on
nesting with RecursionError, which is reported here as TooDeep.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from protocol import codes, messages

#: Bytes of one WebSocket message, fragments joined, in either direction. Room for four bodies of the largest size.
MAX_MESSAGE = 64 * 1024
#: Frames in one batch. A frame is at least 3 bytes, so this is reached long before MAX_MESSAGE by tiny frames alone.
MAX_BATCH = 1024
#: Bytes of one message body as sent.
MAX_BODY = 16 * 1024

_encoder = msgspec.msgpack.Encoder()
_client: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.ClientFrame)
_server: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(messages.ServerFrame)
_raws = msgspec.msgpack.Decoder(list[msgspec.Raw])
_int = msgspec.msgpack.Decoder(int)

_FIELDS = {
    messages.number_of(kind): kind.__struct_fields__
    for union in (messages.ClientFrame, messages.ServerFrame)
    for kind in union.__args__
}
_PATH = re.compile(r"`\$\[(\d+)\]")


class TooDeep(Exception):
    """Nesting beyond what any frame has."""


class Problem(Exception):
    """A frame that cannot be used. `rid` is quoted from it where it could be read; else 0."""

    def __init__(self, rid: int, error: codes.Error, text: str) -> None:
        super().__init__(text)
        self.rid = rid
        self.error = error
        self.text = text


def encode(frame: messages.Frame) -> bytes:
    """One frame -> its bytes."""
    return _encoder.encode(frame)


def array_header(count: int) -> bytes:
    """The msgpack header of an array of `count` items (msgpack specification, array format family)."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def batch(frames: Sequence[bytes]) -> bytes:
    """Encoded frames -> one batch; a single one stays as it is."""
    return frames[0] if len(frames) == 1 else array_header(len(frames)) + b"".join(frames)


def _is_array(byte: int) -> bool:
    return 0x90 <= byte <= 0x9F or byte == 0xDC or byte == 0xDD


def is_batch(data: bytes) -> bool:
    """Whether the message is an array whose first item is an array. An empty array is an (empty) batch."""
    first = data[0]
    start = 1 if 0x90 <= first <= 0x9F else 3 if first == 0xDC else 5 if first == 0xDD else 0
    return start > 0 and (len(data) <= start or _is_array(data[start]))


def split(data: bytes) -> list[msgspec.Raw]:
    """A batch -> its frames' bytes (views on `data`). Problem, TooDeep."""
    try:
        frames = _raws.decode(data)
    except msgspec.MsgspecError as error:
        raise Problem(0, codes.MALFORMED, f"not a batch: {error}") from None
    except RecursionError:
        raise TooDeep from None
    if not 0 < len(frames) <= MAX_BATCH:
        raise Problem(0, codes.MALFORMED, f"a batch holds 1 to {MAX_BATCH} frames")
    return frames


def decode_client(data: bytes | msgspec.Raw) -> messages.ClientFrame:
    """One frame of a client. Problem (with the rid, and the field's name where there is one), TooDeep."""
    try:
        frame: messages.ClientFrame = _client.decode(data)
        return frame
    except msgspec.MsgspecError as error:
        raise _explain(bytes(data), error) from None
    except RecursionError:
        raise TooDeep from None


def decode_server(data: bytes | msgspec.Raw) -> messages.ServerFrame:
    """One frame of a server, for clients. Problem: UNKNOWN_FRAME is to be ignored (a newer server)."""
    try:
        frame: messages.ServerFrame = _server.decode(data)
        return frame
    except msgspec.MsgspecError as error:
        raise _explain(bytes(data), error) from None
    except RecursionError:
        raise TooDeep from None


def decode_server_message(data: bytes) -> Iterable[messages.ServerFrame]:
    """Every frame of one WebSocket message of a server, unknown ones left out."""
    parts: Sequence[bytes | msgspec.Raw] = split(data) if is_batch(data) else (data,)
    for part in parts:
        try:
            yield decode_server(part)
        except Problem as problem:
            if problem.error is not codes.UNKNOWN_FRAME:
                raise


def _explain(data: bytes, error: msgspec.MsgspecError) -> Problem:
    """Find out what the general error was about: the frame's number, its rid, the field."""
    try:
        items = _raws.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return Problem(0, codes.MALFORMED, "not a msgpack array")
    number, rid = (_integer(items, 0), _integer(items, 1))
    if number is None:
        return Problem(0, codes.MALFORMED, "item 0 must be the frame number")
    fields = _FIELDS.get(number)
    if rid is None:
        rid = 0
    if fields is None or str(error).startswith("Invalid value") and "`$[0]`" in str(error):
        return Problem(rid, codes.UNKNOWN_FRAME, f"unknown frame number {number}")
    match = _PATH.search(str(error))
    if match is not None and 0 < int(match[1]) <= len(fields):
        return Problem(rid, codes.MALFORMED, f"{fields[int(match[1]) - 1]}: {_plain(error)}")
    if len(items) <= len(fields) and "at least length" in str(error):
        missing = fields[max(len(items) - 1, 0)]
        return Problem(rid, codes.MALFORMED, f"{missing}: missing")
    return Problem(rid, codes.MALFORMED, _plain(error))


def _integer(items: list[msgspec.Raw], index: int) -> int | None:
    """Item `index` as an int in range, or None."""
    try:
        value = _int.decode(items[index])
    except (IndexError, msgspec.MsgspecError, RecursionError):
        return None
    return value if 0 <= value < 2**53 else None


def _plain(error: msgspec.MsgspecError) -> str:
    return str(error).replace("`", "")
