"""Identifiers of users, devices and streams.

Users and devices are integers 1 .. 2**53 - 1, drawn at random, so that every language's number type holds them.
A stream id is a short byte string that says what it is; nothing needs a table to read it:

    direct   b"d" + lower user id + higher user id     15 bytes  (both equal: the note to self)
    group    b"g" + creating device id + its counter   15 bytes  (so a repeated create finds the first group)
    account  b"a" + user id                             8 bytes

Every integer stands as 7 bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

#: The largest integer that JavaScript, Lua and every IEEE 754 double hold exactly.
MAX_ID = 2**53 - 1
_WIDTH = 7

DIRECT = b"d"
GROUP = b"g"
ACCOUNT = b"a"


class Kind(IntEnum):
    """The kinds of stream; the value is the first byte of the stream id."""

    DIRECT = DIRECT[0]
    GROUP = GROUP[0]
    ACCOUNT = ACCOUNT[0]


_KINDS = {DIRECT: Kind.DIRECT, GROUP: Kind.GROUP, ACCOUNT: Kind.ACCOUNT}
_LENGTH = {Kind.DIRECT: 1 + 2 * _WIDTH, Kind.GROUP: 1 + 2 * _WIDTH, Kind.ACCOUNT: 1 + _WIDTH}


_LOWEST = (1).to_bytes(_WIDTH, "big")
_HIGHEST = MAX_ID.to_bytes(_WIDTH, "big")


class BadStream(ValueError):
    """The bytes are no stream id."""


def _pack(kind: bytes, *numbers: int) -> bytes:
    for number in numbers:
        if not 0 < number <= MAX_ID:
            raise ValueError(f"id {number} is outside 1..2**53-1")
    return kind + b"".join(number.to_bytes(_WIDTH, "big") for number in numbers)


def direct_stream(one: int, other: int) -> bytes:
    """The stream of the two users, whoever asks."""
    return _pack(DIRECT, one, other) if one <= other else _pack(DIRECT, other, one)


def group_stream(device: int, counter: int) -> bytes:
    """The stream of the group that `device` creates with its command `counter`."""
    return _pack(GROUP, device, counter)


def account_stream(user: int) -> bytes:
    """The stream of what concerns only the user's own devices."""
    return _pack(ACCOUNT, user)


def kind(stream: bytes) -> Kind:
    """What the stream is; BadStream if it is none that this server makes."""
    found = _KINDS.get(stream[:1])
    if found is None:
        raise BadStream("unknown kind of stream")
    if len(stream) != _LENGTH[found]:
        raise BadStream("a stream id of the wrong length")
    first, second = stream[1:8], stream[8:]  # big-endian bytes compare as their numbers do
    if not _LOWEST <= first <= _HIGHEST or (second and not _LOWEST <= second <= _HIGHEST):
        raise BadStream("a number in the stream id is outside 1..2**53-1")
    if found is Kind.DIRECT and first > second:
        raise BadStream("a direct stream names its lower user first")
    return found


def _number(stream: bytes, index: int) -> int:
    start = 1 + index * _WIDTH
    return int.from_bytes(stream[start : start + _WIDTH], "big")


def parties(stream: bytes) -> tuple[int, int]:
    """The two users of a direct stream, lower id first."""
    return _number(stream, 0), _number(stream, 1)


def owner(stream: bytes) -> int:
    """The user of an account stream."""
    return _number(stream, 0)


def creator(stream: bytes) -> tuple[int, int]:
    """The (device, counter) that created a group stream."""
    return _number(stream, 0), _number(stream, 1)


def new_id(random_bits: Callable[[int], int]) -> int:
    """Draw a user or device id. `random_bits(k)` gives k random bits, as `secrets.randbits` does."""
    return random_bits(53) or 1
