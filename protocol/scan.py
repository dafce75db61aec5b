"""A look through msgpack bytes that builds nothing of what they say.

To make objects of a stranger's bytes is to let the stranger choose the keys of a dict: an array that is a key becomes a tuple,
whose hash can be foreseen, and a few thousand keys of one hash take a tenth of a second. The look goes on item by item without
recursion; what it costs is bounded by the number of values that it is told to look at.
"""

from __future__ import annotations

#: Levels of arrays and maps in a body, the body itself included. A body is stored and relayed as it is, to programs whose
#: decoders have limits of their own, so it must not be as deep as this one happens to bear.
MAX_DEPTH = 16
#: Values that are looked at, arrays and maps and what is in them: about 0.2 ms of work. The largest text with all its mentions
#: has 260.
MAX_VALUES = 1024

_PLAIN, _TEXT, _ARRAY, _MAP, _NONE = range(5)


class TooBig(Exception):
    """Nesting beyond what any frame has, or a length announced that no message has room for."""


class TooMany(Exception):
    """More than MAX_VALUES values."""


class Unfit(Exception):
    """Not one whole msgpack value of UTF-8 text and keys that everybody can read. The text says what is wrong."""


def _form(byte: int) -> tuple[int, int, int]:
    """What a first byte begins, by the formats of the msgpack specification: a form; how many bytes of length, or of count,
    follow; and what is added to that."""
    if byte < 0x80 or byte >= 0xE0 or byte in (0xC0, 0xC2, 0xC3):  # small integers, nil, false, true
        return _PLAIN, 0, 0
    if byte < 0x90:
        return _MAP, 0, byte & 0x0F
    if byte < 0xA0:
        return _ARRAY, 0, byte & 0x0F
    if byte < 0xC0:
        return _TEXT, 0, byte & 0x1F
    if 0xC4 <= byte <= 0xC6:  # bin
        return _PLAIN, 1 << (byte - 0xC4), 0
    if 0xC7 <= byte <= 0xC9:  # ext: a byte of type follows the length
        return _PLAIN, 1 << (byte - 0xC7), 1
    if 0xCA <= byte <= 0xCB:  # float
        return _PLAIN, 0, 4 << (byte - 0xCA)
    if 0xCC <= byte <= 0xD3:  # uint, int
        return _PLAIN, 0, 1 << (byte & 0x03)
    if 0xD4 <= byte <= 0xD8:  # fixext: a byte of type first
        return _PLAIN, 0, 1 + (1 << (byte - 0xD4))
    if 0xD9 <= byte <= 0xDB:
        return _TEXT, 1 << (byte - 0xD9), 0
    if 0xDC <= byte <= 0xDD:
        return _ARRAY, 2 << (byte - 0xDC), 0
    if 0xDE <= byte <= 0xDF:
        return _MAP, 2 << (byte - 0xDE), 0
    return _NONE, 0, 0  # 0xC1


_FORMS = tuple(map(_form, range(256)))


def check(data: bytes, room: int) -> None:
    """Whether this is one whole value that may be relayed. Unfit, TooBig, TooMany; of several faults, the first. What ends
    early is Unfit, but TooBig if it would not end within `room` bytes."""
    end = len(data)
    at = values = 0
    # Of the array or map that is being read: values still to come, and whether every second one is a key. Of those around it:
    above: list[tuple[int, bool]] = []
    left, is_map = 1, False
    while True:
        while not left:
            if not above:
                if at < end:
                    raise Unfit("bytes behind the value")
                return
            left, is_map = above.pop()
        values += 1
        if values > MAX_VALUES:
            raise TooMany
        form, width, size = _FORMS[data[at]] if at < end else (_NONE, 0, 0)
        if form == _NONE:
            raise Unfit("it ends early" if at >= end else "no msgpack")
        at += 1
        if width:
            size += int.from_bytes(data[at : at + width], "big")
            at += width
            if at > end:
                raise Unfit("it ends early")
        if form == _MAP:
            size *= 2
        if at + size > room:
            raise TooBig
        if form in (_ARRAY, _MAP):
            if is_map and not left & 1:
                raise Unfit("an array or a map as a key")
            if len(above) == MAX_DEPTH:
                raise TooBig
            above.append((left - 1, is_map))
            left, is_map = size, form == _MAP
            continue
        if at + size > end:
            raise Unfit("it ends early")
        if form == _TEXT:
            try:
                data[at : at + size].decode()
            except UnicodeDecodeError:
                raise Unfit("text that is not UTF-8") from None
        at += size
        left -= 1
