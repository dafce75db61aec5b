"""Whose frames are handled next, and who has to wait: what keeps one connection from taking the loop for itself.

What a read brought is handled at once as long as it is little, which it nearly always is. The rest becomes a Backlog, and its
connection is not read meanwhile. All backlogs are worked off in turn, one turn a tick, however many there are: so a tick is
never longer for a flood of a thousand connections than for that of one.

Who was refused is not read until it may go on: TCP holds back what it sends, and a flood costs nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

import telemetry

_log = telemetry.logger("gateway")

#: Frames (single commands of a batch, too) handled in one turn: about half a millisecond, until they are through.
FRAMES_A_TURN = 8
#: Bytes given to the parser at a time. Small frames cost as much to take apart as to handle: 2 KiB are 16 messages of a line,
#: or 300 empty pings. Also what is handled without a backlog.
SLICE = 2048
#: Bytes given to the parser in one turn when few frames come out of them: one message of the largest size.
BYTES_A_TURN = 64 * 1024


class Waiting(Protocol):
    """A connection with a backlog, or one that was refused."""

    def turn(self) -> None:
        """Handle a bounded part of the backlog, and `add` itself again for the rest. Who raises is aborted."""
        ...

    def resume(self) -> None:
        """The wait is over. Who raises is aborted."""
        ...

    def abort(self) -> None:
        """End it: it cannot be relied on any more."""
        ...


class Backlog:
    """What one connection has sent and nobody has looked at: `entries`, taken apart, before `raw`, not taken apart. At most
    what one read brings, as no other follows until it is empty."""

    __slots__ = ("_at", "_raw", "entries", "is_queued")

    def __init__(self, raw: bytes, entries: list[object]) -> None:
        self.entries = entries
        self.is_queued = False
        self._raw = raw
        self._at = 0

    def __bool__(self) -> bool:
        return bool(self.entries) or self._at < len(self._raw)

    def add(self, raw: bytes) -> None:
        """What a transport had under way when it was told to pause."""
        self._raw = self._raw[self._at :] + raw
        self._at = 0

    def rest(self) -> bytes:
        """What is not taken apart, all of it."""
        begin, self._at = self._at, len(self._raw)
        return self._raw[begin:]

    def slice(self) -> bytes:
        """The next bytes; empty at the end."""
        begin = self._at
        self._at = min(begin + SLICE, len(self._raw))
        return self._raw[begin : self._at]


class Turns:
    """The backlogs of one loop, and those who wait."""

    __slots__ = ("_clock", "_count", "_loop", "_queue", "_timer", "_waits")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._queue: deque[Waiting] = deque()
        #: (when, order of arrival, who)
        self._waits: list[tuple[float, int, Waiting]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a backlog that could be worked off."""
        return not self._queue

    def add(self, waiting: Waiting) -> None:
        """It has a backlog; once, until its turn."""
        if not self._queue:
            self._loop.call_soon(self._next)
        self._queue.append(waiting)

    def wait(self, waiting: Waiting, when: float) -> None:
        """Call `waiting.resume` at `when`."""
        self._count += 1
        heapq.heappush(self._waits, (when, self._count, waiting))
        if self._waits[0][2] is waiting:
            self._set(when)

    def wake(self) -> None:
        """Resume those whose time has come."""
        now = self._clock()
        while self._waits and self._waits[0][0] <= now:
            waiting = heapq.heappop(self._waits)[2]
            try:
                waiting.resume()
            except Exception:
                _log.exception("resume_failed")
                waiting.abort()
        if self._waits:
            self._set(self._waits[0][0])

    def stop(self) -> None:
        """Nobody is resumed any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._waits.clear()

    def _next(self) -> None:
        queue = self._queue
        waiting = queue[0]  # it stays until it is through: so what is added meanwhile does not start a second round
        try:
            waiting.turn()
        except Exception:
            # Whatever one client's bytes bring about ends that client, and the others get their turns.
            _log.exception("turn_failed")
            waiting.abort()
        finally:
            queue.popleft()
            if queue:
                self._loop.call_soon(self._next)

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, when - self._clock()), self.wake)
