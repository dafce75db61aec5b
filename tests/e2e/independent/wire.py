"""Bytes: msgpack, frames and batches, ids of streams, credentials, bodies."""

from __future__ import annotations

import secrets
from typing import Any

import msgpack

from tests.e2e.independent.tables import CREDENTIALS

SUBPROTOCOL = "kith.v1.msgpack"
LARGEST_MESSAGE = 1 << 20
"""Bytes that a client accepts in one WebSocket message."""

LARGEST_SENT = 65_536
"""Bytes of one WebSocket message to the server."""
FRAMES_A_BATCH = 4096
BATCH_HEADER = 5
HELD_FRAMES, HELD_BYTES = 64, 65_536
"""Frames, and their bytes, that may be sent between Hello and Welcome."""

MEMBER, ADMIN, OWNER = 1, 2, 3
URGENT, SILENT, EPHEMERAL, REQUEST = 1, 2, 4, 8
EVERYONE, CONTACTS, NOBODY = 1, 2, 3


def pack(value: Any) -> bytes:
    """One msgpack value."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes) -> Any:
    """One msgpack value; raises ValueError where it is none."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False)


def messages(frames: list[bytes]) -> list[bytes]:
    """Encoded frames in as few messages as the limits allow."""
    found: list[list[bytes]] = []
    size = LARGEST_SENT
    for frame in frames:
        size += len(frame)
        if size > LARGEST_SENT - BATCH_HEADER or len(found[-1]) == FRAMES_A_BATCH:
            found.append([])
            size = len(frame)
        found[-1].append(frame)
    return [batch(each) for each in found]


def batch(frames: list[bytes]) -> bytes:
    """Encoded frames in one message."""
    packer: bytes = msgpack.Packer().pack_array_header(len(frames))
    return packer + b"".join(frames)


def frames_of(message: bytes) -> list[list[Any]]:
    """The frames of one WebSocket message: it is one, or a batch of them."""
    value = unpack(message)
    assert isinstance(value, list), f"a message that is no array: {value!r}"
    return value if isinstance(value[0], list) else [value]


# --- streams ----------------------------------------------------------------------------------------------------------


def _seven(number: int) -> bytes:
    return number.to_bytes(7, "big")


def direct(one: int, other: int) -> bytes:
    """The conversation of two users, or the note to self."""
    return b"d" + _seven(min(one, other)) + _seven(max(one, other))


def group(device: int, counter: int) -> bytes:
    """The group that the command with `counter` of `device` makes."""
    return b"g" + _seven(device) + _seven(counter)


def account(user: int) -> bytes:
    """What concerns a user's own devices."""
    return b"a" + _seven(user)


# --- credentials and bodies -------------------------------------------------------------------------------------------


def request() -> bytes:
    """What makes the repeat of a log-in find what the first try made: keep it until a Welcome came."""
    return secrets.token_bytes(16)


def credential(kind: str, /, **values: Any) -> list[Any]:
    """A credential, as Hello carries it."""
    return CREDENTIALS.write(kind, values)


def text(words: str, *mentions: tuple[int, str]) -> list[Any]:
    """A text body; each mention is a user id and the first place where those words stand."""
    if not mentions:
        return [1, words]
    rows = [[user, len(words[: words.index(name)].encode()), len(name.encode())] for user, name in mentions]
    return [1, words, rows]
