"""A store that is watched: how long its commits and reads take, and what trouble it reports, for the metrics.

It stands around whatever back end the node was given, so that no back end has to know of metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from storage import errors, interfaces, records
from telemetry import Telemetry

R = TypeVar("R")

#: The calls whose time is that of a read: those that actors and sessions make all the time.
READS = ("load", "head", "range", "item", "page", "parts", "marks", "memberships", "behind", "conversations", "changes")
#: Other calls, whose trouble alone is counted.
CALLS = (
    "erase_expired",
    "create_user",
    "user",
    "user_by_key",
    "user_by_subject",
    "find_users",
    "rename",
    "set_password",
    "delete_user",
    "unfinished_deletions",
    "finish_deletion",
    "add_device",
    "devices",
    "rename_device",
    "revoke_device",
    "find_token",
    "add_token",
    "use_token",
    "add_code",
    "take_code",
    "void_codes",
    "sweep_codes",
    "last_seen",
    "forget_devices",
    "sweep_mentions",
    "trim_changes",
    "probe",
)
#: Outcomes of a write that are the store's trouble; the others are answers to the writer (stored, fenced, conflict).
_TROUBLE = {records.Result.FAILED: "unavailable", records.Result.UNKNOWN: "unknown"}


def measured(store: interfaces.Store, counts: Telemetry, clock: Callable[[], float] = time.perf_counter) -> interfaces.Store:
    """`store`, watched. `clock` gives seconds and never goes back."""
    return cast("interfaces.Store", _Measured(store, counts, clock))


class _Measured:
    """Has every attribute of the store; the methods named above are wrapped once, here."""

    def __init__(self, store: interfaces.Store, counts: Telemetry, clock: Callable[[], float]) -> None:
        self._store = store
        self._counts = counts
        self._clock = clock
        for name in READS:
            setattr(self, name, self._watched(getattr(store, name), counts.read_seconds.observe))
        for name in CALLS:
            setattr(self, name, self._watched(getattr(store, name), None))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, batch: Sequence[records.Write]) -> list[records.Outcome]:
        began = self._clock()
        outcomes = await self._store.commit(batch)
        counts = self._counts
        counts.commit_seconds.observe(self._clock() - began)
        counts.commit_appends.observe(len(batch))
        for outcome in outcomes:
            trouble = _TROUBLE.get(outcome.result)
            if trouble is not None:
                counts.storage_errors[trouble] += 1
        return outcomes

    def _watched(
        self, call: Callable[..., Awaitable[R]], observe: Callable[[float], None] | None
    ) -> Callable[..., Awaitable[R]]:
        clock = self._clock

        def watched(*arguments: Any) -> Awaitable[R]:
            began = clock()

            def ended(future: asyncio.Future[R]) -> None:
                if observe is not None:
                    observe(clock() - began)
                if not future.cancelled() and future.exception() is not None:
                    self._trouble(future.exception())

            # A store that gives a future is not made to pay for a task.
            future = asyncio.ensure_future(call(*arguments))
            future.add_done_callback(ended)
            return future

        return watched

    def _trouble(self, error: BaseException | None) -> None:
        counts = self._counts
        if isinstance(error, errors.Damaged):
            counts.checksum_errors += 1
            counts.storage_errors["damaged"] += 1
        elif isinstance(error, errors.Unavailable):
            counts.storage_errors["unavailable"] += 1
        elif isinstance(error, errors.OutcomeUnknown):
            counts.storage_errors["unknown"] += 1
