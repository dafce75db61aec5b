"""What is stored: plain records that every back end takes and returns.

Times are milliseconds since the epoch. A stream id is `bytes` (see `protocol.ids`). Sequence numbers start at 1; 0 means
"before the first". Event bytes are opaque here: a store checks and returns them, and never looks inside, except through
the one function that `Erasure` carries.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from protocol import ids

#: A membership interval that has not ended.
OPEN_END = 2**53 - 1

#: Event kinds below this number are items of a history page (messages, group changes); kinds from it on change an item
#: (edit, delete, reaction) or concern no page. A store keeps the kind beside the event so that pages skip without decoding.
FIRST_CHANGE_KIND = 32

#: The kind that `n` counts: what people send. So a store knows the n of every event of an append: that of the last is given.
MESSAGE_KIND = 1

#: First bytes of the ids of streams that stand in a conversation list (an account stream does not).
CONVERSATIONS = (ids.DIRECT, ids.GROUP)


def account_stream(user: int) -> bytes:
    """The stream of which a user is a member from the first moment on."""
    return ids.account_stream(user)


def checksum(stream: bytes, seq: int, data: bytes) -> int:
    """CRC-32 over (stream, seq as 8 bytes big-endian, data), so that a row that moved is found as surely as one that rotted."""
    return zlib.crc32(data, zlib.crc32(seq.to_bytes(8, "big"), zlib.crc32(stream)))


def part_checksum(stream: bytes, key: bytes, data: bytes) -> int:
    """CRC-32 over (stream, length of the key as 1 byte, key, data)."""
    return zlib.crc32(data, zlib.crc32(key, zlib.crc32(len(key).to_bytes(1, "big"), zlib.crc32(stream))))


# The records made once an event are not frozen: a frozen one takes three times as long to make.


@dataclass(slots=True)
class NewEvent:
    """One event to append. `expires_at` is 0 for one that never expires. `kind` as in `protocol.events`.

    `digest` (0 .. 2**63 - 1) is the keyed digest of the command that caused it; it is kept beside the event and never leaves
    the server. Erasure keeps it."""

    kind: int
    data: bytes
    expires_at: int = 0
    digest: int = 0


@dataclass(slots=True)
class Event:
    """One stored event. `data` is its opaque encoding, already verified against its checksum."""

    seq: int
    kind: int
    epoch: int
    data: bytes
    expires_at: int = 0
    digest: int = 0


@dataclass(slots=True, frozen=True)
class Membership:
    """`user` may read the closed interval [joined, removed] of `stream`; `removed` is OPEN_END while it lasts.

    A user who left and came back has one record per interval; (user, stream, joined) identifies it."""

    user: int
    stream: bytes
    joined: int
    removed: int = OPEN_END


#: Pure and idempotent: event bytes in, event bytes without any body out.
Redact = Callable[[bytes], bytes]


@dataclass(slots=True, frozen=True)
class Erasure:
    """Replace event `seq` by `redact(old data)`, in place, for ever (body gone; seq, kind, sender, time, counter kept).

    `redact` is pure and idempotent; the store recomputes the checksum. A seq that does not exist is not an error.
    The part `fold_key(seq)`, if there is one, is deleted with it unless the same append writes it anew."""

    seq: int
    redact: Redact


@dataclass(slots=True)
class Append:
    """One owner's change of one stream; atomic for its stream: all of it or nothing.

    `events` take the seqs first_seq, first_seq + 1, ... With no events it is a snapshot or another change of parts only, and
    `first_seq` is head + 1 as the owner knows it.
    `n` and `time` are those of the last event (of the head, when there are none).
    `parts` are named pieces of the stream's current state, replaced (bytes) or removed (None) together with the events.
    `snapshot_seq` says that the parts, with what stood there before, now form a whole snapshot as of this seq.
    `members` and `mentions` are other users' view of the stream. A back end that cannot write them in the same transaction
    keeps this order. Mentions go before the events: an index may name too much, never too little. Memberships say who may read
    what, so they are no mere index: a joining goes before the events (or `behind` would miss the stream), a removal after them
    (or a failed append would shut a member out), and either is marked as of this append until that is known to be stored. One
    so marked counts for `behind`; it admits nobody, and shuts nobody out, before its event is found in the stream; and the next
    `load` of the stream completes what a crash left out."""

    stream: bytes
    epoch: int
    first_seq: int
    n: int
    time: int
    events: Sequence[NewEvent] = ()
    parts: Sequence[tuple[bytes, bytes | None]] = ()
    snapshot_seq: int | None = None
    erase: Sequence[Erasure] = ()
    members: Sequence[Membership] = ()
    mentions: Sequence[tuple[int, int]] = ()  # (user, seq)


@dataclass(slots=True, frozen=True)
class Mark:
    """Watermarks of one user in one stream. Written by maximum: neither ever goes back."""

    stream: bytes
    user: int
    delivered: int
    read: int


@dataclass(slots=True, frozen=True)
class Cursor:
    """The highest seq of `stream` that `device` has acknowledged. Written by maximum; no effect where the device is not stored
    (any more)."""

    user: int
    device: int
    stream: bytes
    seq: int


@dataclass(slots=True, frozen=True)
class LastSeen:
    """When a user (and the device that was there) was last connected. Written by maximum."""

    user: int
    device: int
    time: int


Write = Append | Mark | Cursor | LastSeen


class Result(Enum):
    """How one write of a commit ended."""

    STORED = "stored"  # durable
    CONFLICT = "conflict"  # definitely not stored: other events stand at these seqs, or the head is elsewhere
    FENCED = "fenced"  # definitely not stored: a newer epoch owns the stream
    FAILED = "failed"  # definitely not stored: disk full, locked, damaged; may work later
    UNKNOWN = "unknown"  # may or may not be stored, now or a little later


@dataclass(slots=True, frozen=True)
class Outcome:
    result: Result
    reason: str = ""


STORED = Outcome(Result.STORED)


@dataclass(slots=True, frozen=True)
class Loaded:
    """All that an owner needs to go on: the newest snapshot and every event after it.

    `epoch` is the one that the owner who loads holds from now on and appends with (see `interfaces.LogStore.load`).
    `parts` holds the parts whose key does not start with FOLD_PREFIX. head = 0: the stream is new."""

    stream: bytes
    head: int
    n: int
    time: int
    epoch: int
    snapshot_seq: int
    parts: dict[bytes, bytes]
    tail: list[Event]
    marks: list[Mark]


#: Parts with this prefix hold the folded state (edits, reactions) of one item; they are read with pages, not with `load`.
FOLD_PREFIX = b"f"


def fold_key(seq: int) -> bytes:
    """The key of the part that holds the folded state of item `seq`; sorts as the seq does."""
    return FOLD_PREFIX + seq.to_bytes(7, "big")


def fold_seq(key: bytes) -> int:
    """The item that a key made by `fold_key` speaks of."""
    return int.from_bytes(key[len(FOLD_PREFIX) :], "big")


@dataclass(slots=True, frozen=True)
class Item:
    """One item of a history page: the event as stored now, and the fold of what later events did to it (None: nothing)."""

    event: Event
    fold: bytes | None


@dataclass(slots=True, frozen=True)
class Behind:
    """A stream in which a device has events to come: its cursor, the head (the last readable
    seq, for one who was removed), and the intervals [(joined, removed)] it may read that end beyond the cursor: who comes and
    goes often has many, and a device needs those alone."""

    stream: bytes
    cursor: int
    head: int
    intervals: tuple[tuple[int, int], ...]


@dataclass(slots=True, frozen=True)
class Summary:
    """One row of a user's conversation list, as of what is durable.

    For one who was removed, `head` and `n` are those of the last readable seq, and `time` is 0 (that of `last` is in its
    bytes): of what came after, not even the count is told. `read` is the stored mark; `read_n` is the n at that mark, or at
    the seq before the last joining if that is later, so unread = n - read_n counts nothing from before. The owner of the
    stream writes the mark for own sends. `mentions` counts the user's mentions beyond the same place. `last` is the newest
    item the user may read, if any."""

    stream: bytes
    head: int
    n: int
    time: int
    intervals: tuple[tuple[int, int], ...]
    delivered: int
    read: int
    read_n: int
    mentions: int
    last: Item | None


@dataclass(slots=True, frozen=True)
class Change:
    """One committed event in the change feed. `position` is a token to ask on from, of a meaning to its store alone."""

    position: bytes
    stream: bytes
    seq: int
    kind: int
    data: bytes


@dataclass(slots=True, frozen=True)
class User:
    """An account. `key` is the PRECIS-prepared, case-folded name that is unique; None for a deleted account.

    Either `password` (an Argon2id hash) or (`issuer`, `subject`) is set, never both empty for a living account.
    `request` is the digest of the registration that made it, so that a repeated registration finds it."""

    id: int
    name: str
    key: str | None
    password: str | None
    issuer: str | None
    subject: str | None
    created: int
    request: bytes | None = None


@dataclass(slots=True, frozen=True)
class Device:
    id: int
    user: int
    name: str
    created: int
    last_seen: int


@dataclass(slots=True, frozen=True)
class Token:
    """An opaque device token, stored as its SHA-256. `successor` marks one that was issued to replace an older one of the
    same device and has not been used yet; its first use removes the older."""

    digest: bytes
    user: int
    device: int
    created: int
    successor: bool = False


@dataclass(slots=True, frozen=True)
class Code:
    """A one-time or counted code (invitation, password reset), stored as its SHA-256."""

    digest: bytes
    purpose: str  # "invite" | "reset"
    user: int  # resets: whose; invite: who issued it (0: the operator)
    uses: int
    expires_at: int  # 0: never


@dataclass(slots=True, frozen=True)
class Taken:
    """One use of a code: the code with the uses that were left behind it, and the note that its taker left."""

    code: Code
    note: bytes


@dataclass(slots=True)
class Page:
    """Items in the order asked for, and whether more follow in that direction."""

    items: list[Item] = field(default_factory=list)
    more: bool = False


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that is wrong with what is stored. `where` is a table, or a stream id in hexadecimal with a seq or a key."""

    where: str
    what: str
