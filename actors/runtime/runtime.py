"""The runtime: one run queue for all actors of one event loop.

An actor with messages stands on `ready` once. One callback per tick of the loop, `_drain`, takes actors from its
front and gives each a turn of a few messages. Both the turn and the tick are bounded, so that no actor keeps the
others waiting and the actors together do not keep the sockets waiting.

A handler that returns a coroutine suspends its actor (`suspended.py`): the coroutine runs as a task, and the actor
goes back on `ready` when it ends; so does an async last hook. Nobody else has a task. How an actor ends stands in
`endings.py`.

Other threads reach an actor through `inject`: a locked list that is emptied on the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

from pykka import messages

from actors.runtime import endings, errors, mailbox
from actors.runtime.registry import Registry
from actors.runtime.suspended import Suspended
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


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the owner of a runtime wants to hear of, for its metrics. Called on the loop, in the midst of things: to
    count, not to act."""

    failed: Callable[[ActorRef[Any], BaseException], object] | None = None
    """An actor has failed of this exception."""
    hung: Callable[[ActorRef[Any], str, float], object] | None = None
    """Of an actor, the named async handler or last hook has awaited this many seconds, more than it may, and is
    cancelled; or the named piped awaitable has, and goes on."""


class Runtime:
    """Hosts the actors of one loop. A loop has one runtime; `start` and `stop` it on that loop.

    `clock` gives seconds and never goes back (default: the loop's). `registry`, `timers` and the counters
    `handled` (messages) and `failed` (actors) are there to be read. `ending`: the actors whose async last hook runs,
    each with the messages that are answered when it is over.
    """

    _by_loop: ClassVar[dict[asyncio.AbstractEventLoop, Runtime]] = {}

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.loop = loop
        self.clock = clock if clock is not None else loop.time
        self.hooks = hooks if hooks is not None else Hooks()
        self.registry = Registry()
        self.timers = Timers(loop, self.clock)
        self.thread_id = 0
        self.ready: deque[ActorRef[Any]] = deque()
        self.armed = False
        self.running: ActorRef[Any] | None = None  # whose turn it is; a watchdog's thread reads it
        self.suspended = Suspended(self)
        self.handled = 0
        self.failed = 0
        # All turns run in one context, not in that of whoever happened to wake the first actor of a tick.
        self._context = contextvars.Context()
        self._lock = threading.Lock()
        self._inbound: list[tuple[ActorRef[Any], int, Any]] = []
        self._inbound_counts: dict[ActorRef[Any], int] = {}
        self.ending: dict[ActorRef[Any], list[Any]] = {}

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
        `timeout_s` seconds are killed. What they start as they stop is stopped too, and can start nothing more. Then
        this loop hosts no actors."""
        await self._stop_everyone(timeout_s)
        self._by_loop.pop(self.loop, None)
        await self._stop_everyone(timeout_s)
        self.timers.close()

    async def _stop_everyone(self, timeout_s: float) -> None:
        everyone = self.registry.get_all()
        for ref in everyone:
            ref.unwatch()  # nobody restarts what stops now
        for ref in (*reversed(everyone), *self.ending):
            await endings.stop_or_kill(ref, timeout_s)

    def arm(self) -> None:
        """Have `_drain` called in the next tick."""
        self.armed = True
        self.loop.call_soon(self._drain, context=self._context)

    # -- other threads

    def on_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` on the loop's thread: within this call if it is this one."""
        if threading.get_ident() == self.thread_id:
            function(*args)
        else:
            self.loop.call_soon_threadsafe(function, *args)

    def inject(self, ref: ActorRef[Any], lane: int, message: Any) -> None:
        """Tell from another thread. Raises as the lane's tell does."""
        with self._lock:
            if ref._actor is None or self.loop.is_closed():
                raise errors.ActorDeadError(f"{ref} not found")
            waiting = self._inbound_counts.get(ref, 0)
            if lane == mailbox.LANE_TELL:
                queue = ref._queue
                if waiting + (0 if queue is None else len(queue)) >= ref._limit:
                    raise errors.MailboxFull(f"{ref.actor_class.__name__}: {ref._limit} messages are waiting")
            if not self._inbound:
                try:
                    self.loop.call_soon_threadsafe(self._take_inbound)
                except RuntimeError as error:  # the loop was closed since
                    raise errors.ActorDeadError(f"{ref} has no running loop") from error
            self._inbound_counts[ref] = waiting + 1
            self._inbound.append((ref, lane, message))

    def _take_inbound(self) -> None:
        with self._lock:
            inbound, self._inbound = self._inbound, []
            self._inbound_counts = {}
        for ref, lane, message in inbound:
            if ref._actor is None:
                endings.refuse(ref, message)
            elif lane == mailbox.LANE_SYSTEM:
                ref.tell_system(message)
            else:
                ref.tell_committed(message)  # it was accepted within the limit

    def has_inbound(self, ref: ActorRef[Any]) -> bool:
        return ref in self._inbound_counts

    def expire(self, reply: Future[Any], timeout_s: float) -> None:
        """Fail `reply` with Timeout after `timeout_s` seconds. From any thread."""

        def give_up() -> None:
            reply.try_set(error=errors.Timeout(f"{timeout_s} seconds"))

        self.on_loop(lambda: reply.expire_with(self.timers.call_later(timeout_s, give_up)))

    # -- running

    def _drain(self) -> None:
        """One tick's worth of turns."""
        ready = self.ready
        special = mailbox.SPECIAL
        budget = TICK_BUDGET
        try:
            while ready and budget > 0:
                ref = ready.popleft()
                queue = ref._queue
                actor = ref._actor
                if queue is None or actor is None:
                    continue  # it died while it waited for its turn
                self.running = ref
                left = TURN_BUDGET
                try:
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
                            result = actor.on_receive(message)  # looked up each time: an actor may rebind it
                            if result.__class__ is CoroutineType:
                                self.suspended.handle(ref, result, None)
                                break
                    else:
                        ready.append(ref)
                except BaseException as error:  # whatever it is, it ends this actor and no other
                    endings.end(ref, error)
                budget -= TURN_BUDGET - left
        finally:  # whatever is wrong, the other actors go on
            self.running = None
            self.handled += TICK_BUDGET - budget
            if ready:
                self.arm()
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
            endings.end(ref, None, reply)
            return False
        if kind is mailbox.Kill:
            started = not any(each is mailbox.START for each in ref._system or ())
            endings.end(ref, message.reason, hook=started)
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
            if not endings.answer_error(ref, reply, error):
                raise
            return True
        if result.__class__ is CoroutineType:
            self.suspended.handle(ref, result, reply, starting=kind is mailbox.Start)
            return False
        if reply is not None:
            reply.try_set(result)
        return True

    def _run_on_start(self, ref: ActorRef[Any], actor: Actor) -> Any:
        try:
            return actor.on_start()
        except BaseException as error:
            endings.end(ref, error, hook=False)
            return None

    def resume(self, ref: ActorRef[Any]) -> None:
        """Put an actor that was begun, or whose handler has ended, on the run queue."""
        self.ready.append(ref)
        if not self.armed:
            self.arm()

    # -- from outside

    def kill(self, ref: ActorRef[Any], reason: BaseException) -> None:
        """See `ActorRef.kill`. From any thread."""
        self.on_loop(self._kill, ref, reason)

    def _kill(self, ref: ActorRef[Any], reason: BaseException) -> None:
        if not self.suspended.cancel(ref, reason) and ref._actor is not None:
            ref.tell_system(mailbox.Kill(reason))
            assert ref._system is not None
            ref._system.rotate(1)  # to the front

    def stop_idle(self, ref: ActorRef[Any]) -> bool:
        """See `ActorRef.stop_now`."""
        with self._lock:  # another thread's tell is either counted already, or finds the actor dead
            if ref._actor is None or not ref.is_idle():
                return False
            actor = ref._actor
            ref._actor = None
        endings.finish(ref, actor, None)
        return True
