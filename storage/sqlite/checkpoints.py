"""Moving the write-ahead log into the database without stalling a commit.

A commit appends pages to the log; a checkpoint copies them home and syncs the database file. Under steady load the log is
never copied to its very end by anybody who works beside the writer, and only a log that was copied to its end starts again
from the beginning. So it is done in two steps: a thread of its own copies the bulk, which takes long and disturbs nobody, then
the writer itself, between two commits, copies the little that has come meanwhile. The next commit begins the log anew.
"""

from __future__ import annotations

import asyncio
import pathlib
import queue
import threading

from storage.sqlite import connection, ledger, writer

#: Commits between two looks at the log's size.
LOOK_EVERY = 32

_CACHE_KIB = 1_024


class Checkpoints:
    """The thread that copies."""

    def __init__(self, path: pathlib.Path, pen: writer.Writer, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._log = connection.log_of(path)
        self._writer = pen
        self._loop = loop
        self._commits = 0
        self._wanted = False
        self._work: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="kith-checkpoint", daemon=True)
        self._thread.start()

    def close(self) -> threading.Thread:
        """Begin nothing more; join the thread returned away from the loop."""
        self._work.put(False)
        return self._thread

    def committed(self) -> None:
        """On the writer's thread, after every commit."""
        self._commits += 1
        if self._commits % LOOK_EVERY == 0 and not self._wanted and self._size() > connection.LOG_BYTES:
            self._wanted = True
            self._work.put(True)

    def _size(self) -> int:
        """Of the log file: above LOG_BYTES only when it is in use up to there (see `connection`)."""
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    def _serve(self) -> None:
        conn: connection.Connection | None = None
        while self._work.get():
            try:
                if conn is None:
                    conn = connection.connect(self._path, _CACHE_KIB)
                _copy(conn)
            except connection.Error:  # disk full, say: the log grows on, and the writer tells when it no longer can
                if conn is not None:
                    conn.close()
                    conn = None
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._finish)
        if conn is not None:
            conn.close()

    def _finish(self) -> None:
        """On the loop: let the writer copy the rest."""
        future = self._writer.between(lambda book: _copy(book.conn))
        future.add_done_callback(self._finished)

    def _finished(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            future.exception()  # as in _serve: a log that cannot be copied now is copied later
        self._wanted = False


def _copy(conn: connection.Connection) -> None:
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


def cut(book: ledger.Ledger) -> bool:
    """On the writer's thread, between transactions: copy the log home to its end and cut it to nothing. False when a reader
    still needs it: waiting for one would hold up the commits behind this."""
    conn = book.conn
    conn.execute("PRAGMA busy_timeout = 0")
    try:
        busy, _, _ = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        conn.execute(f"PRAGMA busy_timeout = {connection.BUSY_MS}")
    return not busy
