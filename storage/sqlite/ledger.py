"""A batch of writes inside one open transaction: who is fenced, what is a repeat, what is out of place, and the rows.

The ledger lives on the writer's thread and is the only one that writes streams, so it may remember their heads. On the fast
path an append costs no SELECT and no statement of its own: its rows join those of the whole batch, which are written in a few
steps at the end. An exception out of any method means: roll back, then `forget`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from typing import Any

from storage import records
from storage.sqlite import connection, feed, statements

#: Streams whose heads are remembered; about 350 bytes each. The oldest go first; one that is met again costs one SELECT.
MOST_HEADS = 16_384

_REPEAT = records.STORED
#: Its first_seq may even fit, when somebody else's events took those seqs.
_BROKEN = records.Outcome(records.Result.CONFLICT, "what it builds on was not stored")
_MESSAGE = records.MESSAGE_KIND
_CHANGE = records.FIRST_CHANGE_KIND


class Head:
    """What stands at the end of one stream. `first` is the seq of the first event that the running batch adds, or 0."""

    __slots__ = ("crc", "epoch", "first", "head", "item", "n", "sid", "snapshot_seq", "time", "touched")

    def __init__(self, stream: bytes, sid: int, head: int, n: int, item: int, time: int, epoch: int, snapshot_seq: int) -> None:
        self.crc = zlib.crc32(stream)
        self.sid = sid
        self.head = head
        self.n = n
        self.item = item
        self.time = time
        self.epoch = epoch
        self.snapshot_seq = snapshot_seq
        self.first = 0
        self.touched = False


class Pending:
    """What a batch will write, gathered so that each table is written once. Later writes of one row win or grow it."""

    __slots__ = ("cursors", "events", "heads", "marks", "members", "mentions", "parts", "seen")

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.heads: list[Head] = []
        self.parts: dict[tuple[int, bytes], tuple[int, bytes] | None] = {}
        self.members: dict[tuple[int, int, int], int] = {}
        self.mentions: list[int] = []
        self.marks: dict[tuple[int, int], tuple[int, int]] = {}
        self.cursors: dict[tuple[int, int, int], int] = {}
        self.seen: dict[tuple[int, int], int] = {}


class Ledger:
    """The writes of one writer connection. Every call belongs inside a transaction that the caller begins and ends."""

    def __init__(self, conn: connection.Connection) -> None:
        self.conn = conn
        self.erased = False  # bodies were taken out since the writer last asked
        self._counted = False  # and `meta` says so in the running transaction
        self._heads: dict[bytes, Head] = {}
        self._position = 0  # of the next change; 0: not read yet
        self._feed_time = 0

    def forget(self) -> None:
        """What was remembered may be wrong: a transaction was rolled back, or somebody else's was."""
        self._heads.clear()
        self._position = 0
        self._counted = False

    def ended(self) -> bool:
        """The transaction was committed: says whether it erased bodies, which `erasures` has to know."""
        erased, self.erased, self._counted = self.erased, False, False
        return erased

    def commit(self, batch: Sequence[records.Write]) -> list[records.Outcome]:
        """Apply a batch in order. Fences, conflicts and repeats are outcomes; whatever raises spoils the transaction."""
        pending = Pending()
        outcomes = []
        broken: set[bytes] = set()
        for write in batch:
            if isinstance(write, records.Append):
                outcome = self._append(write, pending) if write.stream not in broken else _BROKEN
                if outcome.result is not records.Result.STORED:
                    broken.add(write.stream)
                outcomes.append(outcome)
                continue
            self._note(write, pending)
            outcomes.append(records.STORED)
        self._flush(pending)
        while len(self._heads) > MOST_HEADS:
            del self._heads[next(iter(self._heads))]
        return outcomes

    def commit_apart(self, batch: Sequence[records.Write]) -> list[records.Outcome]:
        """Apply a batch stream by stream, each behind its own savepoint, so that what is wrong with one hurts no other.

        Raises only what concerns them all (disk, locks, memory)."""
        outcomes: list[records.Outcome] = [records.STORED] * len(batch)
        groups: dict[object, list[int]] = {}
        for place, write in enumerate(batch):
            key = write.user if isinstance(write, records.LastSeen) else write.stream
            groups.setdefault(key, []).append(place)
        for places in groups.values():
            self.conn.execute("SAVEPOINT stream")
            try:
                found = self.commit([batch[place] for place in places])
            except Exception as error:
                if connection.of_surroundings(error) or not self.conn.in_transaction:
                    raise
                self.conn.execute("ROLLBACK TO stream")
                self.forget()
                reason = f"{type(error).__name__}: {error}"
                found = [records.Outcome(records.Result.FAILED, reason)] * len(places)
            self.conn.execute("RELEASE stream")
            for place, outcome in zip(places, found, strict=True):
                outcomes[place] = outcome
        return outcomes

    def head(self, stream: bytes) -> Head:
        """The stream's head, remembered or read; a stream that was never written is entered at head 0."""
        found = self._heads.get(stream)
        if found is None:
            row = self.conn.execute(
                "SELECT sid, head, n, item, time, epoch, snapshot_seq FROM streams WHERE id = ?", (stream,)
            ).fetchone()
            if row is None:
                sid = self.conn.execute("INSERT INTO streams (id) VALUES (?)", (stream,)).lastrowid
                row = (sid, 0, 0, 0, 0, 0, 0)
            found = self._heads[stream] = Head(stream, *row)
        return found

    def _append(self, write: records.Append, pending: Pending) -> records.Outcome:
        head = self._heads.get(write.stream) or self.head(write.stream)
        epoch = write.epoch
        if epoch < head.epoch:
            return records.Outcome(records.Result.FENCED, f"epoch {head.epoch} owns the stream")
        if write.first_seq != head.head + 1:
            return self._repeat(write, head, pending)
        if not head.touched:
            head.touched = True
            pending.heads.append(head)
        if write.events:
            self._add(write, head, pending.events)
        head.n = write.n
        head.time = write.time
        head.epoch = epoch
        if write.snapshot_seq is not None:
            head.snapshot_seq = write.snapshot_seq
        if write.erase:
            self._events(pending)
            for erasure in write.erase:
                self.erase(write.stream, head.sid, erasure.seq, erasure.redact)
                pending.parts[head.sid, records.fold_key(erasure.seq)] = None
        for key, data in write.parts:
            if data is not None and key[:1] == records.FOLD_PREFIX and self._came_too_late(key, write, head):
                data = None
            pending.parts[head.sid, key] = None if data is None else (records.part_checksum(write.stream, key, data), data)
        for member in write.members:
            sid = head.sid if member.stream == write.stream else self.head(member.stream).sid
            pending.members[member.user, sid, member.joined] = member.removed
        for user, seq in write.mentions:
            pending.mentions += (user, head.sid, seq)
        return records.STORED

    def _came_too_late(self, key: bytes, write: records.Append, head: Head) -> bool:
        """Whether this is the fold of an event that has expired and is erased (see `erase`), though not by this append."""
        seq = records.fold_seq(key)
        if any(erasure.seq == seq for erasure in write.erase):
            return False
        row = self.conn.execute("SELECT 1 FROM events WHERE sid = ? AND seq = ? AND expires < 0", (head.sid, seq)).fetchone()
        return row is not None

    @staticmethod
    def _add(write: records.Append, head: Head, into: list[Any]) -> None:
        """Lay the append's events out as rows. Their n is counted back from that of the last one."""
        events = write.events
        seq, item, prefix = head.head, head.item, head.crc
        n = write.n
        for event in events:
            if event.kind == _MESSAGE:
                n -= 1
        if not head.first:
            head.first = seq + 1
        for event in events:
            seq += 1
            kind = event.kind
            if kind < _CHANGE:
                item = seq
                if kind == _MESSAGE:
                    n += 1
            data = event.data
            crc = zlib.crc32(data, zlib.crc32(seq.to_bytes(8, "big"), prefix))
            into += (head.sid, seq, kind, n, item, write.epoch, crc, event.expires_at, event.digest, data)
        head.head = seq
        head.item = item

    def _repeat(self, write: records.Append, head: Head, pending: Pending) -> records.Outcome:
        """Events for other seqs than the next: they stand there already, byte for byte, or they are out of place.

        An event that the append itself erases stands there erased. One that somebody else has erased meanwhile is other bytes
        and a conflict: the owner loads the stream again and finds by its counter that the command was taken."""
        wanted = [bytes(event.data) for event in write.events]
        for erasure in write.erase:
            if 0 <= erasure.seq - write.first_seq < len(wanted):
                wanted[erasure.seq - write.first_seq] = erasure.redact(wanted[erasure.seq - write.first_seq])
        last = write.first_seq + len(wanted) - 1
        if wanted and write.first_seq > 0 and last <= head.head:
            self._events(pending)
            found = self.conn.execute(
                "SELECT data FROM events WHERE sid = ? AND seq BETWEEN ? AND ? ORDER BY seq",
                (head.sid, write.first_seq, last),
            ).fetchall()
            if [row[0] for row in found] == wanted:
                if write.epoch > head.epoch:
                    head.epoch = write.epoch
                    if not head.touched:
                        head.touched = True
                        pending.heads.append(head)
                return _REPEAT
        return records.Outcome(records.Result.CONFLICT, f"the head is {head.head}")

    def erase(self, stream: bytes, sid: int, seq: int, redact: records.Redact) -> None:
        """Take the body out of one stored event. An expiry that lay ahead is marked as done (negative).

        Of a row whose checksum is wrong nothing can be redacted: all its bytes go, and its checksum stays wrong, so that
        neither the promise to erase nor the one never to serve damage is broken."""
        row = self.conn.execute("SELECT data, crc, expires FROM events WHERE sid = ? AND seq = ?", (sid, seq)).fetchone()
        if row is None:
            return
        self.erased = True
        if not self._counted:
            self._counted = True
            self.conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'unwiped'")
        data, crc, expires = row
        if records.checksum(stream, seq, data) == crc:
            data = redact(data)
            crc = records.checksum(stream, seq, data)
        else:
            data = b""
        self.conn.execute(
            "UPDATE events SET data = ?, crc = ?, expires = ? WHERE sid = ? AND seq = ?", (data, crc, -abs(expires), sid, seq)
        )

    def erase_expired(self, now: int, redact: records.Redact, most: int) -> int:
        """Erase up to `most` events whose time has come, the longest overdue first; returns how many."""
        due = self.conn.execute(
            "SELECT e.sid, e.seq, s.id FROM events AS e JOIN streams AS s ON s.sid = e.sid"
            " WHERE e.expires > 0 AND e.expires <= ? ORDER BY e.expires LIMIT ?",
            (now, most),
        ).fetchall()
        for sid, seq, stream in due:
            self.erase(stream, sid, seq, redact)
            self.conn.execute("DELETE FROM parts WHERE sid = ? AND key = ?", (sid, records.fold_key(seq)))
        return len(due)

    def _note(self, write: records.Write, pending: Pending) -> None:
        """A mark, a cursor or a last-seen time: within a batch the greatest counts."""
        if isinstance(write, records.Cursor):
            cursor = (write.user, write.device, self.head(write.stream).sid)
            pending.cursors[cursor] = max(write.seq, pending.cursors.get(cursor, 0))
        elif isinstance(write, records.Mark):
            mark = (self.head(write.stream).sid, write.user)
            delivered, read = pending.marks.get(mark, (0, 0))
            pending.marks[mark] = (max(write.delivered, delivered), max(write.read, read))
        elif isinstance(write, records.LastSeen):
            seen = (write.user, write.device)
            pending.seen[seen] = max(write.time, pending.seen.get(seen, 0))
        else:
            raise TypeError(f"{type(write).__name__} is nothing that a store writes")

    def _events(self, pending: Pending) -> None:
        if pending.events:
            statements.EVENTS.run(self.conn, pending.events)
            pending.events = []

    def _flush(self, pending: Pending) -> None:
        conn = self.conn
        self._events(pending)
        if pending.heads:
            flat: list[Any] = []
            runs = []
            for head in pending.heads:
                flat += (head.sid, head.head, head.n, head.item, head.time, head.epoch, head.snapshot_seq)
                if head.first:
                    runs.append((head.sid, head.first, head.head - head.first + 1))
                    head.first = 0
                head.touched = False
            statements.HEADS.run(conn, flat)
            if runs:
                self._feed(runs)
        if pending.parts:
            gone = [key for key, part in pending.parts.items() if part is None]
            if gone:
                conn.executemany("DELETE FROM parts WHERE sid = ? AND key = ?", gone)
            statements.PARTS.run(conn, [x for key, part in pending.parts.items() if part for x in (*key, *part)])
        if pending.members:
            statements.MEMBERSHIPS.run(conn, [x for key, end in pending.members.items() for x in (*key, end)])
        if pending.mentions:
            statements.MENTIONS.run(conn, pending.mentions)
        if pending.marks:
            statements.MARKS.run(conn, [x for key, mark in pending.marks.items() for x in (*key, *mark)])
        if pending.cursors:
            statements.CURSORS.run(conn, [x for key, seq in pending.cursors.items() for x in (*key, seq)])
        if pending.seen:
            users: dict[int, int] = {}
            for (user, _), when in pending.seen.items():
                users[user] = max(when, users.get(user, 0))
            statements.USERS_SEEN.run(conn, [x for pair in users.items() for x in pair])
            statements.DEVICES_SEEN.run(conn, [x for key, when in pending.seen.items() for x in (*key, when)])

    def _feed(self, runs: list[tuple[int, int, int]]) -> None:
        """One row of the change feed for all that this batch appended."""
        if not self._position:
            row = self.conn.execute("SELECT position + count, time FROM commits ORDER BY position DESC LIMIT 1").fetchone() or (
                1,
                0,
            )
            self._position, self._feed_time = row
        self._feed_time = max(self._feed_time, time.time_ns() // 1_000_000)
        count = sum(run[2] for run in runs)
        self.conn.execute(
            "INSERT INTO commits (position, time, count, runs) VALUES (?, ?, ?, ?)",
            (self._position, self._feed_time, count, feed.pack(runs)),
        )
        self._position += count
