"""Waiting for what must come: a condition, with a deadline far above what any machine needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

#: Seconds after which what did not come is taken for lost. (K6, `tests/checker/checks.py`, is judged by the history's times.)
DEADLINE_S = 60.0
#: Seconds between two looks.
LOOK_S = 0.01


async def until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until it holds. AssertionError with `what` if it never does."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:.0f} s"
        await asyncio.sleep(LOOK_S)


async def until_true(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """As `until`, for a condition that has to be asked for."""
    end = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < end, f"{what}: not within {deadline_s:.0f} s"
        await asyncio.sleep(LOOK_S)
