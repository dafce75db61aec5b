"""`doctor`: read everything, believe nothing, change nothing.

No file is written, and what the log of a killed node holds is read where it stands. Damage in one stream does not keep it from
looking at the next.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from storage import errors, records
from storage.records import Finding
from storage.sqlite import connection, feed, folder, migrations, wal

#: done and total, in streams.
Progress = Callable[[int, int], None]

#: Lines taken from SQLite's own check of its trees; the first few tell all that a person needs.
STRUCTURE_LINES = 100

#: Events of a stream read in one step: bounds the memory whatever the length of the stream.
_STEP = 1_000


def doctor(path: pathlib.Path, progress: Progress = lambda _done, _total: None) -> list[Finding]:
    """Everything that is wrong with the store in the folder `path` of a stopped node; an empty list: nothing. Blocks; run it
    off the loop. Raises Unavailable when there is no store, or a node runs on it."""
    file = path / connection.FILE
    if not file.exists():
        raise errors.Unavailable(f"there is no {connection.FILE} in {path}")
    lock = folder.Lock(path, make=False)
    try:
        return [*_guarded("log", _log(file)), *examine(file, progress)]
    finally:
        lock.release()


def _log(file: pathlib.Path) -> Iterator[Finding]:
    if lost := wal.acknowledged_beyond(file):
        yield Finding(connection.log_of(file).name, f"{lost} or more acknowledged transactions in it cannot be read")


def examine(
    file: pathlib.Path,
    progress: Progress = lambda _done, _total: None,
    opened: Callable[[connection.Connection], None] = lambda _conn: None,
) -> list[Finding]:
    """As `doctor`, for a database file: a backup, or that of a running node. It reads one snapshot. What `progress` raises ends
    it; `opened` is told the connection, which may be interrupted: then the findings mean nothing."""
    findings: list[Finding] = []
    try:
        conn = connection.look(file)
    except connection.Error as error:
        return [Finding(file.name, str(connection.translate(error)))]
    try:
        opened(conn)
        folder.check_identity(conn)
        if not folder.version(conn):
            return [Finding(file.name, "the database is empty")]
        if folder.version(conn) < len(migrations.MIGRATIONS):
            return [
                Finding(file.name, "an older program made it: restore it, or start on it, which migrates it; then examine it")
            ]
        findings += [Finding("schema", f"{name} is not as this program makes it") for name in folder.strange(conn)]
        conn.execute("BEGIN")
        for check in (_structure, _orphans, _members, _accounts, _feed):
            findings += _guarded(check.__name__.strip("_"), check(conn))
        findings += _streams(conn, progress)
    except (connection.Error, errors.Damaged) as error:
        findings.append(Finding(file.name, str(connection.translate(error))))
    finally:
        conn.close()
    return findings


def _guarded(where: str, check: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of a check; that it cannot be carried through is one more."""
    try:
        yield from check
    except (connection.Error, errors.Damaged) as error:
        yield Finding(where, str(connection.translate(error)))


def _structure(conn: connection.Connection) -> Iterator[Finding]:
    for (line,) in conn.execute(f"PRAGMA integrity_check({STRUCTURE_LINES})"):
        if line != "ok":
            yield Finding("structure", line)


def _orphans(conn: connection.Connection) -> Iterator[Finding]:
    """Rows of streams that do not exist. Each distinct sid is one jump into the tree, not a scan of its rows."""
    for table in ("events", "parts", "marks"):
        sid = 0
        while True:
            row = conn.execute(f"SELECT min(sid) FROM {table} WHERE sid > ?", (sid,)).fetchone()  # noqa: S608
            if row[0] is None:
                break
            sid = row[0]
            if conn.execute("SELECT 1 FROM streams WHERE sid = ?", (sid,)).fetchone() is None:
                yield Finding(table, f"rows of stream number {sid}, which does not exist")


def _members(conn: connection.Connection) -> Iterator[Finding]:
    for table in ("memberships", "cursors", "mentions"):
        for user, sid in conn.execute(
            f"SELECT user, sid FROM {table} WHERE sid NOT IN (SELECT sid FROM streams)"  # noqa: S608
        ):
            yield Finding(table, f"user {user} is tied to stream number {sid}, which does not exist")
    before: tuple[Any, ...] = (0, 0, 0)
    for user, sid, joined, removed in conn.execute(
        "SELECT user, sid, joined, removed FROM memberships ORDER BY user, sid, joined"
    ):
        if joined < 1 or removed < joined - 1:
            yield Finding("memberships", f"user {user}, stream number {sid}: no such interval as [{joined}, {removed}]")
        if before[:2] == (user, sid) and before[2] >= joined:
            yield Finding("memberships", f"user {user}, stream number {sid}: the interval from {joined} overlaps another")
        before = (user, sid, removed)


def _accounts(conn: connection.Connection) -> Iterator[Finding]:
    for user, device in conn.execute("SELECT user, id FROM devices WHERE user NOT IN (SELECT id FROM users WHERE deleted = 0)"):
        yield Finding("devices", f"device {device} belongs to user {user}, who does not exist")
    for user, device in conn.execute(
        "SELECT t.user, t.device FROM tokens AS t WHERE NOT EXISTS"
        " (SELECT 1 FROM devices AS d WHERE d.user = t.user AND d.id = t.device)"
    ):
        yield Finding("tokens", f"a token of device {device} of user {user}, which does not exist")
    for user, device in conn.execute(
        "SELECT DISTINCT c.user, c.device FROM cursors AS c WHERE NOT EXISTS"
        " (SELECT 1 FROM devices AS d WHERE d.user = c.user AND d.id = c.device)"
    ):
        yield Finding("cursors", f"cursors of device {device} of user {user}, which does not exist")
    for user, device, sid in conn.execute(
        "SELECT c.user, c.device, c.sid FROM cursors AS c JOIN streams AS s ON s.sid = c.sid WHERE c.seq > s.head"
    ):
        yield Finding("cursors", f"device {device} of user {user} stands beyond the head of stream number {sid}")
    account = records.account_stream
    for (user,) in conn.execute("SELECT id FROM users"):
        if not conn.execute(
            "SELECT 1 FROM memberships AS m JOIN streams AS s ON s.sid = m.sid WHERE m.user = ? AND s.id = ?",
            (user, account(user)),
        ).fetchone():
            yield Finding("memberships", f"user {user} is not a member of the own account stream")


def _feed(conn: connection.Connection) -> Iterator[Finding]:
    expected = 0
    for position, count, packed in conn.execute("SELECT position, count, runs FROM commits ORDER BY position"):
        if expected and position != expected:
            yield Finding("commits", f"position {position} follows {expected - 1}")
        expected = position + count
        runs = feed.unpack(packed)
        if sum(length for _, _, length in runs) != count:
            yield Finding("commits", f"position {position}: its runs do not add up to {count}")
        for sid, first, length in runs:
            row = conn.execute("SELECT head FROM streams WHERE sid = ?", (sid,)).fetchone()
            if row is None or row[0] < first + length - 1:
                yield Finding("commits", f"position {position}: names events that stream number {sid} does not have")


def _streams(conn: connection.Connection, progress: Progress) -> list[Finding]:
    findings: list[Finding] = []
    streams = conn.execute("SELECT sid, id, head, n, item, snapshot_seq, epoch FROM streams ORDER BY sid").fetchall()
    for done, (sid, stream, *heading) in enumerate(streams):
        progress(done, len(streams))
        findings += _guarded(stream.hex(), _events(conn, sid, stream, heading))
        findings += _guarded(stream.hex(), _parts(conn, sid, stream))
    progress(len(streams), len(streams))
    return findings


def _events(conn: connection.Connection, sid: int, stream: bytes, heading: list[int]) -> Iterator[Finding]:
    head, head_n, head_item, snapshot_seq, head_epoch = heading
    name = stream.hex()
    expected, n, item = 1, 0, 0
    while True:
        found = conn.execute(
            "SELECT seq, kind, n, item, epoch, crc, data FROM events WHERE sid = ? AND seq >= ? ORDER BY seq LIMIT ?",
            (sid, expected, _STEP),
        ).fetchall()
        for seq, kind, row_n, row_item, epoch, crc, data in found:
            if seq != expected:
                yield Finding(name, f"events {expected}..{seq - 1} are missing")
            expected = seq + 1
            if records.checksum(stream, seq, data) != crc:
                yield Finding(f"{name} {seq}", "the event fails its checksum")
            if kind < records.FIRST_CHANGE_KIND:
                item = seq
            if row_item != item:
                yield Finding(f"{name} {seq}", f"the newest item up to it is {item}, not {row_item}")
                item = row_item
            if row_n < n:
                yield Finding(f"{name} {seq}", f"the count of messages falls from {n} to {row_n}")
            n = row_n
            if epoch > head_epoch:
                yield Finding(f"{name} {seq}", f"its epoch {epoch} is above that of the stream, {head_epoch}")
        if len(found) < _STEP:
            break
    if head != expected - 1 or head_item != item or (head and head_n != n):
        yield Finding(
            name, f"the head says seq {head}, n {head_n}, item {head_item}; the events say {expected - 1}, {n}, {item}"
        )
    if snapshot_seq > head:
        yield Finding(name, f"the snapshot stands at {snapshot_seq}, beyond the head {head}")


def _parts(conn: connection.Connection, sid: int, stream: bytes) -> Iterator[Finding]:
    for key, crc, data in conn.execute("SELECT key, crc, data FROM parts WHERE sid = ?", (sid,)):
        if records.part_checksum(stream, key, data) != crc:
            yield Finding(f"{stream.hex()} {key.hex()}", "the part fails its checksum")
