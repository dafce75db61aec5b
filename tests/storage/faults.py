"""A store that fails on demand: the same Protocol around any back end, for tests of what is above a store.

It injects what a distributed back end does by itself: a commit that is lost before it takes effect, one that takes effect and
whose answer is lost, one that takes effect a little later than its answer, and a store that is away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any, cast

from storage import errors, interfaces, records


class Fault(Enum):
    """What becomes of the next commit."""

    REFUSED = "FAILED is answered; nothing happened"
    LOST = "UNKNOWN is answered; nothing happened"
    UNANSWERED = "UNKNOWN is answered; it was stored"
    LATE = "UNKNOWN is answered; it is stored when the next commit or load comes, before it"


class FaultyStore:
    """Delegates everything to `inner`; `faults` holds what befalls the commits to come, in order (none left: nothing)."""

    def __init__(self, inner: interfaces.Store) -> None:
        self.inner = inner
        self.faults: deque[Fault] = deque()
        self.away = False
        self._late: list[Sequence[records.Write]] = []
        self._arriving = asyncio.Lock()

    async def commit(self, batch: Sequence[records.Write]) -> list[records.Outcome]:
        await self._arrive()
        fault = self.faults.popleft() if self.faults else None
        if fault is None:
            return await self.inner.commit(batch)
        if fault is Fault.REFUSED:
            return [records.Outcome(records.Result.FAILED, "injected")] * len(batch)
        if fault is Fault.UNANSWERED:
            await self.inner.commit(batch)
        elif fault is Fault.LATE:
            self._late.append(batch)
        return [records.Outcome(records.Result.UNKNOWN, "injected")] * len(batch)

    async def _arrive(self) -> None:
        async with self._arriving:  # whoever comes meanwhile comes after
            late, self._late = self._late, []
            for batch in late:
                await self.inner.commit(batch)

    @property
    def store(self) -> interfaces.Store:
        """This object, typed as what it stands for (the type checker cannot see what `__getattr__` gives)."""
        return cast(interfaces.Store, self)

    @property
    def healthy(self) -> bool:
        return self.inner.healthy and not self.away

    @property
    def damaged(self) -> str:
        return self.inner.damaged

    @property
    def incarnation(self) -> int:
        return self.inner.incarnation

    @property
    def node_epoch(self) -> int:
        return self.inner.node_epoch

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def call(*args: Any) -> Any:
            if self.away and name != "close":
                raise errors.Unavailable("injected")
            if name == "load":
                await self._arrive()
            return await method(*args)

        return call
