"""The data folder: who holds it, and the first look at what it holds."""

from __future__ import annotations

import fcntl
import os
import pathlib
import secrets

from storage import errors
from storage.sqlite import connection, feed, migrations, rows, wal

LOCK = "lock"

#: Events that are read again at every start, newest first: far more than one torn write can reach, and a matter of ms.
TAIL_EVENTS = 4_096


class Lock:
    """The exclusive right to a data folder, held until `release` or the death of the process (flock(2))."""

    def __init__(self, folder: pathlib.Path, make: bool = True) -> None:
        """Take the lock; Unavailable when another node has it. Makes the folder, for its owner's eyes only; with `make` false
        nothing is made, and a folder without a lock, where no node ever ran, is not locked."""
        self._descriptor = -1
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        elif (folder / LOCK).exists():
            self._descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        else:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise errors.Unavailable(f"the data folder {folder} is in use by another node") from error

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_database(folder: pathlib.Path) -> connection.Connection:
    """The writer's connection to the folder's database, made or brought up to date if need be.

    Raises Damaged for a file that is no Kith database, one from a newer program, or one whose log or newest events do not hold
    together."""
    path = folder / connection.FILE
    try:
        wal.check(path)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        conn = connection.connect(path, connection.WRITER_CACHE_KIB)
    except connection.Error as error:
        raise connection.translate(error) from error
    try:
        check_identity(conn)
        conn.execute("PRAGMA journal_mode = WAL")
        migrate(conn)
        if names := strange(conn):
            raise errors.Damaged(f"the schema is not the one that this program makes: {', '.join(names)}; restore a backup")
        check_tail(conn)
    except connection.Error as error:
        conn.close()
        raise connection.translate(error) from error
    except BaseException:
        conn.close()
        raise
    return conn


def version(conn: connection.Connection) -> int:
    """The number of the last migration that the database has seen."""
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def check_identity(conn: connection.Connection) -> None:
    """Damaged unless this is an empty file or a Kith database of a version that this program knows."""
    found = version(conn)
    tables = conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = conn.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != migrations.APPLICATION_ID:
        raise errors.Damaged("the file is a database of some other program")
    newest = len(migrations.MIGRATIONS)
    if found > newest:
        raise errors.Damaged(
            f"the database has schema version {found}, this program knows versions up to {newest}; run the newer program"
        )


def migrate(conn: connection.Connection, to: int | None = None) -> None:
    """Apply the steps that the database has not seen, up to version `to` (None: all), each with its version in one
    transaction."""
    for number, script in enumerate(migrations.MIGRATIONS[version(conn) : to], start=version(conn) + 1):
        conn.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {migrations.APPLICATION_ID};\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )


def raise_epoch(conn: connection.Connection) -> int:
    """Count this start; the number fences every earlier process on the same data."""
    row = conn.execute("UPDATE meta SET value = value + 1 WHERE key = 'node_epoch' RETURNING value").fetchall()
    return int(row[0][0])


def begin_anew(conn: connection.Connection) -> None:
    """The data are those of an earlier moment, and what came later is lost. The next start fences whoever knew it, clients are
    told by another incarnation, and no position lies beyond what there is: it would hide what comes to stand there."""
    conn.execute(
        "UPDATE meta SET value = 1 + max(value, (SELECT coalesce(max(epoch), 0) FROM streams)) WHERE key = 'node_epoch'"
    )
    conn.execute("UPDATE meta SET value = ? WHERE key = 'incarnation'", (1 + secrets.randbelow(2**53 - 1),))
    conn.execute("UPDATE cursors SET seq = s.head FROM streams AS s WHERE s.sid = cursors.sid AND seq > s.head")
    conn.execute(
        "UPDATE marks SET delivered = min(delivered, s.head), read = min(read, s.head) FROM streams AS s"
        " WHERE s.sid = marks.sid AND max(delivered, read) > s.head"
    )


def incarnation(conn: connection.Connection) -> int:
    """See `interfaces.Store.incarnation`."""
    return int(conn.execute("SELECT value FROM meta WHERE key = 'incarnation'").fetchone()[0])


def strange(conn: connection.Connection) -> list[str]:
    """The tables, indexes and counters that are not as the migrations make them: nobody would miss one before it is needed."""
    made = connection.scratch()
    try:
        migrate(made, version(conn))
        expected, found = _schema(made), _schema(conn)
    finally:
        made.close()
    return [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]


def _schema(conn: connection.Connection) -> dict[str, str]:
    """What there is by name; SQLite's own (statistics, indexes of keys) left out."""
    found = conn.execute("SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'").fetchall()
    if any(name == "meta" for name, _ in found):
        found += [(f"meta.{key}", "") for (key,) in conn.execute("SELECT key FROM meta")]
    return dict(found)


def check_tail(conn: connection.Connection) -> None:
    """Read again what was appended last; Damaged if an event is missing, or wrong, or beyond its head."""
    left = TAIL_EVENTS
    for position, count, packed in conn.execute("SELECT position, count, runs FROM commits ORDER BY position DESC"):
        runs = feed.unpack(packed)
        if sum(length for _, _, length in runs) != count:
            raise errors.Damaged(f"the change feed contradicts itself at position {position}; run doctor")
        for sid, first, length in reversed(runs):
            if left <= 0:
                return
            last = first + length - 1
            first = max(first, last + 1 - left)
            stream = rows.stream_of(conn, sid)
            head = conn.execute("SELECT head FROM streams WHERE sid = ?", (sid,)).fetchone()[0]
            try:
                found = rows.events(conn, stream, sid, first, last, -1)
            except errors.Damaged as error:
                raise errors.Damaged(f"{error}; restore a backup, or give it up with `doctor --isolate`") from None
            if head < last or len(found) != last + 1 - first:
                raise errors.Damaged(f"stream {stream.hex()} lacks events of its newest commits; run doctor")
            left -= last + 1 - first
