"""Copies: `save` beside a running node, `restore` into an empty folder.

A copy is one file, written by VACUUM INTO from one snapshot: live rows only, so nothing of what was erased, and nothing of
what merely lay about in free pages. It appears under its name complete, verified and synced, or not at all.
"""

from __future__ import annotations

import os
import pathlib
import shutil

from storage import errors
from storage.sqlite import connection, doctor, folder

_UNFINISHED = ".part"


def save(source: pathlib.Path, target: pathlib.Path, now: int) -> None:
    """Copy the database file `source` into the new file `target`. Blocks; run it off the loop.

    Refuses to overwrite a file, and to write a copy that holds events which should have expired by `now` (ms): erase them
    first. Raises Unavailable (exists, disk full) or Damaged (the copy does not verify)."""
    if target.exists():
        raise errors.Unavailable(f"{target} exists and is not overwritten")
    unfinished = target.with_name(target.name + _UNFINISHED)
    unfinished.unlink(missing_ok=True)
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        conn = connection.connect(source, connection.READER_CACHE_KIB)
        try:
            conn.execute("VACUUM INTO ?", (str(unfinished),))
        finally:
            conn.close()
        _verify(unfinished, now)
        _publish(unfinished, target)
    except (connection.Error, OSError) as error:
        raise connection.translate(error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _verify(file: pathlib.Path, now: int) -> None:
    """The trees and the newest events of a copy, and that nothing in it is overdue. (`restore` reads all of it.)"""
    conn = connection.connect(file, connection.READER_CACHE_KIB, read_only=True)
    try:
        folder.check_identity(conn)
        line = conn.execute("PRAGMA quick_check(1)").fetchone()[0]
        if line != "ok":
            raise errors.Damaged(f"the copy is damaged: {line}")
        folder.check_tail(conn)
        if conn.execute("SELECT 1 FROM events WHERE expires > 0 AND expires <= ? LIMIT 1", (now,)).fetchone():
            raise errors.Unavailable("expired events have come meanwhile; erase them and copy again")
    finally:
        conn.close()


def restore(copy: pathlib.Path, path: pathlib.Path, progress: doctor.Progress = lambda _done, _total: None) -> None:
    """Make the data folder `path` from a copy. Blocks; run it off the loop.

    Refuses a folder that a node holds or that has anything in it, and a copy in which `doctor` finds anything. The node epoch
    rises past every one that the copy knows, so nothing of an earlier process counts any more; cursors stay as they were.
    Raises Unavailable or Damaged."""
    lock = folder.Lock(path)
    unfinished = path / (connection.FILE + _UNFINISHED)
    try:
        if any(entry.name != folder.LOCK for entry in path.iterdir()):
            raise errors.Unavailable(f"the data folder {path} is not empty")
        shutil.copyfile(copy, unfinished)
        unfinished.chmod(0o600)
        findings = doctor.examine(unfinished, progress)
        if findings:
            raise errors.Damaged(f"the copy is damaged ({len(findings)} findings): {findings[0].where}: {findings[0].what}")
        conn = connection.connect(unfinished, connection.READER_CACHE_KIB)
        try:
            conn.execute(
                "UPDATE meta SET value = 1 + max(value, (SELECT coalesce(max(epoch), 0) FROM streams)) WHERE key = 'node_epoch'"
            )
        finally:
            conn.close()
        _publish(unfinished, path / connection.FILE)
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
