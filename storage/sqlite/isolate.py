"""Giving up what has rotted, so that the rest of a store can be used again: the last resort, where no backup is new enough.

A row whose checksum is wrong is never served, so one event takes its whole stream with it, and among the newest ones the whole
node. Here a placeholder takes its seq, which readers are shown as *gone*. What the event did to the state of its stream is lost
with it, as far as no snapshot holds it.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterator

from storage import errors, records
from storage.sqlite import connection, folder, wal

#: The bytes of an event without a body for the place of a damaged one, from its n and the bytes of the sound event that stands
#: before it in its stream, if one does.
Placeholder = Callable[[int, bytes | None], bytes]

#: Ending of the copy of a damaged log.
KEPT = ".damaged"

#: `events.expires` of a placeholder: it expired in the first millisecond of all, and its body is gone.
_EXPIRED = -1


def isolate(path: pathlib.Path, placeholder: Placeholder) -> list[str]:
    """Replace what is damaged in the folder `path` of a stopped node; what is lost by that, one line each.

    - Of a damaged log what can be read is kept; a copy of it stays beside it.
    - An event gets a placeholder of the same seq, kind, n and digest.
    - The fold of an item is dropped: it shows as it was sent, without edits and reactions.
    - With another part of a conversation its whole snapshot is dropped: the owner reads all events again.

    A part of an account's state is left: nothing else tells it. All changes of rows are one transaction. Blocks. Raises
    Unavailable (no store, a node runs on it, disk full) or Damaged (the structure of the file; then nothing can be done)."""
    file = path / connection.FILE
    if not file.exists():
        raise errors.Unavailable(f"there is no {connection.FILE} in {path}")
    lock = folder.Lock(path)
    try:
        lost = list(_log(file))
        conn = connection.connect(file, connection.READER_CACHE_KIB)
        try:
            folder.check_identity(conn)
            folder.migrate(conn)
            conn.execute("BEGIN IMMEDIATE")
            if lost:
                folder.begin_anew(conn)
            for sid, stream in conn.execute("SELECT sid, id FROM streams ORDER BY sid").fetchall():
                lost += _events(conn, sid, stream, placeholder)
                lost += _parts(conn, sid, stream)
            conn.execute("COMMIT")
        finally:
            conn.close()
    except (connection.Error, OSError) as error:
        raise connection.translate(error) from error
    finally:
        lock.release()
    return lost


def _log(file: pathlib.Path) -> Iterator[str]:
    if lost := wal.acknowledged_beyond(file):
        log = connection.log_of(file)
        kept = log.with_name(log.name + KEPT)
        shutil.copy(log, kept)
        yield f"{log.name}: {lost} or more acknowledged transactions; a copy of the log is kept as {kept.name}"


def _events(conn: connection.Connection, sid: int, stream: bytes, placeholder: Placeholder) -> Iterator[str]:
    sound: bytes | None = None
    for seq, kind, n, crc, data in conn.execute(
        "SELECT seq, kind, n, crc, data FROM events WHERE sid = ? ORDER BY seq", (sid,)
    ):
        if records.checksum(stream, seq, data) == crc:
            sound = data
            continue
        new = placeholder(n, sound)
        conn.execute(
            "UPDATE events SET data = ?, crc = ?, expires = ? WHERE sid = ? AND seq = ?",
            (new, records.checksum(stream, seq, new), _EXPIRED, sid, seq),
        )
        conn.execute("DELETE FROM parts WHERE sid = ? AND key = ?", (sid, records.fold_key(seq)))
        yield f"{stream.hex()} {seq}: an event of kind {kind}, with what it changed and what was done to it"


def _parts(conn: connection.Connection, sid: int, stream: bytes) -> Iterator[str]:
    found = conn.execute("SELECT key, crc, data FROM parts WHERE sid = ?", (sid,)).fetchall()
    rotten = [key for key, crc, data in found if records.part_checksum(stream, key, data) != crc]
    for key in rotten:
        if key.startswith(records.FOLD_PREFIX):
            conn.execute("DELETE FROM parts WHERE sid = ? AND key = ?", (sid, key))
            yield f"{stream.hex()} {records.fold_seq(key)}: the edits of an item and the reactions to it"
    if stream[:1] in records.CONVERSATIONS and any(not key.startswith(records.FOLD_PREFIX) for key in rotten):
        conn.execute("DELETE FROM parts WHERE sid = ? AND substr(key, 1, 1) <> ?", (sid, records.FOLD_PREFIX))
        conn.execute("UPDATE streams SET snapshot_seq = 0 WHERE sid = ?", (sid,))
        yield f"{stream.hex()}: its snapshot, which is made again from its events"
