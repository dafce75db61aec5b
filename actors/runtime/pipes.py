"""Awaitables that run for an actor and end in a message to it (Akka's pipeTo). `suspended.py` reports those that hang."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors.runtime import errors, mailbox

if TYPE_CHECKING:
    from actors.runtime.ref import ActorRef


class Pipe:
    """One awaitable that runs since `since` (seconds of the runtime's clock). Counts as pending work of its actor."""

    __slots__ = ("_wrap", "future", "name", "ref", "reported", "since")

    def __init__(self, ref: ActorRef[Any], awaitable: Awaitable[Any], wrap: Callable[[Any], Any]) -> None:
        runtime = ref._runtime
        self.ref = ref
        self.name: str = getattr(awaitable, "__qualname__", type(awaitable).__name__)
        self.since = runtime.clock()
        self.reported = False
        self.future = asyncio.ensure_future(awaitable, loop=runtime.loop)
        self._wrap = wrap
        ref.add_pending(self)
        runtime.suspended.add_pipe(self)
        self.future.add_done_callback(self._ended)

    def cancel(self) -> None:
        self.future.cancel()

    def _ended(self, future: asyncio.Future[Any]) -> None:
        try:
            outcome = future.result()
        except BaseException as error:  # the actor decides what it means
            outcome = error
        self.ref._runtime.suspended.remove_pipe(self)
        if self.ref.is_alive():
            self.ref.remove_pending(self)
            self.ref.tell_committed(mailbox.Piped(outcome, self._wrap))


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
    Pipe(ref, awaitable, wrap)


def running(ref: ActorRef[Any]) -> int:
    """Awaitables that run for `ref`."""
    return 0 if ref._pending is None else sum(isinstance(work, Pipe) for work in ref._pending)
