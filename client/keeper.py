"""Saves what a device keeps, beside everything else: one save at a time, and the newest state wins.

Saving takes as long as a disk takes, and may fail; neither stops the connection. What must not happen before something is
stored waits for `stored`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from client import store

log = logging.getLogger("kith.client")

#: Seconds between two saves of cursors alone. Older cursors cost nothing: the server has its own.
SAVE_S = 1.0
#: Seconds from a save that failed to the next try.
RETRY_S = 5.0


class Keeper:
    """`snapshot` gives the present state, and a number; `stored` gets that number when the state is on disk. `failed` is told
    each OSError, and in how many seconds the next try follows."""

    def __init__(
        self,
        kept: store.Store,
        snapshot: Callable[[], tuple[store.Saved, int]],
        stored: Callable[[int], None],
        failed: Callable[[OSError, float], None],
    ) -> None:
        self._store = kept
        self._snapshot = snapshot
        self._stored = stored
        self._failed = failed
        self._saved: store.Saved | None = None
        self._saving = asyncio.Lock()
        self._changed = asyncio.Event()
        self._due: float | None = None
        self._next = self._not_before = 0.0
        self._runner: asyncio.Task[None] | None = None

    async def load(self) -> store.Saved:
        """What was saved last; from then on, what changes is saved. DamagedState; OSError if it cannot be read."""
        self._saved = await asyncio.to_thread(self._store.load)
        self._runner = asyncio.create_task(self._run(), name="kith-client-keeper")
        return self._saved

    def changed(self, *, at_once: bool) -> None:
        """There is a newer state: save it soon, or at once because something waits for it."""
        now = asyncio.get_running_loop().time()
        due = max(now if at_once else self._next, self._not_before)
        if self._due is None or due < self._due:
            self._due = due
            self._changed.set()

    async def save(self) -> bool:
        """Save the present state now. False: it could not be written. Who is cancelled waits no longer; the save goes on."""
        return await asyncio.shield(asyncio.create_task(self._save(), name="kith-client-save"))

    async def close(self) -> None:
        """The last save, after the one that is under way. What cannot be written is in the log."""
        if self._runner is None:
            return
        self._runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner
        if not await self.save():
            log.error("the state of this device could not be saved")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            delay = None if self._due is None else self._due - loop.time()
            if delay is None or delay > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._changed.wait()
                continue
            self._due = None
            if await self.save():
                self._next = loop.time() + SAVE_S
            else:
                self._due = self._not_before = loop.time() + RETRY_S

    async def _save(self) -> bool:
        async with self._saving:
            saved, number = self._snapshot()
            if saved != self._saved:
                try:
                    await asyncio.to_thread(self._store.save, saved)
                except OSError as error:
                    self._failed(error, RETRY_S)
                    return False
                self._saved = saved
            self._stored(number)
            return True
