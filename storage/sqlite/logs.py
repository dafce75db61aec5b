"""Reads of streams: what an owner loads, ranges, items and pages."""

from __future__ import annotations

from typing import Any

from storage import errors, records
from storage.sqlite import connection, rows

_AFTER_FOLDS = bytes([records.FOLD_PREFIX[0] + 1])
_RANGE = (
    "SELECT seq, kind, epoch, expires, digest, crc, data FROM events WHERE sid = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
)
_PAGE_UP = (
    "SELECT seq, kind, epoch, expires, digest, crc, data, item FROM events WHERE sid = ? AND seq BETWEEN ? AND ?"
    " ORDER BY seq LIMIT ?"
)
_PAGE_DOWN = (
    "SELECT seq, kind, epoch, expires, digest, crc, data, item FROM events WHERE sid = ? AND seq BETWEEN ? AND ?"
    " ORDER BY seq DESC LIMIT ?"
)

#: Events that one step of a page looks at, in multiples of the items asked for, before it jumps over a run of changes.
_STEP = 2


def load(conn: connection.Connection, stream: bytes, node_epoch: int) -> records.Loaded:
    """See `interfaces.LogStore.load`. There is nothing to seal: the one writer settles an unknown commit before its next."""
    row = conn.execute("SELECT sid, head, n, time, epoch, snapshot_seq FROM streams WHERE id = ?", (stream,)).fetchone()
    if row is None:
        return records.Loaded(stream, 0, 0, 0, node_epoch, 0, {}, [], [])
    sid, head, n, time, epoch, snapshot_seq = row
    found = conn.execute(
        "SELECT key, crc, data FROM parts WHERE sid = ?1 AND key < ?2"
        " UNION ALL SELECT key, crc, data FROM parts WHERE sid = ?1 AND key >= ?3",
        (sid, records.FOLD_PREFIX, _AFTER_FOLDS),
    ).fetchall()
    tail = rows.events(conn, stream, sid, snapshot_seq + 1, head, -1)
    if len(tail) != head - snapshot_seq:
        raise errors.Damaged(f"stream {stream.hex()} lacks events between {snapshot_seq} and its head {head}")
    return records.Loaded(
        stream,
        head,
        n,
        time,
        max(epoch, node_epoch),
        snapshot_seq,
        rows.parts(stream, found),
        tail,
        _marks(conn, stream, sid),
    )


def head(conn: connection.Connection, stream: bytes) -> int:
    """See `interfaces.LogStore.head`."""
    row = conn.execute("SELECT head FROM streams WHERE id = ?", (stream,)).fetchone()
    return int(row[0]) if row else 0


def events(
    conn: connection.Connection, stream: bytes, first: int, last: int, max_events: int, max_bytes: int
) -> list[records.Event]:
    """See `interfaces.LogStore.range`."""
    sid = rows.sid_of(conn, stream)
    cursor = conn.execute(_RANGE, (sid, first, last, max_events))
    taken: list[tuple[Any, ...]] = []
    total = 0
    for row in cursor:
        total += len(row[6])
        if total > max_bytes and taken:
            break
        taken.append(row)
    cursor.close()
    return rows.verified(stream, taken)


def item(conn: connection.Connection, stream: bytes, seq: int) -> records.Item | None:
    """See `interfaces.LogStore.item`."""
    sid = rows.sid_of(conn, stream)
    found = rows.events(conn, stream, sid, seq, seq, 1)
    return records.Item(found[0], rows.part(conn, stream, sid, records.fold_key(seq))) if found else None


def page(
    conn: connection.Connection, stream: bytes, first: int, last: int, newest_first: bool, max_items: int, max_bytes: int
) -> records.Page:
    """See `interfaces.LogStore.page`. Folds count towards max_bytes; at least one item is returned if one exists.

    A run of changes is not walked through: every row names the newest item up to itself (`item`), so going down the page
    jumps to it, and going up it looks for the first row that names another by halving what is left."""
    sid = rows.sid_of(conn, stream)
    result = records.Page()
    total = 0
    query = _PAGE_DOWN if newest_first else _PAGE_UP
    low, high = max(first, 1), last
    step = max(_STEP * max_items, 1)
    while low <= high:
        found = conn.execute(query, (sid, low, high, step)).fetchall()
        items = [row for row in found if row[1] < records.FIRST_CHANGE_KIND]
        folds = _folds(conn, stream, sid, [row[0] for row in items])
        for event in rows.verified(stream, items):
            fold = folds.get(event.seq)
            total += len(event.data) + len(fold or b"")
            if len(result.items) == max_items or (result.items and total > max_bytes):
                result.more = True
                return result
            result.items.append(records.Item(event, fold))
        if len(found) < step:
            break
        end, kind, named = found[-1][0], found[-1][1], found[-1][7]
        change = kind >= records.FIRST_CHANGE_KIND
        if newest_first:
            high = named if change else end - 1
        else:
            low = _next_item(conn, sid, end, high, named) if change else end + 1
    return result


def _folds(conn: connection.Connection, stream: bytes, sid: int, seqs: list[int]) -> dict[int, bytes]:
    """The folds of items that stand near each other."""
    if not seqs:
        return {}
    keys = records.fold_key(min(seqs)), records.fold_key(max(seqs))
    found = conn.execute("SELECT key, crc, data FROM parts WHERE sid = ? AND key BETWEEN ? AND ?", (sid, *keys)).fetchall()
    return {records.fold_seq(key): data for key, data in rows.parts(stream, found).items()}


def _next_item(conn: connection.Connection, sid: int, after: int, last: int, named: int) -> int:
    """The first seq in after+1..last whose row names a newer item than `named`, which is that item; last + 1 if none does."""
    row = conn.execute("SELECT max(seq) FROM events WHERE sid = ? AND seq <= ?", (sid, last)).fetchone()
    low, high = after + 1, row[0] + 1
    while low < high:
        middle = (low + high) // 2
        row = conn.execute("SELECT item FROM events WHERE sid = ? AND seq = ?", (sid, middle)).fetchone()
        if row is None:
            raise errors.Damaged(f"stream number {sid} lacks event {middle}")
        if row[0] > named:
            high = middle
        else:
            low = middle + 1
    return low


def parts(conn: connection.Connection, stream: bytes, prefix: bytes) -> dict[bytes, bytes]:
    """See `interfaces.LogStore.parts`."""
    sid = rows.sid_of(conn, stream)
    if not prefix:
        found = conn.execute("SELECT key, crc, data FROM parts WHERE sid = ?", (sid,))
    elif after := _after(prefix):
        found = conn.execute("SELECT key, crc, data FROM parts WHERE sid = ? AND key >= ? AND key < ?", (sid, prefix, after))
    else:
        found = conn.execute("SELECT key, crc, data FROM parts WHERE sid = ? AND key >= ?", (sid, prefix))
    return rows.parts(stream, found.fetchall())


def _after(prefix: bytes) -> bytes:
    """The least byte string above all that begin with `prefix`; b"" when there is none (the prefix is all 0xFF)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b""


def marks(conn: connection.Connection, stream: bytes) -> list[records.Mark]:
    """See `interfaces.LogStore.marks`."""
    return _marks(conn, stream, rows.sid_of(conn, stream))


def _marks(conn: connection.Connection, stream: bytes, sid: int) -> list[records.Mark]:
    found = conn.execute("SELECT user, delivered, read FROM marks WHERE sid = ? ORDER BY user", (sid,)).fetchall()
    return [records.Mark(stream, *row) for row in found]
