"""What one user's devices have and lack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from storage import errors, records
from storage.sqlite import connection, ledger, rows

_BEHIND = """
SELECT s.id, s.head, m.joined, m.removed, c.seq, min(s.head, m.removed) > coalesce(c.seq, m.joined - 1)
FROM memberships AS m
CROSS JOIN streams AS s ON s.sid = m.sid
LEFT JOIN cursors AS c ON c.user = m.user AND c.device = ?2 AND c.sid = m.sid
WHERE m.user = ?1 AND m.removed > coalesce(c.seq, 0) AND (s.head > coalesce(c.seq, m.joined - 1) OR m.removed < ?3)
"""

_CONVERSATIONS = """
SELECT s.id, s.sid, s.head, s.n, s.time, m.joined, m.removed
FROM memberships AS m CROSS JOIN streams AS s ON s.sid = m.sid
WHERE m.user = ? AND s.id > ? AND substr(s.id, 1, 1) IN (?, ?)
ORDER BY s.id, m.joined
"""


def memberships(conn: connection.Connection, user: int, stream: bytes) -> tuple[tuple[int, int], ...]:
    """See `interfaces.InboxStore.memberships`."""
    found = conn.execute(
        "SELECT joined, removed FROM memberships WHERE user = ? AND sid = ? ORDER BY joined",
        (user, rows.sid_of(conn, stream)),
    )
    return tuple(found.fetchall())


def behind(conn: connection.Connection, user: int, device: int) -> list[records.Behind]:
    """See `interfaces.InboxStore.behind`. One walk through the user's memberships, one look at each head and cursor.

    Closed intervals that end beyond the cursor come along, so that a stream in question is named with all of them."""
    if conn.execute("SELECT 1 FROM devices WHERE user = ? AND id = ?", (user, device)).fetchone() is None:
        raise errors.NoSuch(f"user {user} has no device {device}")
    lacking: dict[bytes, list[tuple[Any, ...]]] = {}
    for row in conn.execute(_BEHIND, (user, device, records.OPEN_END)).fetchall():
        lacking.setdefault(row[0], []).append(row)
    found = []
    for stream, intervals in lacking.items():
        if any(row[5] for row in intervals):
            _, head, joined, _, cursor, _ = intervals[0]
            cursor = joined - 1 if cursor is None else cursor
            readable = min(head, max(row[3] for row in intervals))
            found.append(records.Behind(stream, cursor, readable, tuple((row[2], row[3]) for row in intervals)))
    return found


def conversations(conn: connection.Connection, user: int, after: bytes, limit: int) -> list[records.Summary]:
    """See `interfaces.InboxStore.conversations`."""
    grouped: dict[bytes, list[tuple[Any, ...]]] = {}
    for row in conn.execute(_CONVERSATIONS, (user, after, *records.CONVERSATIONS)):
        if row[0] not in grouped and len(grouped) == limit:
            break
        grouped.setdefault(row[0], []).append(row[1:])
    return [_summary(conn, user, stream, intervals) for stream, intervals in grouped.items()]


def _summary(conn: connection.Connection, user: int, stream: bytes, intervals: list[tuple[Any, ...]]) -> records.Summary:
    """The conversation as the user may see it: of what came after a removal not even the count."""
    sid, head, n, time, joined, removed = intervals[-1]
    if removed < head:
        head, time = removed, 0
        n = _n(conn, sid, head)
    delivered, read = conn.execute("SELECT delivered, read FROM marks WHERE sid = ? AND user = ?", (sid, user)).fetchone() or (
        0,
        0,
    )
    seen = max(read, joined - 1)
    mentions = conn.execute(
        "SELECT count(*) FROM mentions WHERE user = ? AND sid = ? AND seq > ? AND seq <= ?", (user, sid, seen, head)
    ).fetchone()[0]
    return records.Summary(
        stream=stream,
        head=head,
        n=n,
        time=time,
        intervals=tuple((row[4], row[5]) for row in intervals),
        delivered=delivered,
        read=read,
        read_n=n if seen >= head else _n(conn, sid, seen),
        mentions=mentions,
        last=_last(conn, stream, sid, head, ((row[4], row[5]) for row in intervals)),
    )


def _n(conn: connection.Connection, sid: int, seq: int) -> int:
    row = conn.execute("SELECT n FROM events WHERE sid = ? AND seq = ?", (sid, seq)).fetchone()
    return int(row[0]) if row else 0


def _last(
    conn: connection.Connection, stream: bytes, sid: int, head: int, intervals: Iterable[tuple[int, int]]
) -> records.Item | None:
    """The newest item inside the user's intervals."""
    for joined, removed in sorted(intervals, reverse=True):
        row = conn.execute("SELECT item FROM events WHERE sid = ? AND seq = ?", (sid, min(head, removed))).fetchone()
        if row and row[0] >= joined:
            event = rows.events(conn, stream, sid, row[0], row[0], 1)[0]
            return records.Item(event, rows.part(conn, stream, sid, records.fold_key(row[0])))
    return None


def read_mentions(conn: connection.Connection, limit: int) -> list[tuple[int, int, int]]:
    """Mentions (user, sid, seq) that their user has read: no count looks at them again."""
    return conn.execute(
        "SELECT n.user, n.sid, n.seq FROM mentions AS n JOIN marks AS m ON m.sid = n.sid AND m.user = n.user"
        " WHERE n.seq <= m.read LIMIT ?",
        (limit,),
    ).fetchall()


def drop_mentions(book: ledger.Ledger, read: list[tuple[int, int, int]]) -> None:
    """Forget these."""
    book.conn.executemany("DELETE FROM mentions WHERE user = ? AND sid = ? AND seq = ?", read)
