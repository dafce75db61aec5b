"""The change feed: which stretches of which streams each transaction appended."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from storage import errors, records
from storage.sqlite import connection, rows

#: A run is (sid, first seq, count), three unsigned 64-bit integers, little-endian.
_RUN = struct.Struct("<QQQ")

#: Feed rows forgotten in one transaction, so that trimming a year does not stop the commits behind it.
TRIM_ROWS = 1_000

#: Feed rows read in one step of a `changes` call.
_READ_ROWS = 64


def pack(runs: Sequence[tuple[int, int, int]]) -> bytes:
    """Runs (sid, first seq, count) as stored."""
    return b"".join([_RUN.pack(*run) for run in runs])


def unpack(packed: bytes) -> list[tuple[int, int, int]]:
    """The runs of one transaction; Damaged when the bytes are not whole runs."""
    if len(packed) % _RUN.size:
        raise errors.Damaged("a row of the change feed has a torn list of runs")
    return list(_RUN.iter_unpack(packed))


def changes(conn: connection.Connection, after: int, limit: int) -> list[records.Change]:
    """See `interfaces.ChangeFeed.changes`."""
    found: list[records.Change] = []
    row = conn.execute("SELECT max(position) FROM commits WHERE position <= ?", (after + 1,)).fetchone()
    start = row[0] or 0
    while len(found) < limit:
        commits = conn.execute(
            "SELECT position, runs FROM commits WHERE position >= ? ORDER BY position LIMIT ?", (start, _READ_ROWS)
        ).fetchall()
        for position, packed in commits:
            for sid, first, count in unpack(packed):
                skipped = min(max(after + 1 - position, 0), count)
                wanted = min(count - skipped, limit - len(found))
                if wanted > 0:
                    found += _run(conn, position + skipped, sid, first + skipped, wanted)
                position += count
            start = position
        if len(commits) < _READ_ROWS:
            break
    return found


def _run(conn: connection.Connection, position: int, sid: int, first: int, count: int) -> list[records.Change]:
    stream = rows.stream_of(conn, sid)
    events = rows.events(conn, stream, sid, first, first + count - 1, count)
    if len(events) != count:
        raise errors.Damaged(f"stream {stream.hex()} lacks events of {first}..{first + count - 1} that the feed names")
    return [records.Change(position + offset, stream, event.seq, event.kind, event.data) for offset, event in enumerate(events)]


def trim(conn: connection.Connection, before_time: int) -> int:
    """Forget at most TRIM_ROWS feed rows from before a time, oldest first; returns how many. The newest row always stays: the
    next position is counted from it."""
    return conn.execute(
        "DELETE FROM commits WHERE position IN (SELECT position FROM commits WHERE time < ?"
        " AND position < (SELECT max(position) FROM commits) ORDER BY position LIMIT ?)",
        (before_time, TRIM_ROWS),
    ).rowcount
