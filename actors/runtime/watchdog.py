"""A thread that notices when the loop stands still.

It asks the loop to answer and waits; a loop that has not answered within the limit is blocked by some callback, and
the loop thread's stack, taken there and then, says by which. (An async handler that hangs does not block the loop;
`suspended.py` sees to those.)
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.runtime.runtime import Runtime

logger = logging.getLogger("actors.runtime")

STALL_LIMIT_S = 1.0
"""Seconds without a tick after which the loop is taken for blocked: a hundred times what a full tick takes."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A loop that did not tick. `actor`: the class whose turn it was, if it was any's."""

    seconds: float
    stack: str
    actor: str | None


class Watchdog:
    """Watches the loop of `runtime` from a daemon thread.

    `stalled` is called on that thread, once a stall, when the limit is reached; `recovered` with the length of the
    stall in seconds, as far as the thread saw it, when the loop answers again. `stalls` counts them.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        limit_s: float = STALL_LIMIT_S,
        stalled: Callable[[Stall], object] | None = None,
        recovered: Callable[[float], object] | None = None,
    ) -> None:
        self._runtime = runtime
        self._limit_s = limit_s
        self._stalled = stalled
        self._recovered = recovered
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.stalls = 0

    def start(self) -> None:
        """Begin. The runtime has been started."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stopping.set()
        self._answered.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._limit_s / 4):
            self._answered = answered = threading.Event()
            if self._stopping.is_set():  # set between the wait and the new event
                return
            asked = time.monotonic()
            try:
                self._runtime.loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if not answered.wait(self._limit_s):
                self._report(time.monotonic() - asked)
                answered.wait()
                if self._stopping.is_set():
                    return
                seconds = time.monotonic() - asked
                logger.warning("the loop ticks again after %.1f s", seconds)
                if self._recovered is not None:
                    self._recovered(seconds)

    def _report(self, seconds: float) -> None:
        self.stalls += 1
        running = self._runtime.running
        actor = running.actor_class.__name__ if running is not None else None
        frame = sys._current_frames().get(self._runtime.thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "the loop's thread has ended\n"
        logger.error("the loop has not ticked for %.1f s, in the turn of %s:\n%s", seconds, actor or "no actor", stack)
        if self._stalled is not None:
            self._stalled(Stall(seconds, stack, actor))
