"""The timer service: any number of timers, one timer of the loop.

A heap ordered by (time, order of making). Cancelled timers stay in the heap until they come up or until they are the
majority, then the heap is built again, so cancelling is O(1) and the heap stays within twice its live size.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actors.runtime import callbacks

if TYPE_CHECKING:
    from actors.runtime.ref import ActorRef

COMPACT_ABOVE = 64
"""Cancelled timers. Below this, building the heap again saves nothing worth having."""


class Timer:
    """One pending call. `when` is in seconds of the service's clock."""

    __slots__ = ("_callback", "_service", "when")

    def __init__(self, service: Timers, when: float, callback: Callable[[], object] | None) -> None:
        self._service: Timers | None = service  # while it stands in the heap
        self.when = when
        self._callback = callback

    @property
    def pending(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        """Have it never fire. A timer that has fired or was cancelled is left alone."""
        if self._callback is not None:
            self._callback = None
            if self._service is not None:
                self._service.forget_one()

    def leave_heap(self) -> None:
        """It has been taken out of the heap: to be fired, or for good."""
        self._service = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class ActorTimer(Timer):
    """A timer that tells its actor `message` in the committed lane. While it is pending the actor is not idle."""

    __slots__ = ("_message", "_ref")

    def __init__(self, service: Timers, when: float, ref: ActorRef[Any], message: Any) -> None:
        super().__init__(service, when, self._deliver)
        self._ref = ref
        self._message = message
        ref.add_pending(self)

    def cancel(self) -> None:
        if self.pending:
            super().cancel()
            self._ref.remove_pending(self)

    def _deliver(self) -> None:
        self._ref.remove_pending(self)
        self._ref.tell_committed(self._message)


class Timers:
    """For the loop's thread only. `clock` gives seconds and never goes back; a test moves it and calls `run_due`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._made = 0
        self._cancelled = 0
        self._handle: asyncio.TimerHandle | None = None
        self._armed_for = 0.0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` once, `delay_s` seconds from now (in the next tick when not above 0)."""
        return self._add(Timer(self, self._clock() + delay_s, callback))

    def tell_later(self, delay_s: float, ref: ActorRef[Any], message: Any) -> Timer:
        return self._add(ActorTimer(self, self._clock() + delay_s, ref, message))

    def run_due(self) -> int:
        """Fire, in order of their times, what is due by the clock; returns how many fired. What a callback adds waits
        for the next call, due or not: one that comes back at once would keep everything else waiting."""
        now = self._clock()
        due: list[Timer] = []
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            timer.leave_heap()
            if timer.pending:
                due.append(timer)
            else:
                self._cancelled -= 1
        fired = 0
        for timer in due:
            if timer.pending:  # none before it has cancelled it
                fired += 1
                callbacks.notify("a timer's callback", timer.fire)
        self._arm()
        return fired

    def close(self) -> None:
        """Cancel everything."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        heap, self._heap, self._cancelled = self._heap, [], 0
        for _, _, timer in heap:
            timer.leave_heap()
            timer.cancel()

    def forget_one(self) -> None:
        """A timer in the heap was cancelled."""
        self._cancelled += 1
        if self._cancelled > COMPACT_ABOVE and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def _add(self, timer: Timer) -> Timer:
        self._made += 1
        heapq.heappush(self._heap, (timer.when, self._made, timer))
        if self._handle is None or timer.when < self._armed_for:
            self._arm()
        return timer

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._heap:
            self._armed_for = self._heap[0][0]
            self._handle = self._loop.call_later(max(0.0, self._armed_for - self._clock()), self._fired)

    def _fired(self) -> None:
        self._handle = None
        self.run_due()
