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


#: A position: the store's incarnation, for a restored one counts on from an earlier number, and the number of a change.
_POSITION = struct.Struct(">QQ")


def changes(conn: connection.Connection, position: bytes, limit: int, incarnation: int) -> list[records.Change]:
    """See `interfaces.ChangeFeed.changes`. Here the numbers of changes rise over all streams together."""
    of, after = _POSITION.unpack(position) if position else (incarnation, 0)
    kept = conn.execute("SELECT position FROM commits ORDER BY position LIMIT 1").fetchone() or (1,)
    end = conn.execute("SELECT position + count FROM commits ORDER BY position DESC LIMIT 1").fetchone() or (1,)
    if of != incarnation:
        raise errors.Trimmed("the store was set back since that position was given out")
    if position and not kept[0] <= after + 1 <= end[0]:
        raise errors.Trimmed(f"the feed holds the changes {kept[0]}..{end[0] - 1}, and was asked for what follows {after}")
    found: list[records.Change] = []
    row = conn.execute("SELECT max(position) FROM commits WHERE position <= ?", (after + 1,)).fetchone()
    start = row[0] or 0
    while len(found) < limit:
        commits = conn.execute(
            "SELECT position, runs FROM commits WHERE position >= ? ORDER BY position LIMIT ?", (start, _READ_ROWS)
        ).fetchall()
        for first_position, packed in commits:
            at = first_position
            for sid, first, count in unpack(packed):
                skipped = min(max(after + 1 - at, 0), count)
                wanted = min(count - skipped, limit - len(found))
                if wanted > 0:
                    stream = rows.stream_of(conn, sid)
                    for number, event in enumerate(_run(conn, stream, sid, first + skipped, wanted), at + skipped):
                        token = _POSITION.pack(incarnation, number)
                        found.append(records.Change(token, stream, event.seq, event.kind, event.data))
                at += count
            start = at
        if len(commits) < _READ_ROWS:
            break
    return found


def _run(conn: connection.Connection, stream: bytes, sid: int, first: int, count: int) -> list[records.Event]:
    events = rows.events(conn, stream, sid, first, first + count - 1, count)
    if len(events) != count:
        raise errors.Damaged(f"stream {stream.hex()} lacks events of {first}..{first + count - 1} that the feed names")
    return events


def trim(conn: connection.Connection, before_time: int) -> int:
    """Forget at most TRIM_ROWS feed rows from before a time, oldest first; returns how many. The newest row always stays: the
    next position is counted from it."""
    return conn.execute(
        "DELETE FROM commits WHERE position IN (SELECT position FROM commits WHERE time < ?"
        " AND position < (SELECT max(position) FROM commits) ORDER BY position LIMIT ?)",
        (before_time, TRIM_ROWS),
    ).rowcount
