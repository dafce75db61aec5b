"""Open loops: something is done at a fixed rate, whatever the server does, each time with the moment at which it was due."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

#: Does it once; told when it was due, on the monotonic clock.
Act = Callable[[float], None]


class EnoughError(Exception):
    """Raised by what is done: the loop is to end."""


async def busy(rate: float, seconds: float, act: Act) -> float:
    """Act `rate` times a second for so long, or until EnoughError. Keeps the core busy in between: a timer's delay would be
    part of every figure.

    Returns the longest time (s) that the loop was away, because it had much to do or had lost its core."""
    began = last = time.monotonic()
    total = int(rate * seconds)
    done = 0
    late = 0.0
    while done < total:
        now = time.monotonic()
        late, last = max(late, now - last), now
        try:
            while done < total and (due := began + done / rate) <= now:
                act(due)
                done += 1
        except EnoughError:
            break
        await asyncio.sleep(0)
    return late


async def woken(rate: float, seconds: float, act: Act) -> list[float]:
    """The same, but in between the core is left to other processes, which this one shares it with.

    A timer of the kernel wakes it for each time: those of the event loop are only as fine as a millisecond. Returns how late
    each was (s). In the main thread alone, and once at a time: there is one such timer in a process."""
    every = round(1 / rate, 6)  # as fine as setitimer(2)
    total = max(int(seconds / every), 1)
    late: list[float] = []
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    began = time.monotonic() + every

    def wake() -> None:
        now = time.monotonic()
        while len(late) < total and (due := began + len(late) * every) <= now:
            late.append(now - due)
            act(due)
        if len(late) == total and not ended.done():
            ended.set_result(None)

    loop.add_signal_handler(signal.SIGALRM, wake)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        await ended
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        loop.remove_signal_handler(signal.SIGALRM)
    return late
