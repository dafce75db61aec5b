"""The runtime: one run queue for all actors of one event loop.

An actor with messages stands on `ready` once. One callback per tick of the loop, `_drain`, takes actors from its
front and gives each a turn of a few messages. Both the turn and the tick are bounded, so that no actor keeps the
others waiting and the actors together do not keep the sockets waiting.

A handler that returns a coroutine suspends its actor: the coroutine runs as a task, and the actor goes back on
`ready` when it ends. Nobody else has a task.

Other threads reach an actor through `inject`: a locked list that is emptied on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

import pykka
from pykka import messages

from actors.runtime import errors, mailbox
from actors.runtime.registry import Registry
from actors.runtime.timers import Timers

if TYPE_CHECKING:
    from actors.runtime.actor import Actor
    from actors.runtime.future import Future
    from actors.runtime.ref import ActorRef

logger = logging.getLogger("actors.runtime")

TURN_BUDGET = 32
"""Messages one actor handles before the next has its turn. Long enough to spread the cost of a turn (0.3 us), short
enough that a busy actor delays the others by about 2 ms when a message costs 66 us."""

TICK_BUDGET = 128
"""Messages all actors handle before the loop looks at its sockets again: 8 ms at 66 us a message, while one round of
the loop costs about 5 us, 4 % of the 128 cheapest messages."""

STOP_TIMEOUT_S = 10.0
"""Seconds an actor may take to stop when the runtime stops; then it is killed."""


class Suspension:
    """An async handler that is being awaited."""

    __slots__ = ("cancelled_at", "fault", "handling", "reply", "since", "task")

    def __init__(self, handling: str, reply: Future[Any] | None, since: float) -> None:
        self.handling = handling
        self.reply = reply
        self.since = since
        self.task: asyncio.Task[None] | None = None
        self.fault: BaseException | None = None
        self.cancelled_at: float | None = None


class Pipe:
    """An awaitable that runs for an actor."""

    __slots__ = ("_future", "_ref", "_wrap")

    def __init__(self, ref: ActorRef[Any], future: asyncio.Future[Any], wrap: Callable[[Any], Any]) -> None:
        self._ref = ref
        self._future = future
        self._wrap = wrap

    def cancel(self) -> None:
        self._future.cancel()

    def ended(self, future: asyncio.Future[Any]) -> None:
        try:
            outcome = future.result()
        except BaseException as error:  # the actor decides what it means
            outcome = error
        if self._ref.is_alive():
            self._ref.remove_pending(self)
            self._ref.tell_committed(mailbox.Piped(outcome, self._wrap))


class Runtime:
    """Hosts the actors of one loop. A loop has one runtime; `start` and `stop` it on that loop.

    `clock` gives seconds and never goes back (default: the loop's). `registry`, `timers` and the counters
    `handled` (messages) and `failed` (actors) are there to be read.
    """

    _by_loop: ClassVar[dict[asyncio.AbstractEventLoop, Runtime]] = {}

    def __init__(self, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] | None = None) -> None:
        self.loop = loop
        self.clock = clock if clock is not None else loop.time
        self.registry = Registry()
        self.timers = Timers(loop, self.clock)
        self.thread_id = 0
        self.ready: deque[ActorRef[Any]] = deque()
        self.armed = False
        self.running: ActorRef[Any] | None = None  # whose turn it is; a watchdog's thread reads it
        self.suspended: dict[ActorRef[Any], Suspension] = {}
        self.handled = 0
        self.failed = 0
        self._lock = threading.Lock()
        self._inbound: list[tuple[ActorRef[Any], int, Any]] = []
        self._inbound_counts: dict[ActorRef[Any], int] = {}
        self._endings: set[asyncio.Task[None]] = set()

    # -- life

    @classmethod
    def current(cls) -> Runtime:
        """The runtime of the loop this thread runs; on a thread without a loop, the only one there is. Raises
        NoRuntime."""
        loop = asyncio._get_running_loop()
        if loop is not None:
            runtime = cls._by_loop.get(loop)
            if runtime is not None:
                return runtime
        elif len(cls._by_loop) == 1:
            return next(iter(cls._by_loop.values()))
        raise errors.NoRuntime("no Runtime is started here: Runtime(loop).start() comes first")

    def start(self) -> Runtime:
        """Begin to host actors. Call it on the loop's thread; a second runtime on one loop is refused."""
        if self._by_loop.setdefault(self.loop, self) is not self:
            raise RuntimeError("this loop has a runtime already")
        self.thread_id = threading.get_ident()
        return self

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop all actors, last started first, each after what it has queued; those that take longer than
        `timeout_s` seconds are killed. Then this loop hosts no actors."""
        everyone = self.registry.get_all()
        for ref in everyone:
            ref.unwatch()  # nobody restarts what stops now
        for ref in reversed(everyone):
            try:
                await ref.stop(timeout=timeout_s)
            except errors.Timeout:
                logger.warning("%s did not stop within %s s and is killed", ref, timeout_s)
                self._end(ref, errors.Killed("the runtime stopped"))
        for task in list(self._endings):
            await asyncio.wait([task], timeout=timeout_s)
        self.timers.close()
        self._by_loop.pop(self.loop, None)

    def arm(self) -> None:
        """Have `_drain` called in the next tick."""
        self.armed = True
        self.loop.call_soon(self._drain)

    # -- other threads

    def inject(self, ref: ActorRef[Any], lane: int, message: Any) -> None:
        """Tell from another thread. Raises as the lane's tell does."""
        with self._lock:
            if ref._actor is None:
                raise errors.ActorDeadError(f"{ref} not found")
            waiting = self._inbound_counts.get(ref, 0)
            if lane == mailbox.LANE_TELL:
                queue = ref._queue
                if waiting + (0 if queue is None else len(queue)) >= ref._limit:
                    raise errors.MailboxFull(f"{ref.actor_class.__name__}: {ref._limit} messages are waiting")
            self._inbound_counts[ref] = waiting + 1
            self._inbound.append((ref, lane, message))
            first = len(self._inbound) == 1
        if first:
            try:
                self.loop.call_soon_threadsafe(self._take_inbound)
            except RuntimeError as error:  # the loop is closed
                raise errors.ActorDeadError(f"{ref} has no running loop") from error

    def _take_inbound(self) -> None:
        with self._lock:
            inbound, self._inbound = self._inbound, []
            self._inbound_counts = {}
        for ref, lane, message in inbound:
            if ref._actor is None:
                self._refuse(ref, message)
            elif lane == mailbox.LANE_SYSTEM:
                ref.tell_system(message)
            else:
                ref.tell_committed(message)  # it was accepted within the limit

    def has_inbound(self, ref: ActorRef[Any]) -> bool:
        return ref in self._inbound_counts

    def expire(self, reply: Future[Any], timeout_s: float) -> None:
        """Fail `reply` with Timeout after `timeout_s` seconds. From any thread."""
        if threading.get_ident() != self.thread_id:
            self.loop.call_soon_threadsafe(self.expire, reply, timeout_s)
            return

        def give_up() -> None:
            reply.try_set(error=errors.Timeout(f"{timeout_s} seconds"))

        reply.expire_with(self.timers.call_later(timeout_s, give_up))

    # -- running

    def _drain(self) -> None:
        """One tick's worth of turns."""
        ready = self.ready
        special = mailbox.SPECIAL
        budget = TICK_BUDGET
        while ready and budget > 0:
            ref = ready.popleft()
            queue = ref._queue
            actor = ref._actor
            if queue is None or actor is None:
                continue  # it died while it waited for its turn
            self.running = ref
            left = TURN_BUDGET
            try:
                on_receive = actor.on_receive
                while left:
                    if ref._system is not None:
                        message = self._take_system(ref)
                    elif queue:
                        message = queue.popleft()
                    else:
                        ref._queue = None
                        break
                    left -= 1
                    if message.__class__ in special:
                        if not self._handle_special(ref, actor, message):
                            break
                    else:
                        result = on_receive(message)
                        if result.__class__ is CoroutineType:
                            self._suspend(ref, result, None)
                            break
                else:
                    ready.append(ref)
            except BaseException as error:  # whatever it is, it ends this actor and no other
                self._end(ref, error)
            budget -= TURN_BUDGET - left
        self.running = None
        self.handled += TICK_BUDGET - budget
        if ready:
            self.loop.call_soon(self._drain)
        else:
            self.armed = False

    @staticmethod
    def _take_system(ref: ActorRef[Any]) -> Any:
        system = ref._system
        assert system is not None
        message = system.popleft()
        if not system:
            ref._system = None
        return message

    def _handle_special(self, ref: ActorRef[Any], actor: Actor, message: Any) -> bool:
        """Handle what is more than a told message. False when the turn is over: suspended, or dead."""
        kind = message.__class__
        reply: Future[Any] | None = None
        if kind is mailbox.Ask:
            reply = message.reply
            message = message.message
            kind = message.__class__
        if kind is messages._ActorStop:
            self._end(ref, None, reply)
            return False
        if kind is mailbox.Kill:
            self._end(ref, message.reason)
            return False
        try:
            if kind is mailbox.Start:
                result: Any = self._run_on_start(ref, actor)
                if ref._actor is None:
                    return False
            elif kind is mailbox.Piped:
                result = actor.on_receive(message.wrap(message.outcome))
            elif kind in mailbox.PROXY:
                result = actor._handle_receive(message)
            else:
                result = actor.on_receive(message)
        except BaseException as error:
            if not self._answer_error(ref, reply, error):
                raise
            return True
        if result.__class__ is CoroutineType:
            self._suspend(ref, result, reply, starting=kind is mailbox.Start)
            return False
        if reply is not None:
            reply.try_set(result)
        return True

    def _run_on_start(self, ref: ActorRef[Any], actor: Actor) -> Any:
        try:
            return actor.on_start()
        except BaseException as error:
            self._end(ref, error, hook=False)
            return None

    def _answer_error(self, ref: ActorRef[Any], reply: Future[Any] | None, error: BaseException) -> bool:
        """Give a handler's exception to the asker, if there is one. False when the actor has to fail of it."""
        if reply is None:
            return False
        if isinstance(error, Exception):
            logger.info("Exception returned from %s to caller:", ref, exc_info=error)
            reply.try_set(error=error)
            return True
        # CancelledError and its like would end the asker as well: it hears that the actor is dead.
        dead = errors.ActorDeadError(f"{ref} failed while handling the message")
        dead.__cause__ = error
        reply.try_set(error=dead)
        return False

    # -- async handlers

    def _suspend(
        self, ref: ActorRef[Any], handler: Coroutine[Any, Any, Any], reply: Future[Any] | None, *, starting: bool = False
    ) -> None:
        suspension = Suspension(getattr(handler, "__qualname__", repr(handler)), reply, self.clock())
        self.suspended[ref] = suspension
        suspension.task = self.loop.create_task(self._await_handler(ref, handler, suspension, starting))

    async def _await_handler(
        self, ref: ActorRef[Any], handler: Coroutine[Any, Any, Any], suspension: Suspension, starting: bool
    ) -> None:
        error: BaseException | None = None
        result: Any = None
        try:
            result = await handler
        except GeneratorExit:  # the loop is gone
            raise
        except BaseException as raised:
            error = raised
        if self.suspended.get(ref) is not suspension:
            return  # it was given up
        del self.suspended[ref]
        if suspension.fault is not None:
            self._answer_dead(ref, suspension.reply, suspension.fault)
            self._end(ref, suspension.fault, hook=not starting)
            return
        if error is not None:
            if not self._answer_error(ref, suspension.reply, error):
                self._end(ref, error, hook=not starting)
                return
        elif suspension.reply is not None:
            suspension.reply.try_set(result)
        self.ready.append(ref)
        if not self.armed:
            self.arm()

    def cancel_handler(self, ref: ActorRef[Any], fault: BaseException) -> None:
        """Cancel the suspended handler of `ref`; when it has ended, the actor fails with `fault`."""
        suspension = self.suspended.get(ref)
        if suspension is not None and suspension.fault is None and suspension.task is not None:
            suspension.fault = fault
            suspension.cancelled_at = self.clock()
            suspension.task.cancel()

    def give_up_handler(self, ref: ActorRef[Any]) -> None:
        """Fail an actor whose handler does not end although it was cancelled; what it does later has no effect."""
        suspension = self.suspended.pop(ref, None)
        if suspension is not None and suspension.fault is not None:
            self._answer_dead(ref, suspension.reply, suspension.fault)
            self._end(ref, suspension.fault)

    # -- pipes

    def pipe(self, ref: ActorRef[Any], awaitable: Awaitable[Any], wrap: Callable[[Any], Any]) -> None:
        if ref._actor is None:
            raise errors.ActorDeadError(f"{ref} not found")
        future = asyncio.ensure_future(awaitable, loop=self.loop)
        pipe = Pipe(ref, future, wrap)
        ref.add_pending(pipe)
        future.add_done_callback(pipe.ended)

    @staticmethod
    def pipes_of(ref: ActorRef[Any]) -> int:
        return 0 if ref._pending is None else sum(isinstance(work, Pipe) for work in ref._pending)

    # -- ending

    def kill(self, ref: ActorRef[Any], reason: BaseException) -> None:
        if threading.get_ident() != self.thread_id:
            self.loop.call_soon_threadsafe(self.kill, ref, reason)
        elif ref in self.suspended:
            self.cancel_handler(ref, reason)
        elif ref._actor is not None:
            ref.tell_system(mailbox.Kill(reason))
            assert ref._system is not None
            ref._system.rotate(1)  # to the front

    def stop_idle(self, ref: ActorRef[Any]) -> bool:
        with self._lock:  # another thread's tell is either counted already, or finds the actor dead
            if ref._actor is None or not ref.is_idle():
                return False
            actor = ref._actor
            ref._actor = None
        self._finish(ref, actor, None)
        return True

    def _end(
        self,
        ref: ActorRef[Any],
        error: BaseException | None,
        reply: Future[Any] | None = None,
        *,
        hook: bool = True,
    ) -> None:
        """End an actor: `error` None is a stop (`on_stop`), otherwise a failure (`on_failure`, if `hook`)."""
        actor = ref._actor
        if actor is None:
            return
        ref._actor = None
        suspension = self.suspended.pop(ref, None)
        if suspension is not None and suspension.task is not None:
            suspension.task.cancel()
            self._answer_dead(ref, suspension.reply, error)
        self._finish(ref, actor, error, reply, hook=hook)

    def _finish(
        self,
        ref: ActorRef[Any],
        actor: Actor,
        error: BaseException | None,
        reply: Future[Any] | None = None,
        *,
        hook: bool = True,
    ) -> None:
        left = [*(ref._system or ()), *(ref._queue or ())]
        ref._system = None
        ref._queue = None
        self.registry.unregister(ref)
        pending, ref._pending = ref._pending, None
        for work in pending or ():
            work.cancel()
        result: Any = None
        if error is not None:
            self.failed += 1
            logger.error("Unhandled exception in %s:", ref, exc_info=error)
        try:
            if error is None:
                result = actor.on_stop()  # type: ignore[func-returns-value]  # an override may be async
            elif hook:
                result = actor.on_failure(type(error), error, error.__traceback__)  # type: ignore[func-returns-value]
        except BaseException:
            logger.exception("Unhandled exception in the last hook of %s:", ref)
        if result.__class__ is CoroutineType:
            task = self.loop.create_task(self._await_hook(ref, result, error, reply, left))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)
        else:
            self._ended(ref, error, reply, left)

    async def _await_hook(
        self,
        ref: ActorRef[Any],
        hook: Coroutine[Any, Any, Any],
        error: BaseException | None,
        reply: Future[Any] | None,
        left: list[Any],
    ) -> None:
        try:
            await hook
        except GeneratorExit:
            raise
        except BaseException:
            logger.exception("Unhandled exception in the last hook of %s:", ref)
        self._ended(ref, error, reply, left)

    def _ended(
        self, ref: ActorRef[Any], error: BaseException | None, reply: Future[Any] | None, left: list[Any]
    ) -> None:
        if reply is not None:
            reply.try_set(True)
        for message in left:
            self._refuse(ref, message)
        watcher, ref._watcher = ref._watcher, None
        if watcher is not None:
            try:
                watcher.actor_ended(ref, ref._key, error)
            except Exception:
                logger.exception("the watcher of %s raised", ref)

    def _refuse(self, ref: ActorRef[Any], message: Any) -> None:
        """Answer a message that a dead actor will not handle."""
        if message.__class__ is not mailbox.Ask:
            return
        if isinstance(message.message, messages._ActorStop):
            message.reply.try_set(True)
        else:
            error = pykka.ActorDeadError(f"{ref} stopped before handling the message")
            message.reply.try_set(error=error)

    def _answer_dead(self, ref: ActorRef[Any], reply: Future[Any] | None, cause: BaseException | None) -> None:
        if reply is not None:
            dead = errors.ActorDeadError(f"{ref} ended while handling the message")
            dead.__cause__ = cause
            reply.try_set(error=dead)
