"""Bytes <-> frames.

A WebSocket message holds one frame or a batch, which is an array of frames; the first byte of the first item tells which.
Decoding never trusts a length or a depth that the sender claims: msgspec allocates for items that are there, and gives up on
nesting with RecursionError, which is reported here as TooBig. What one byte of input can cost is bounded too: an array is
taken apart item by item only when its header announces few of them, and only what has a type of ours is made into objects;
the rest, trailing items and bodies of a later kind, is looked at by `protocol.scan` or skipped.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from protocol import codes, events, messages, scan

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
_whole = msgspec.msgpack.Decoder(msgspec.Raw)

#: What decoding raises for bytes that do not fit; text that is no UTF-8 gives UnicodeDecodeError.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)

_FIELDS = {
    messages.number_of(kind): kind.__struct_fields__
    for union in (messages.ClientFrame, messages.ServerFrame)
    for kind in union.__args__
}
#: msgspec's words: where a value stands (the first item, and what is inside of it), and a length that is over or under a limit.
_PATH = re.compile(r" - at `\$(?:\[(\d+)\])?(.*)`$")
_LENGTH = re.compile(r"Expected `(str|bytes|array)` of length ([<>])= (\d+)")
_UNITS = {"str": "characters", "bytes": "bytes", "array": "entries"}


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


def event_encoder(stream: bytes) -> Callable[[int, bytes], bytes]:
    """How to make the frame (`messages.Event`) of event (seq, stored bytes) of a stream. Its first items are made once; the
    stored bytes are relayed as they are."""
    head = b"\x95" + b"".join(map(_encoder.encode, (messages.number_of(messages.Event), 0, stream)))
    encode_seq = _encoder.encode

    def encode_event(seq: int, event: bytes) -> bytes:
        return head + encode_seq(seq) + event

    return encode_event


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
    first = data[0] if data else 0
    start = 1 if 0x90 <= first <= 0x9F else 3 if first == 0xDC else 5 if first == 0xDD else 0
    return start > 0 and (len(data) <= start or _is_array(data[start]))


def _announced(data: bytes) -> int:
    """How many items the header of an array promises; -1 where there is no array, or not all of its header."""
    first = data[0] if data else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    width = 2 if first == 0xDC else 4 if first == 0xDD else 0
    return int.from_bytes(data[1 : 1 + width], "big") if width and len(data) > width else -1


def split(data: bytes) -> list[msgspec.Raw]:
    """A batch -> its frames' bytes (views on `data`). Problem, TooBig."""
    count = _announced(data)
    if count + 3 > MAX_MESSAGE:  # with the shortest header that announces so many
        raise scan.TooBig
    if not 0 < count <= MAX_BATCH:
        raise Problem(0, codes.MALFORMED, f"a batch holds 1 to {MAX_BATCH} frames")
    try:
        return _raws.decode(data)
    except msgspec.MsgspecError as error:
        raise _broken(data, 0, error) from None
    except RecursionError:
        raise scan.TooBig from None


#: The first bytes of short msgpack arrays (fixarray) of 1 and of 15 items.
_ONE_ITEM, _MOST_ITEMS = 0x91, 0x9F


def decode_client(data: bytes | msgspec.Raw) -> messages.ClientFrame:
    """One frame of a client. Problem (with the rid, and the field's name where there is one), TooBig."""
    try:
        frame: messages.ClientFrame = _client.decode(data)
    except UNREADABLE as error:
        raise _explain(bytes(data), error) from None
    except RecursionError:
        raise scan.TooBig from None
    if type(frame) is messages.Send or type(frame) is messages.Edit:
        _check_body(frame.rid, frame.body)
    return frame


def _check_body(rid: int, body: msgspec.Raw) -> None:
    """Refuse what is no body, or must not be relayed: Problem, TooBig. A kind that is not known is the session's to refuse."""
    data = bytes(body)
    if len(data) > MAX_BODY:
        raise Problem(rid, codes.TOO_LONG, f"body: at most {MAX_BODY} bytes")
    unfit = ""
    try:
        usual = _encoder.encode(events.decode_body(data))
        if usual == data or (_ONE_ITEM <= data[0] < usual[0] <= _MOST_ITEMS and usual.startswith(data[1:], 1)):
            return  # the usual writing of a known body, with or without its last items: nothing is in it but what its type says
    except msgspec.MsgspecError as error:
        unfit = str(error)
    except RecursionError:
        raise scan.TooBig from None
    try:
        scan.check(data, MAX_MESSAGE)
    except scan.Unfit as error:
        raise Problem(rid, codes.MALFORMED, f"body: {error}") from None
    except scan.TooMany:
        raise Problem(rid, codes.TOO_MANY, f"body: at most {scan.MAX_VALUES} values") from None
    if unfit and not unfit.startswith("Invalid value"):
        match = _PATH.search(unfit)
        place = f"[{match[1]}]{match[2]}" if match is not None and match[1] else ""
        raise _unfit(rid, f"body{place}", unfit)


def decode_server(data: bytes | msgspec.Raw) -> messages.ServerFrame:
    """One frame of a server, for clients. Problem: UNKNOWN_FRAME is to be ignored (a newer server)."""
    try:
        frame: messages.ServerFrame = _server.decode(data)
        return frame
    except UNREADABLE as error:
        raise _explain(bytes(data), error) from None
    except RecursionError:
        raise scan.TooBig from None


def decode_server_message(data: bytes) -> Iterable[messages.ServerFrame]:
    """Every frame of one WebSocket message of a server, unknown ones left out."""
    parts: Sequence[bytes | msgspec.Raw] = split(data) if is_batch(data) else (data,)
    for part in parts:
        try:
            yield decode_server(part)
        except Problem as problem:
            if problem.error is not codes.UNKNOWN_FRAME:
                raise


def _explain(data: bytes, error: Exception) -> Problem:
    """Find out what the general error was about: the frame's number, its rid, the field. TooBig."""
    number, rid = leading(data)
    try:
        _whole.decode(data)
    except msgspec.MsgspecError as broken:
        return _broken(data, rid, broken)
    except RecursionError:
        raise scan.TooBig from None
    if number is None:
        return Problem(rid, codes.MALFORMED, "a frame is an array, and its item 0 the frame number")
    fields = _FIELDS.get(number)
    text = str(error)
    match = _PATH.search(text)
    item = int(match[1]) if match is not None and match[1] else -1
    if fields is None or (text.startswith("Invalid value") and item == 0):
        return Problem(rid, codes.UNKNOWN_FRAME, f"unknown frame number {number}")
    if isinstance(error, UnicodeDecodeError):
        return Problem(rid, codes.MALFORMED, f"{_not_utf8(data, fields)}: text that is not UTF-8")
    if match is not None and 0 < item <= len(fields):
        return _unfit(rid, fields[item - 1] + match[2], text)
    count = _announced(data)
    if count <= len(fields) and "at least length" in text:
        return Problem(rid, codes.MALFORMED, f"{fields[max(count - 1, 0)]}: missing")
    return Problem(rid, codes.MALFORMED, _plain(text))


def _broken(data: bytes, rid: int, error: Exception) -> Problem:
    """What does not end where it should. TooBig if no message is as long as what it announces."""
    with contextlib.suppress(scan.Unfit, scan.TooMany):
        scan.check(data, MAX_MESSAGE)
    return Problem(rid, codes.MALFORMED, f"not one whole msgpack value: {_plain(str(error))}")


def _unfit(rid: int, place: str, text: str) -> Problem:
    """A value that does not fit its type, by msgspec's words. What is only too long, or empty, a person may have typed."""
    match = _LENGTH.match(text)
    if match is not None and match[2] == "<":
        error = codes.TOO_MANY if match[1] == "array" else codes.TOO_LONG
        return Problem(rid, error, f"{place}: at most {match[3]} {_UNITS[match[1]]}")
    if match is not None and match[3] == "1":
        return Problem(rid, codes.EMPTY, f"{place}: empty")
    return Problem(rid, codes.MALFORMED, f"{place}: {_plain(text)}")


def _not_utf8(data: bytes, fields: Sequence[str]) -> str:
    """The name of the first field that holds text which is no UTF-8, however deep in it."""
    if _announced(data) <= 2 * len(fields):
        for field, item in zip(fields, _raws.decode(data)[1:], strict=False):
            try:
                scan.check(bytes(item), MAX_MESSAGE)
            except scan.Unfit:
                return field
            except (scan.TooBig, scan.TooMany):
                continue
    return "some field"


def is_known(number: int | None) -> bool:
    """Whether a frame has this number, in either direction."""
    return number in _FIELDS


def leading(data: bytes) -> tuple[int | None, int]:
    """Items 0 and 1 as far as they are integers in range (item 1: else 0), read without looking at what follows them."""
    if _announced(data) < 1:
        return None, 0
    start = 1 if data[0] < 0xA0 else 3 if data[0] == 0xDC else 5
    number, start = _unsigned(data, start)
    rid = _unsigned(data, start)[0] if _announced(data) > 1 else None
    return number, rid or 0


def _unsigned(data: bytes, start: int) -> tuple[int | None, int]:
    """The integer at `start` if it is one from 0 to 2**53 - 1, and where the next item begins (msgpack: int format family)."""
    first = data[start] if start < len(data) else 0xC1
    if first < 0x80:
        return first, start + 1
    if not 0xCC <= first <= 0xD3:
        return None, len(data)
    end = start + 1 + (1 << (first & 0x03))
    value = int.from_bytes(data[start + 1 : end], "big", signed=first >= 0xD0)
    return (value if end <= len(data) and 0 <= value < 2**53 else None), end


def _plain(text: str) -> str:
    return text.replace("`", "")
