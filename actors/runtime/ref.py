"""The reference to an actor. It is also the actor's mailbox and run state, so that a tell touches one object.

Run state, in two slots:

    `_actor`  `_queue`
    set       a deque   being made: what comes in waits until `begin`
    set       None      idle: nothing waits, nothing is being handled
    set       a deque   on the run queue, or in its turn, or suspended in an async handler
    None      None      dead, for ever

so `tell` decides with one look at `_queue` whether the actor has to be put on the run queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

import pykka
from pykka import messages

from actors.runtime import errors, future, mailbox

if TYPE_CHECKING:
    from actors.runtime.actor import Actor
    from actors.runtime.future import Cancellable, Future
    from actors.runtime.runtime import Runtime

A = TypeVar("A", bound="Actor")


class Watcher(Protocol):
    """Who is told of an actor's end: its supervisor."""

    def actor_ended(self, ref: ActorRef[Any], key: Any, error: BaseException | None) -> None:
        """`ref` is dead. `error` is None when it was stopped. Called on the loop, after its hooks have run (an
        async `on_stop` has been awaited), never from inside another actor's turn unless that turn ended it."""


class Stopped:
    """What `actor_stopped` shows: a flag to read, without the lock and the condition of a `threading.Event`."""

    __slots__ = ("_ref",)

    def __init__(self, ref: ActorRef[Any]) -> None:
        self._ref = ref

    def is_set(self) -> bool:
        return self._ref._actor is None


class ActorRef(pykka.ActorRef[A]):
    """Pykka's reference with lanes. `tell*`, `ask` and `stop` may be called from any thread."""

    __slots__ = (
        "_actor",
        "_key",
        "_limit",
        "_pending",
        "_queue",
        "_runtime",
        "_system",
        "_urn",
        "_watcher",
        "actor_class",
    )

    def __init__(self, actor: A, runtime: Runtime) -> None:
        # Pykka's own initialiser is not called: it makes a weak reference, and asks for URN, inbox and event.
        self._actor: A | None = actor
        self._queue: deque[Any] | None = deque()
        self._system: deque[Any] | None = None
        self._runtime = runtime
        self._limit = actor.mailbox_limit
        self._pending: set[Cancellable] | None = None
        self._urn: str | None = None
        self._watcher: Watcher | None = None
        self._key: Any = None
        self.actor_class = actor.__class__

    # -- what Pykka's reference shows

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # an attribute there, made on demand here
        """The actor's URN, made when first asked for."""
        return self._urn or self._runtime.registry.name(self)

    @property
    def actor_inbox(self) -> mailbox.Inbox:  # type: ignore[override]
        return self.actor_class._create_actor_inbox().bind(self)

    @property
    def actor_stopped(self) -> Stopped:  # type: ignore[override]
        """A light object with `is_set()`."""
        return Stopped(self)

    def _actor_weakref(self) -> A | None:  # type: ignore[override]
        # Pykka's proxies reach the actor through this. The reference here is strong and is dropped at death.
        return self._actor

    def is_alive(self) -> bool:
        """Whether the actor has not stopped or failed."""
        return self._actor is not None

    # -- telling

    def tell(self, message: Any) -> None:
        """Queue a message that may be refused, such as a client's command.

        Raises ActorDeadError, and MailboxFull while `mailbox_limit` messages wait; then nothing was queued.
        """
        runtime = self._runtime
        if get_ident() != runtime.thread_id:
            runtime.inject(self, mailbox.LANE_TELL, message)
            return
        queue = self._queue
        if queue is None:
            queue = self._wake()
        elif len(queue) >= self._limit:
            raise errors.MailboxFull(f"{self.actor_class.__name__}: {self._limit} messages are waiting")
        queue.append(message)

    def tell_committed(self, message: Any) -> None:
        """Queue a message that reports what has already happened (a completion, a committed event): in the same
        order as `tell`, never refused for lack of room. Raises ActorDeadError."""
        runtime = self._runtime
        if get_ident() != runtime.thread_id:
            runtime.inject(self, mailbox.LANE_COMMITTED, message)
            return
        queue = self._queue
        if queue is None:
            queue = self._wake()
        queue.append(message)

    def tell_system(self, message: Any) -> None:
        """Queue a message that is taken before all others: supervision, shutdown. Never refused for lack of room.
        Raises ActorDeadError."""
        runtime = self._runtime
        if get_ident() != runtime.thread_id:
            runtime.inject(self, mailbox.LANE_SYSTEM, message)
            return
        if self._queue is None:
            self._wake()
        system = self._system
        if system is None:
            system = self._system = deque()
        system.append(message)

    def begin(self, has_on_start: bool) -> None:
        """Have messages handled from now on, after `on_start` if there is one. Once, on the loop's thread."""
        if self._actor is None:
            return
        if has_on_start:
            if self._system is None:
                self._system = deque()
            self._system.appendleft(mailbox.START)
        if self._queue or self._system is not None:
            self._runtime.resume(self)
        else:
            self._queue = None

    def _wake(self) -> deque[Any]:
        """Put an idle actor on the run queue, with a fresh mailbox."""
        if self._actor is None:
            raise errors.ActorDeadError(f"{self} not found")
        queue = self._queue = deque()
        runtime = self._runtime
        runtime.ready.append(self)
        if not runtime.armed:
            runtime.arm()
        return queue

    # -- asking

    @overload
    def ask(self, message: Any, *, block: Literal[False] | None = None, timeout: float | None = None) -> Future[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool | None = None, timeout: float | None = None) -> Any | Future[Any]: ...

    def ask(self, message: Any, *, block: bool | None = None, timeout: float | None = None) -> Any | Future[Any]:
        """Queue a message (bounded, like `tell`) and return the future of the answer.

        The future raises what the handler raised, ActorDeadError when the actor is or ends before it answers,
        MailboxFull, or Timeout after `timeout` seconds. `block=True` waits for it, which a thread with an event loop
        may not (BlockingOnLoop); so does an assignment through a proxy, which has nothing one could await: on the
        loop, await `ask(ProxySetAttr(path, value), block=False)` instead.
        """
        if block is None:
            block = type(message) is messages.ProxySetAttr
        if block:
            future.refuse_on_loop("wait for an actor's answer")
        reply = self.actor_class._create_future()
        try:
            self.tell(mailbox.Ask(message, reply))
        except (errors.ActorDeadError, errors.MailboxFull) as error:
            reply.try_set(error=error)
        else:
            if timeout is not None and not block:
                self._runtime.expire(reply, timeout)
        return reply.get(timeout=timeout) if block else reply

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False] = False, timeout: float | None = None) -> Future[bool]: ...

    @overload
    def stop(self, *, block: bool = False, timeout: float | None = None) -> bool | Future[bool]: ...

    def stop(self, *, block: bool = False, timeout: float | None = None) -> bool | Future[bool]:
        """Ask the actor to stop once it has handled what is queued. Never refused for lack of room.

        The future's value is True when it has stopped (`on_stop` included), False if it was dead already; Timeout
        after `timeout` seconds, while the actor goes on stopping.
        """
        if block:
            future.refuse_on_loop("wait for an actor to stop")
        reply: Future[bool] = self.actor_class._create_future()
        try:
            self.tell_committed(mailbox.Ask(messages._ActorStop(), reply))
        except errors.ActorDeadError:
            reply.try_set(False)
        else:
            if timeout is not None and not block:
                self._runtime.expire(reply, timeout)
        return reply.get(timeout=timeout) if block else reply

    def stop_now(self) -> bool:
        """Stop the actor within this call if it is idle; False, and nothing is done, if it is not.

        For the loop's thread. Between the check and the death no message can come in, from no thread: each either
        makes the actor busy first, or raises ActorDeadError, and its sender may start a new one.
        """
        return self._runtime.stop_idle(self)

    def kill(self, reason: BaseException | None = None) -> None:
        """Fail the actor before its next message; an async handler that is suspended is cancelled. Dead: only a last
        hook that is still running is cancelled.

        What is queued is dropped, asks among it are answered ActorDeadError. `on_failure` gets `reason`
        (default: Killed), unless `on_start` has not run yet.
        """
        self._runtime.kill(self, reason if reason is not None else errors.Killed("killed"))

    # -- idleness and supervision, for the loop's thread

    def is_idle(self) -> bool:
        """Whether nothing is queued, handled, piped or scheduled for this actor: it may be put to sleep."""
        return self._queue is None and not self._pending and not self._runtime.has_inbound(self)

    def backlog(self) -> int:
        """Messages that wait, in all lanes."""
        waiting = 0 if self._queue is None else len(self._queue)
        return waiting if self._system is None else waiting + len(self._system)

    def waiting(self) -> list[Any]:
        """What is queued and not handled, without the system lane: so that an actor that is about to fail can answer it."""
        return [] if self._queue is None else list(self._queue)

    def watch(self, watcher: Watcher, key: Any = None) -> None:
        """Have `watcher` told, once, when the actor ends. It has one watcher; if it is dead already, raises
        ActorDeadError."""
        if self._actor is None:
            raise errors.ActorDeadError(f"{self} not found")
        self._watcher = watcher
        self._key = key

    @property
    def runtime(self) -> Runtime:
        """The runtime the actor lives in."""
        return self._runtime

    def unwatch(self) -> None:
        """Have nobody told when the actor ends."""
        self._watcher = None
        self._key = None

    def add_pending(self, work: Cancellable) -> None:
        """Note work that ends in a message to this actor. Raises ActorDeadError."""
        if self._actor is None:
            raise errors.ActorDeadError(f"{self} not found")
        if self._pending is None:
            self._pending = set()
        self._pending.add(work)

    def remove_pending(self, work: Cancellable) -> None:
        if self._pending is not None:
            self._pending.discard(work)
            if not self._pending:
                self._pending = None

    def pending(self) -> int:
        """Timers and piped awaitables that are running for this actor."""
        return 0 if self._pending is None else len(self._pending)


def watch_with(callback: Callable[[ActorRef[Any], BaseException | None], None]) -> Watcher:
    """A watcher made of a function `(ref, error)`."""
    return _CallbackWatcher(callback)


class _CallbackWatcher:
    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[ActorRef[Any], BaseException | None], None]) -> None:
        self._callback = callback

    def actor_ended(self, ref: ActorRef[Any], key: Any, error: BaseException | None) -> None:
        self._callback(ref, error)
