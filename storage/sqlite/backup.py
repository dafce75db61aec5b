"""Copies: `Save` beside a running node, `restore` into an empty folder.

A copy is one file, written by VACUUM INTO from one snapshot: live rows only, so nothing of what was erased, and nothing of
what merely lay about in free pages. It appears under its name complete, verified and synced, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil

from storage import errors, records
from storage.sqlite import connection, doctor, folder

_UNFINISHED = ".part"


class Save:
    """One copy in the making. `run` blocks, so it is called off the loop; `stop` may be called from anywhere, at any time."""

    def __init__(self, source: pathlib.Path, target: pathlib.Path, now: int) -> None:
        self._source = source
        self._target = target
        self._now = now
        self._conn: connection.Connection | None = None
        self._stopped = False

    def run(self) -> list[records.Finding]:
        """Copy the database file `source` into the new file `target`; what `doctor` finds in the copy.

        What has rotted is copied as it is, and named: a copy of all the rest is worth having, and `restore` takes it if it is
        told to. Refuses to overwrite a file, and to write a copy that holds events which should have expired by `now` (ms):
        erase them first. Raises Unavailable (exists, disk full, stopped) or Damaged (the source cannot be read)."""
        target = self._target
        if target.exists():
            raise errors.Unavailable(f"{target} exists and is not overwritten")
        unfinished = target.with_name(target.name + _UNFINISHED)
        unfinished.unlink(missing_ok=True)
        try:
            os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._copy(unfinished)
            _check_nothing_is_overdue(unfinished, self._now)
            findings = doctor.examine(unfinished, lambda _done, _total: self._go_on(), self._work_on)
            self._go_on()
            _publish(unfinished, target)
        except (connection.Error, OSError) as error:
            raise connection.translate(error) from error
        finally:
            unfinished.unlink(missing_ok=True)
        return findings

    def stop(self) -> None:
        """Let `run` raise Unavailable soon and leave nothing. A call may fall between statements: repeat it until it has."""
        self._stopped = True
        conn = self._conn
        if conn is not None:
            with contextlib.suppress(connection.Error):  # closed a moment ago
                conn.interrupt()

    def _copy(self, unfinished: pathlib.Path) -> None:
        conn = connection.connect(self._source, connection.READER_CACHE_KIB)
        try:
            self._work_on(conn)
            conn.execute("VACUUM INTO ?", (str(unfinished),))
        finally:
            conn.close()

    def _work_on(self, conn: connection.Connection) -> None:
        self._conn = conn
        self._go_on()

    def _go_on(self) -> None:
        if self._stopped:
            raise errors.Unavailable("the copy was given up")


def _check_nothing_is_overdue(file: pathlib.Path, now: int) -> None:
    conn = connection.look(file)
    try:
        if conn.execute("SELECT 1 FROM events WHERE expires > 0 AND expires <= ? LIMIT 1", (now,)).fetchone():
            raise errors.Unavailable("expired events have come meanwhile; erase them and copy again")
    finally:
        conn.close()


def restore(
    copy: pathlib.Path,
    path: pathlib.Path,
    progress: doctor.Progress = lambda _done, _total: None,
    *,
    with_damage: bool = False,
) -> list[records.Finding]:
    """Make the data folder `path` from a copy; what `doctor` finds in it. Blocks; run it off the loop.

    Refuses a folder that a node holds or that has anything in it, and, unless `with_damage`, a copy in which `doctor` finds
    anything. A copy of an older program is migrated before it is examined. The node epoch rises past every one that the copy
    knows, so nothing of an earlier process counts any more; cursors stay as they were. Raises Unavailable or Damaged."""
    if (log := connection.log_of(copy)).exists() and log.stat().st_size:
        raise errors.Unavailable(f"{copy} belongs to a folder, with {log.name} beside it; copies are made by `backup`")
    lock = folder.Lock(path)
    unfinished = path / (connection.FILE + _UNFINISHED)
    try:
        if any(entry.name != folder.LOCK for entry in path.iterdir()):
            raise errors.Unavailable(f"the data folder {path} is not empty")
        shutil.copyfile(copy, unfinished)
        unfinished.chmod(0o600)
        conn = connection.connect(unfinished, connection.READER_CACHE_KIB)
        try:
            folder.check_identity(conn)
            if not folder.version(conn):
                raise errors.Damaged(f"{copy} is empty")
            folder.migrate(conn)
            folder.begin_anew(conn)
        finally:
            conn.close()
        findings = doctor.examine(unfinished, progress)
        if findings and not with_damage:
            raise errors.Damaged(
                f"the copy is damaged ({len(findings)} findings; `restore --with-damage` takes it all the same):"
                f" {findings[0].where}: {findings[0].what}"
            )
        _publish(unfinished, path / connection.FILE)
        return findings
    except (connection.Error, OSError) as error:
        raise connection.translate(error) from error
    finally:
        for left in path.glob(f"{unfinished.name}*"):
            left.unlink()
        lock.release()


def _publish(unfinished: pathlib.Path, target: pathlib.Path) -> None:
    """Sync the file, give it its name, sync the folder. Never replaces a file that appeared meanwhile."""
    _sync(unfinished)
    os.link(unfinished, target)
    unfinished.unlink()
    _sync(target.parent)


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
