"""What is awaited for actors, and what is done about that which hangs.

*Coroutines* that an actor waits for: its async handlers and last hooks. The actor of a suspended handler is on no run
queue and handles nothing, the system lane included, until the handler has ended. One that awaits longer than its
actor's `await_limit_s` is cancelled, and is over once it has ended, so that a handler's `finally` never runs beside
`on_failure`; one that swallows the cancellation is given up after a grace.

*Pipes*, for which nobody waits. One that takes longer than its actor's `slow_pipe_s` is reported and goes on: the
commit of a disk that stands still has to be waited for, however long it takes.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from actors.runtime import callbacks, endings, errors

if TYPE_CHECKING:
    from actors.runtime.future import Future
    from actors.runtime.pipes import Pipe
    from actors.runtime.ref import ActorRef
    from actors.runtime.runtime import Runtime

logger = logging.getLogger("actors.runtime")

SWEEP_S = 0.5
"""Seconds between two looks at what is awaited, while there is anything: a tenth of the usual limit."""

Ended = Callable[[Any, BaseException | None, BaseException | None], None]
"""Called with the result of a coroutine, or what it raised; and why it was cancelled, if it was."""


class Suspension:
    """One coroutine that is being awaited since `since` (seconds of the runtime's clock)."""

    __slots__ = ("cancelled_at", "ended", "fault", "name", "since", "task")

    def __init__(self, name: str, ended: Ended, since: float) -> None:
        self.name = name
        self.ended = ended
        self.since = since
        self.task: asyncio.Task[None] | None = None
        self.fault: BaseException | None = None
        self.cancelled_at = 0.0


class Suspended:
    """The suspended handlers and last hooks, and the running pipes, of one runtime. `hung` counts what was too slow."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._suspensions: dict[ActorRef[Any], Suspension] = {}
        self._pipes: dict[Pipe, None] = {}
        self._sweeping = False
        self.hung = 0

    def __len__(self) -> int:
        return len(self._suspensions)

    def begin(self, ref: ActorRef[Any], coroutine: Coroutine[Any, Any, Any], ended: Ended) -> None:
        """Await `coroutine` for `ref`, which has no other; `ended` is called once, when it has ended or is given up."""
        runtime = self._runtime
        name = getattr(coroutine, "__qualname__", type(coroutine).__name__)
        suspension = Suspension(name, ended, runtime.clock())
        self._suspensions[ref] = suspension
        suspension.task = runtime.loop.create_task(self._await(ref, coroutine, suspension))
        self._look_after()

    def handle(
        self,
        ref: ActorRef[Any],
        handler: Coroutine[Any, Any, Any],
        reply: Future[Any] | None,
        *,
        starting: bool = False,
    ) -> None:
        """Await `handler` for `ref`; its result goes to `reply`. `starting`: it is `on_start`."""
        self.begin(ref, handler, functools.partial(self._handled, ref, reply, starting))

    def cancel(self, ref: ActorRef[Any], fault: BaseException) -> bool:
        """Cancel what is awaited for `ref`, because of `fault`. False: nothing is."""
        suspension = self._suspensions.get(ref)
        if suspension is None:
            return False
        if suspension.fault is None:
            suspension.fault = fault
            suspension.cancelled_at = self._runtime.clock()
            self._cancel_task(suspension)
        return True

    def awaited(self, ref: ActorRef[Any]) -> Suspension | None:
        """What is awaited for `ref`."""
        return self._suspensions.get(ref)

    def give_up(self, ref: ActorRef[Any], suspension: Suspension | None) -> None:
        """Wait no more for this, if it is still what is awaited for `ref`: it has been cancelled, or is now. What it
        does later has no effect."""
        if suspension is not None and self._suspensions.get(ref) is suspension:
            del self._suspensions[ref]
            self._cancel_task(suspension)
            suspension.ended(None, None, suspension.fault or errors.Killed("given up"))

    def add_pipe(self, pipe: Pipe) -> None:
        """Look after a pipe that has begun."""
        self._pipes[pipe] = None
        self._look_after()

    def remove_pipe(self, pipe: Pipe) -> None:
        del self._pipes[pipe]

    def whose(self, task: asyncio.Task[Any]) -> ActorRef[Any] | None:
        """The actor for which `task` runs, if it is one's. From any thread."""
        for ref, suspension in list(self._suspensions.items()):
            if suspension.task is task:
                return ref
        return next((pipe.ref for pipe in list(self._pipes) if pipe.future is task), None)

    def _cancel_task(self, suspension: Suspension) -> None:
        assert suspension.task is not None
        # In the next tick: a task that is cancelled before its first step never runs, and so never ends here.
        self._runtime.loop.call_soon(suspension.task.cancel)

    async def _await(self, ref: ActorRef[Any], coroutine: Coroutine[Any, Any, Any], suspension: Suspension) -> None:
        error: BaseException | None = None
        result: Any = None
        try:
            result = await coroutine
        except BaseException as raised:
            if asyncio._get_running_loop() is not self._runtime.loop:
                raise  # the loop is gone, and what it left is thrown away
            error = raised
        if self._suspensions.get(ref) is suspension:  # not given up
            del self._suspensions[ref]
            suspension.ended(result, error, suspension.fault)

    def _handled(
        self,
        ref: ActorRef[Any],
        reply: Future[Any] | None,
        starting: bool,
        result: Any,
        error: BaseException | None,
        fault: BaseException | None,
    ) -> None:
        if fault is not None:
            endings.answer_dead(ref, reply, fault)
            endings.end(ref, fault, hook=not starting)
        elif error is not None and not endings.answer_error(ref, reply, error):
            endings.end(ref, error, hook=not starting)
        else:
            if error is None and reply is not None:
                reply.try_set(result)
            self._runtime.resume(ref)

    def _look_after(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._runtime.timers.call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now = self._runtime.clock()
        for ref, suspension in list(self._suspensions.items()):
            awaited = now - suspension.since
            limit = ref.actor_class.await_limit_s
            if suspension.fault is not None:
                if now - suspension.cancelled_at >= endings.KILL_GRACE_S:
                    self.give_up(ref, suspension)
            elif limit is not None and awaited >= limit:
                assert suspension.task is not None
                self._report(ref, suspension.name, awaited, "is cancelled", suspension.task)
                self.cancel(ref, errors.HandlerTimeout(f"{suspension.name} awaited for {awaited:.1f} s"))
        for pipe in list(self._pipes):
            awaited = now - pipe.since
            limit = pipe.ref.actor_class.slow_pipe_s
            if limit is not None and awaited >= limit and not pipe.reported:
                pipe.reported = True
                self._report(pipe.ref, pipe.name, awaited, "goes on", pipe.future)
        self._sweeping = False
        if self._suspensions or self._pipes:
            self._look_after()

    def _report(self, ref: ActorRef[Any], name: str, awaited: float, then: str, future: asyncio.Future[Any]) -> None:
        self.hung += 1
        frames = future.get_stack() if isinstance(future, asyncio.Task) else []
        where = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in frames]
        logger.error("%s has awaited for %.1f s in %s, which %s: %s", ref, awaited, name, then, where)
        callbacks.notify("the hook for what hangs", self._runtime.hooks.hung, ref, name, awaited)
