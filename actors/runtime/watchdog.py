"""A thread that notices when the loop stands still.

It asks the loop to answer and waits; a loop that has not answered for the limit is blocked by some callback, and the
loop thread's stack, taken there and then, says by which. (An async handler that hangs does not block the loop;
`suspended.py` sees to those.)

A stall may begin at any moment between two questions. It is counted from the last answer, so that none of the limit
or longer is missed; it may be shorter by the pause between two questions.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.runtime import callbacks

if TYPE_CHECKING:
    from actors.runtime.runtime import Runtime

logger = logging.getLogger("actors.runtime")

STALL_LIMIT_S = 1.0
"""Seconds without a tick after which the loop is taken for blocked: a hundred times what a full tick takes."""


PAUSE = 1 / 8
"""Part of the limit between an answer and the next question: eight ticks a second of an idle loop, 0.1 ms of CPU."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A loop that did not tick for `seconds`, as far as is known. `actor`: the class whose turn it was, or whose async
    handler, last hook or piped coroutine ran; None: nobody's."""

    seconds: float
    stack: str
    actor: str | None


class Watchdog:
    """Watches the loop of `runtime` from a daemon thread.

    `stalled` is called on that thread, once a stall, when the limit is reached; `recovered` with the length of the
    stall in seconds, as far as the thread saw it, when the loop answers again. What they raise is logged. `stalls`
    counts them.
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
        ticked = time.monotonic()
        while not self._stopping.wait(self._limit_s * PAUSE):
            self._answered = answered = threading.Event()
            if self._stopping.is_set():  # set between the wait and the new event
                return
            try:
                self._runtime.loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if not answered.wait(self._limit_s * (1 - PAUSE)):
                self._report(time.monotonic() - ticked)
                answered.wait()
                if self._stopping.is_set():
                    return
                seconds = time.monotonic() - ticked
                logger.warning("the loop ticks again after %.1f s", seconds)
                callbacks.notify("the watchdog's callback", self._recovered, seconds)
            ticked = time.monotonic()

    def _report(self, seconds: float) -> None:
        self.stalls += 1
        running = self._runtime.running
        if running is None:  # no turn, but it may be a step of an actor's coroutine
            task = asyncio.current_task(self._runtime.loop)
            running = None if task is None else self._runtime.suspended.whose(task)
        actor = running.actor_class.__name__ if running is not None else None
        frame = sys._current_frames().get(self._runtime.thread_id)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "the loop's thread has ended\n"
        logger.error("the loop has not ticked for %.1f s, in the turn of %s:\n%s", seconds, actor or "no actor", stack)
        callbacks.notify("the watchdog's callback", self._stalled, Stall(seconds, stack, actor))
