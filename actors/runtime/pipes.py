"""Awaitables that run for an actor and end in a message to it (Akka's pipeTo)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors.runtime import errors, mailbox

if TYPE_CHECKING:
    from actors.runtime.ref import ActorRef


class Pipe:
    """One running awaitable. Counts as pending work of its actor."""

    __slots__ = ("_future", "_ref", "_wrap")

    def __init__(self, ref: ActorRef[Any], future: asyncio.Future[Any], wrap: Callable[[Any], Any]) -> None:
        self._ref = ref
        self._future = future
        self._wrap = wrap
        ref.add_pending(self)
        future.add_done_callback(self._ended)

    def cancel(self) -> None:
        self._future.cancel()

    def _ended(self, future: asyncio.Future[Any]) -> None:
        try:
            outcome = future.result()
        except BaseException as error:  # the actor decides what it means
            outcome = error
        if self._ref.is_alive():
            self._ref.remove_pending(self)
            self._ref.tell_committed(mailbox.Piped(outcome, self._wrap))


def begin(ref: ActorRef[Any], awaitable: Awaitable[Any], wrap: Callable[[Any], Any], limit: int) -> None:
    """Run `awaitable` for `ref`. Raises PipesFull at `limit` running ones, and ActorDeadError; then a coroutine
    that was handed in is closed."""
    try:
        if not ref.is_alive():
            raise errors.ActorDeadError(f"{ref} not found")
        if ref.pending() >= limit and running(ref) >= limit:
            raise errors.PipesFull(f"{ref.actor_class.__name__}: {limit} awaitables are running")
    except (errors.PipesFull, errors.ActorDeadError):
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise
    Pipe(ref, asyncio.ensure_future(awaitable, loop=ref._runtime.loop), wrap)


def running(ref: ActorRef[Any]) -> int:
    """Awaitables that run for `ref`."""
    return 0 if ref._pending is None else sum(isinstance(work, Pipe) for work in ref._pending)
