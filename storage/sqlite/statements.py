"""Many rows in one step of the database engine.

The driver gives up the interpreter's lock around every step. A row at a time (`executemany`) a batch of a hundred rows gives
it up two hundred times, and beside a busy event loop each time may cost a whole switch interval: measured, 790 ms for such a
batch against 23 ms. So rows are written by statements of 1, 2, 4 .. 128 rows. OR FAIL spares the statement journal that OR
ABORT would keep (half the cost of an insert); what a failed statement leaves is undone by the transaction it stands in.
"""

from __future__ import annotations

from typing import Any

from storage.sqlite import connection

#: The longest statement, in rows. 128 rows of 10 values stay far below the 32,766 variables a statement may have.
MOST_ROWS = 128


class Rows:
    """One SQL statement that takes any number of rows of `width` values."""

    __slots__ = ("_texts", "width")

    def __init__(self, before: str, width: int, after: str = "") -> None:
        row = "(" + ",".join("?" * width) + ")"
        self.width = width
        self._texts: list[tuple[int, str]] = []
        size = MOST_ROWS
        while size:
            self._texts.append((size, f"{before} VALUES {','.join([row] * size)} {after}"))
            size //= 2

    def run(self, conn: connection.Connection, flat: list[Any]) -> None:
        """Execute for the rows laid end to end in `flat`, in order."""
        width = self.width
        start, left = 0, len(flat) // width
        for size, text in self._texts:
            while left >= size:
                end = start + size * width
                conn.execute(text, flat[start:end])
                start, left = end, left - size


EVENTS = Rows("INSERT OR FAIL INTO events (sid, seq, kind, n, item, epoch, crc, expires, digest, data)", 10)
HEADS = Rows(
    "UPDATE OR FAIL streams SET head = v.column2, n = v.column3, item = v.column4, time = v.column5, epoch = v.column6,"
    " snapshot_seq = v.column7 FROM (",
    7,
    ") AS v WHERE sid = v.column1",
)
PARTS = Rows("INSERT OR REPLACE INTO parts (sid, key, crc, data)", 4)
MEMBERSHIPS = Rows(
    "INSERT OR FAIL INTO memberships (user, sid, joined, removed)",
    4,
    "ON CONFLICT (user, sid, joined) DO UPDATE SET removed = excluded.removed",
)
MENTIONS = Rows("INSERT OR IGNORE INTO mentions (user, sid, seq)", 3)
MARKS = Rows(
    "INSERT OR FAIL INTO marks (sid, user, delivered, read)",
    4,
    "ON CONFLICT (sid, user) DO UPDATE SET delivered = max(delivered, excluded.delivered), read = max(read, excluded.read)",
)
#: Those of devices that are gone by now are passed over: nobody would ever drop them.
CURSORS = Rows(
    "INSERT OR FAIL INTO cursors (user, device, sid, seq) SELECT * FROM (",
    4,
    ") AS v WHERE EXISTS (SELECT 1 FROM devices WHERE user = v.column1 AND id = v.column2)"
    " ON CONFLICT (user, device, sid) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > seq",
)
USERS_SEEN = Rows("UPDATE OR FAIL users SET last_seen = max(last_seen, v.column2) FROM (", 2, ") AS v WHERE id = v.column1")
DEVICES_SEEN = Rows(
    "UPDATE OR FAIL devices SET last_seen = max(last_seen, v.column3) FROM (",
    3,
    ") AS v WHERE user = v.column1 AND id = v.column2",
)
