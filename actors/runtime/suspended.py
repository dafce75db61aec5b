"""Async handlers that are being awaited, and what is done about those that hang.

The actor of a suspended handler is on no run queue and handles nothing, the system lane included, until the handler
has ended. A handler that awaits longer than its actor's `await_limit_s` is cancelled, and the actor fails with
HandlerTimeout once it has ended, so that a handler's `finally` never runs beside `on_failure`; one that swallows the
cancellation is given up after a grace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from actors.runtime import endings, errors

if TYPE_CHECKING:
    from actors.runtime.future import Future
    from actors.runtime.ref import ActorRef
    from actors.runtime.runtime import Runtime

logger = logging.getLogger("actors.runtime")

SWEEP_S = 0.5
"""Seconds between two looks at the suspended handlers, while there are any: a tenth of the usual limit."""


class Suspension:
    """One handler that is being awaited since `since` (seconds of the runtime's clock)."""

    __slots__ = ("cancelled_at", "fault", "name", "reply", "since", "starting", "task")

    def __init__(self, name: str, reply: Future[Any] | None, since: float, starting: bool) -> None:
        self.name = name
        self.reply = reply
        self.since = since
        self.starting = starting
        self.task: asyncio.Task[None] | None = None
        self.fault: BaseException | None = None
        self.cancelled_at = 0.0


class Suspended:
    """The suspended handlers of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._suspensions: dict[ActorRef[Any], Suspension] = {}
        self._sweeping = False
        self.hung = 0

    def __len__(self) -> int:
        return len(self._suspensions)

    def __contains__(self, ref: ActorRef[Any]) -> bool:
        return ref in self._suspensions

    def begin(
        self,
        ref: ActorRef[Any],
        handler: Coroutine[Any, Any, Any],
        reply: Future[Any] | None,
        *,
        starting: bool = False,
    ) -> None:
        """Await `handler` for `ref`; its result goes to `reply`. `starting`: it is `on_start`."""
        runtime = self._runtime
        name = getattr(handler, "__qualname__", type(handler).__name__)
        suspension = Suspension(name, reply, runtime.clock(), starting)
        self._suspensions[ref] = suspension
        suspension.task = runtime.loop.create_task(self._await(ref, handler, suspension))
        if not self._sweeping:
            self._sweeping = True
            runtime.timers.call_later(SWEEP_S, self._sweep)

    def cancel(self, ref: ActorRef[Any], fault: BaseException) -> bool:
        """Cancel the handler of `ref`; when it has ended, the actor fails with `fault`. False: none is suspended."""
        suspension = self._suspensions.get(ref)
        if suspension is None:
            return False
        if suspension.fault is None:
            suspension.fault = fault
            suspension.cancelled_at = self._runtime.clock()
            assert suspension.task is not None
            # In the next tick: a task that is cancelled before its first step never runs, and so never ends here.
            self._runtime.loop.call_soon(suspension.task.cancel)
        return True

    def give_up(self, ref: ActorRef[Any]) -> None:
        """Fail an actor whose handler was cancelled and does not end. What it does later has no effect."""
        suspension = self._suspensions.pop(ref, None)
        if suspension is not None:
            self._fail(ref, suspension, suspension.fault or errors.Killed("given up"))

    async def _await(self, ref: ActorRef[Any], handler: Coroutine[Any, Any, Any], suspension: Suspension) -> None:
        error: BaseException | None = None
        result: Any = None
        try:
            result = await handler
        except GeneratorExit:  # the loop is gone
            raise
        except BaseException as raised:
            error = raised
        if self._suspensions.get(ref) is not suspension:
            return  # it was given up
        del self._suspensions[ref]
        if suspension.fault is not None:
            self._fail(ref, suspension, suspension.fault)
        elif error is not None and not endings.answer_error(ref, suspension.reply, error):
            endings.end(ref, error, hook=not suspension.starting)
        else:
            if error is None and suspension.reply is not None:
                suspension.reply.try_set(result)
            self._runtime.resume(ref)

    @staticmethod
    def _fail(ref: ActorRef[Any], suspension: Suspension, fault: BaseException) -> None:
        endings.answer_dead(ref, suspension.reply, fault)
        endings.end(ref, fault, hook=not suspension.starting)

    def _sweep(self) -> None:
        now = self._runtime.clock()
        for ref, suspension in list(self._suspensions.items()):
            awaited = now - suspension.since
            limit = ref.actor_class.await_limit_s
            if suspension.fault is not None:
                if now - suspension.cancelled_at >= endings.KILL_GRACE_S:
                    self.give_up(ref)
            elif limit is not None and awaited >= limit:
                self._hung(ref, suspension, awaited)
        self._sweeping = bool(self._suspensions)
        if self._sweeping:
            self._runtime.timers.call_later(SWEEP_S, self._sweep)

    def _hung(self, ref: ActorRef[Any], suspension: Suspension, awaited: float) -> None:
        self.hung += 1
        assert suspension.task is not None
        where = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in suspension.task.get_stack()]
        logger.error("%s has awaited for %.1f s in %s and is cancelled: %s", ref, awaited, suspension.name, where)
        hook = self._runtime.hooks.hung
        if hook is not None:
            hook(ref, suspension.name, awaited)
        self.cancel(ref, errors.HandlerTimeout(f"{suspension.name} awaited for {awaited:.1f} s"))
