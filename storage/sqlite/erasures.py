"""When what was erased has to leave the files too.

An erased body is overwritten in its row at once. Older copies of the page stand on in the log until it is cut, and scraps may
stand inside other pages until those are wiped (see `scrub`). Neither stalls a commit: the log is cut a little after an
erasure, so that many share the work; the pages are wiped later, slice by slice with pauses, since a pass reads the whole file.
`meta.unwiped` counts the erasures since the last full pass, so that a restart does not forget one.
"""

from __future__ import annotations

import asyncio
import pathlib

from storage import errors
from storage.sqlite import checkpoints, ledger, scrub, writer

#: Between an erasure and the cutting of the log, in seconds. A log that was cut has to grow again, which makes small commits
#: half as fast (the file system allots blocks at every sync), so it is not cut all the time.
CUT_SECONDS = 30.0

#: Between an erasure and the beginning of the pass that wipes pages, in seconds: a pass reads the whole file.
WIPE_SECONDS = 600.0

#: Pause after each slice of a pass, in seconds: several times what a slice takes of the writer.
PAUSE_SECONDS = 0.03

#: Pause before another try when a reader was in the way, in seconds, and how often that is tried in one go.
BUSY_SECONDS = 0.05
BUSY_TRIES = 100


class Erasures:
    """The clock of cutting and wiping, on the event loop; the work is done on the writer's thread."""

    def __init__(self, path: pathlib.Path, pen: writer.Writer, loop: asyncio.AbstractEventLoop) -> None:
        self._writer = pen
        self._loop = loop
        self._scrubber = scrub.Scrubber(path)
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task = loop.create_task(self._run(), name="kith-erasures")

    def committed(self) -> None:
        """On the writer's thread: a transaction erased bodies."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._due.set)

    async def stop(self) -> None:
        """Leave what is not wiped to the next start. Idempotent."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def close(self) -> None:
        """After the last connection is closed (see `scrub.Scrubber`)."""
        self._scrubber.close()

    async def settle(self) -> None:
        """Cut the log and wipe every page, now. Raises Unavailable."""
        async with self._turn:
            await self._wipe(0.0)
            await self._cut()

    async def _run(self) -> None:
        left = True  # perhaps: an earlier process may have gone before its pass
        while True:
            try:
                if left and await self._writer.between(_unwiped):
                    self._due.set()
                left = False
                await self._due.wait()
                await asyncio.sleep(CUT_SECONDS)
                self._due.clear()
                async with self._turn:
                    await self._cut()
                await asyncio.sleep(WIPE_SECONDS)
                async with self._turn:
                    await self._wipe(PAUSE_SECONDS)
            except (errors.StorageError, OSError):  # the disk is in trouble, which commits report; this can wait
                self._due.set()
                await asyncio.sleep(CUT_SECONDS)

    async def _cut(self) -> None:
        for _ in range(BUSY_TRIES):
            if await self._writer.between(checkpoints.cut):
                return
            await asyncio.sleep(BUSY_SECONDS)
        raise errors.Unavailable("readers did not leave the log alone")

    async def _wipe(self, pause: float) -> None:
        """One pass over the whole file."""
        erasures = await self._writer.between(_unwiped)
        page = tries = 0
        while True:
            after = await self._writer.between(lambda book, first=page: self._slice(book, first))  # type: ignore[misc]
            if after is None:
                tries += 1
                if tries > BUSY_TRIES:
                    raise errors.Unavailable("readers did not leave the log alone")
                await asyncio.sleep(BUSY_SECONDS)
                continue
            tries = 0
            page = after
            if not page:
                break
            await asyncio.sleep(pause)
        await self._writer.call(
            lambda book: book.conn.execute("UPDATE meta SET value = value - ? WHERE key = 'unwiped'", (erasures,))
        )

    def _slice(self, book: ledger.Ledger, first: int) -> int | None:
        """On the writer's thread, between transactions: see `scrub` for why it takes these steps."""
        if not checkpoints.cut(book):
            return None
        book.conn.execute("PRAGMA shrink_memory")
        book.conn.execute("BEGIN IMMEDIATE")
        try:
            return self._scrubber.wipe(first)
        finally:
            book.conn.execute("ROLLBACK")


def _unwiped(book: ledger.Ledger) -> int:
    return int(book.conn.execute("SELECT value FROM meta WHERE key = 'unwiped'").fetchone()[0])
