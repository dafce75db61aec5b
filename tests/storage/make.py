"""Short ways to make records, and the names that the storage tests share."""

from __future__ import annotations

from collections.abc import Sequence

from protocol import ids
from storage import interfaces, records

ASHA, BEN, CARA = 11, 12, 13
PHONE, LAPTOP = 21, 22
DIRECT = ids.direct_stream(ASHA, BEN)
GROUP = ids.group_stream(PHONE, 1)
MESSAGE, ADDED, EDITED, REACTED = 1, 3, 32, 34

#: What an erased body looks like in these tests.
GONE = b"gone"


def redact(data: bytes) -> bytes:
    """Pure and idempotent, as `records.Redact` asks."""
    return data if data.startswith(GONE) else GONE + data[:1]


def event(data: bytes = b"hi", kind: int = MESSAGE, expires_at: int = 0, digest: int = 0) -> records.NewEvent:
    return records.NewEvent(kind, data, expires_at, digest)


def append(
    stream: bytes,
    first_seq: int,
    *events: records.NewEvent,
    epoch: int = 1,
    n: int | None = None,
    parts: Sequence[tuple[bytes, bytes | None]] = (),
    snapshot_seq: int | None = None,
    erase: Sequence[int] = (),
    members: Sequence[records.Membership] = (),
    mentions: Sequence[tuple[int, int]] = (),
) -> records.Append:
    """An append in a stream of messages alone (n = seq) unless `n` is given."""
    last = first_seq + len(events) - 1
    return records.Append(
        stream,
        epoch,
        first_seq,
        last if n is None else n,
        1_000 + last,
        events,
        parts,
        snapshot_seq,
        tuple(records.Erasure(seq, redact) for seq in erase),
        members,
        mentions,
    )


def member(user: int, stream: bytes, joined: int = 1, removed: int = records.OPEN_END) -> records.Membership:
    return records.Membership(user, stream, joined, removed)


def user(number: int, name: str, **fields: str | bytes | None) -> records.User:
    known: dict[str, object] = {"password": "$argon2id$", "issuer": None, "subject": None, "request": None, **fields}
    return records.User(id=number, name=name.title(), key=name, created=1_000, **known)  # type: ignore[arg-type]


def device(owner: int, number: int, seen: int = 1_000) -> records.Device:
    return records.Device(number, owner, f"device {number}", 1_000, seen)


def token(owner: int, number: int, digest: bytes, successor: bool = False) -> records.Token:
    return records.Token(digest.ljust(32, b"."), owner, number, 1_000, successor)


async def stored(store: interfaces.LogStore, *writes: records.Write) -> None:
    """Commit in one batch and see that all of it was stored."""
    outcomes = await store.commit(list(writes))
    assert [outcome.result for outcome in outcomes] == [records.Result.STORED] * len(writes), outcomes


async def devices(store: interfaces.AccountStore, owner: int, *numbers: int) -> None:
    """A user with these devices, all of them new."""
    await store.create_user(user(owner, f"user {owner}"))
    for number in numbers:
        await store.add_device(device(owner, number), token(owner, number, b"%d of %d" % (number, owner)))


async def results(store: interfaces.LogStore, *writes: records.Write) -> list[records.Result]:
    return [outcome.result for outcome in await store.commit(list(writes))]


async def answers(store: interfaces.LogStore, expected: Sequence[records.Result], *writes: records.Write) -> None:
    """Commit, see that each write ended as expected, and load the streams.

    A back end without compare-and-set may not know what another one refuses (`LogStore.commit`); what is seen after the load
    is the same."""
    found = await results(store, *writes)
    refusals = (records.Result.CONFLICT, records.Result.FENCED)
    unsure = [want in refusals and got is records.Result.UNKNOWN for want, got in zip(expected, found, strict=True)]
    assert [want if each else got for want, got, each in zip(expected, found, unsure, strict=True)] == list(expected)
    for stream in {write.stream for write in writes if isinstance(write, records.Append)}:
        await store.load(stream)


def healthy(store: interfaces.Store) -> bool:
    """What the store says of itself now (a type checker takes a property for something that stays)."""
    return store.healthy


async def whole(store: interfaces.LogStore, stream: bytes) -> list[tuple[int, bytes]]:
    """All of a stream as (seq, data)."""
    found = await store.range(stream, 1, 2**53 - 1, 2**31, 2**62)
    return [(event.seq, event.data) for event in found]
