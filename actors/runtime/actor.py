"""The actor: Pykka's, lean, run by a `Runtime`.

An idle actor is two objects, itself and its reference. Everything else Pykka gives an actor in its initialiser (URN,
inbox, stop flag) is made when asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Self, TypeVar

import pykka
from pykka import messages

from actors.runtime import endings, future, mailbox, pipes, ref, timers
from actors.runtime.runtime import Runtime

T = TypeVar("T")


class Actor(pykka.Actor):
    """Subclass it, write `on_receive` (or methods for proxies), start it with `MyActor.start(...)`.

    Handlers and hooks may be plain functions or `async def`. One message at a time: while an async handler is
    suspended nothing else is handled, the system lane included; only `ref.kill()` gets through. (Pykka declares its
    hooks to return None, so an async one says `# type: ignore[override]`.)
    Handlers on a hot path are plain functions that never wait: `pipe` turns an awaitable into a later message.
    """

    __slots__ = ("_actor_ref",)

    mailbox_limit: ClassVar[int] = mailbox.DEFAULT_MAILBOX_LIMIT
    """Messages that may wait before `tell` and `ask` are refused. At least 1."""

    pipe_limit: ClassVar[int] = mailbox.DEFAULT_PIPE_LIMIT
    """Piped awaitables that may run at once."""

    await_limit_s: ClassVar[float | None] = 5.0
    """Seconds an async handler or hook may await before it is taken for hung and cancelled; None: as long as it likes."""

    slow_pipe_s: ClassVar[float | None] = 5.0
    """Seconds a piped awaitable may run before it is reported as hung, once; it goes on. None: it never is."""

    _actor_ref: ref.ActorRef[Any]

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Call it first from an override. Raises NoRuntime where no runtime is started.

        Pykka's own initialiser is not called: it takes 1.2 KB for what is made on demand here.
        """
        self._actor_ref = ref.ActorRef(self, Runtime.current())

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> ref.ActorRef[Self]:
        """Make the actor with these arguments, register it and have its `on_start` run in the next tick, before any
        message, also those that its initialiser sends it. What its initialiser raises is raised here; then it is dead."""
        actor = cls.__new__(cls, *args, **kwargs)
        try:
            actor.__init__(*args, **kwargs)  # type: ignore[misc]  # apart from __new__, to have the actor if it raises
            assert hasattr(actor, "_actor_ref"), "Actor.__init__() has not been called: does an override forget it?"
            actor._actor_ref._runtime.registry.register(actor._actor_ref)
            actor._start_actor_loop()
        except BaseException:
            made: ref.ActorRef[Any] | None = getattr(actor, "_actor_ref", None)
            if made is not None:
                made._runtime.on_loop(functools.partial(endings.end, made, None, hook=False))
            raise
        return actor._actor_ref

    @staticmethod
    def _create_actor_inbox() -> mailbox.Inbox:
        return mailbox.Inbox()

    @staticmethod
    def _create_future() -> future.Future[Any]:
        return future.Future()

    def _start_actor_loop(self) -> None:
        has_on_start = type(self).on_start is not pykka.Actor.on_start
        self._actor_ref._runtime.on_loop(self._actor_ref.begin, has_on_start)

    @property
    def actor_ref(self) -> ref.ActorRef[Self]:
        return self._actor_ref

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # attributes there, made on demand here
        return self._actor_ref.actor_urn

    @property
    def actor_inbox(self) -> mailbox.Inbox:  # type: ignore[override]
        return self._actor_ref.actor_inbox

    @property
    def actor_stopped(self) -> ref.Stopped:  # type: ignore[override]
        return self._actor_ref.actor_stopped

    def stop(self) -> None:
        """Stop after what is queued now, as `ActorRef.stop`."""
        self._actor_ref.tell_committed(messages._ActorStop())

    def pipe(self, awaitable: Awaitable[T], wrap: Callable[[T | BaseException], Any]) -> None:
        """Run `awaitable`; its result, or the exception it raised, comes back to this actor as the message
        `wrap(outcome)` in the committed lane (Akka's pipeTo).

        `wrap` is called in this actor's turn. While the awaitable runs the actor is not idle. It is cancelled, and
        no message comes, when the actor ends: the actor owns it. Raises PipesFull over `pipe_limit`, and
        ActorDeadError; then nothing was started.
        """
        pipes.begin(self._actor_ref, awaitable, wrap, self.pipe_limit)

    def schedule(self, delay_s: float, message: Any) -> timers.Timer:
        """Tell this actor `message`, in the committed lane, `delay_s` seconds from now. `cancel()` the timer to
        prevent it. While it is pending the actor is not idle; when the actor ends it is cancelled."""
        return self._actor_ref._runtime.timers.tell_later(delay_s, self._actor_ref, message)
