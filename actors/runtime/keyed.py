"""A supervisor of children that come and go by key (conversations, sessions): the shell around `restarts.key_ended`.

It is no actor: whoever needs a child has to have it in the same tick. `KeyedHost` is the actor that gives it a place
in the tree.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

from actors.runtime import callbacks, endings, errors, restarts
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from actors.runtime.restarts import Backoff, Intensity, KeyTrouble, Restart

logger = logging.getLogger("actors.runtime")

K = TypeVar("K", bound=Hashable)

STOP_TIMEOUT_S = 5.0
"""Seconds all children together may take to stop; then those that are left are killed."""

HOST_SLACK_S = endings.KILL_S + 1.0
"""Seconds a host needs beyond the stop timeout of its children: killing those that are left, and taking its turn."""


class KeyedSupervisor(Generic[K]):
    """Starts, watches and restarts one kind of child, found by key. For the loop's thread.

    `factory(key)` starts the actor of a key. A child that ends as `restart` says is restarted at once, with the same
    factory; over `intensity` its key is quarantined instead, and `start` refuses it until that is over. Nothing is
    started at the end of a quarantine: the next `start` does it.

    Callbacks, all optional: `started(key, ref)` at every start and restart; `ended(key, error)` when a key has no
    child any more (error None: it stopped); `quarantined(key, seconds)`, before `ended`. What they raise is logged.
    `jitter()` gives numbers from 0 up to 1, `clock()` seconds.
    """

    def __init__(
        self,
        factory: Callable[[K], ActorRef[Any]],
        *,
        restart: Restart,
        clock: Callable[[], float],
        intensity: Intensity = Intensity(3, 10.0),  # noqa: B008  frozen
        backoff: Backoff = Backoff(),  # noqa: B008  frozen
        jitter: Callable[[], float] = random.random,
        started: Callable[[K, ActorRef[Any]], object] | None = None,
        ended: Callable[[K, BaseException | None], object] | None = None,
        quarantined: Callable[[K, float], object] | None = None,
    ) -> None:
        self._factory = factory
        self._restart = restart
        self._clock = clock
        self._intensity = intensity
        self._backoff = backoff
        self._jitter = jitter
        self._started = started
        self._ended = ended
        self._quarantined = quarantined
        self._troubles: dict[K, KeyTrouble] = {}
        self._open = True
        self.children: dict[K, ActorRef[Any]] = {}
        """The child of each key that has one, until its last hook has run: so it may be dead, for that long. To be read
        only."""

    def living(self, key: K) -> ActorRef[Any] | None:
        """The child of `key`, if it lives."""
        child = self.children.get(key)
        return child if child is not None and child.is_alive() else None

    def start(self, key: K) -> ActorRef[Any]:
        """The child of `key`, started if there is none that lives: not even one whose last hook still runs is waited for.

        Raises Quarantined, what the factory raises (which counts as a failure of the key), or ActorDeadError after
        `stop`.
        """
        child = self.living(key)
        if child is not None:
            return child
        if not self._open:
            raise errors.ActorDeadError(f"no child for {key!r} is started any more")
        trouble = self._troubles.get(key)
        if trouble is not None:
            wait_s = trouble.quarantined_for(self._clock())
            if wait_s > 0.0:
                raise errors.Quarantined(key, wait_s)
        try:
            return self._begin(key)
        except Exception as error:
            wait_s = self._count(key) if self._restart.applies(failed=True) else 0.0
            if wait_s > 0.0:
                raise errors.Quarantined(key, wait_s) from error
            raise

    def quarantined_for(self, key: K) -> float:
        """Seconds until `key` may be started again; 0 when it may."""
        trouble = self._troubles.get(key)
        return 0.0 if trouble is None else trouble.quarantined_for(self._clock())

    def actor_ended(self, ref: ActorRef[Any], key: Any, error: BaseException | None) -> None:
        """A child has ended: restart it, quarantine its key, or forget it."""
        if self.children.get(key) is not ref:  # `start` has replaced it while its last hook ran
            if self._restart.applies(failed=error is not None):
                self._count(key)
            return
        del self.children[key]
        while self._open and self._restart.applies(failed=error is not None):
            if self._count(key) > 0.0:
                break
            try:
                self._begin(key)
            except BaseException as failure:
                logger.exception("the child of %r could not be started again", key)
                error = failure
            else:
                return
        callbacks.notify("the callback for ended children", self._ended, key, error)

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop all children, together, and start no more; what has not stopped after `timeout_s` seconds is killed.
        Takes at most endings.KILL_S longer; when it is cut short, all that are left are killed at once."""
        self._open = False
        children = list(self.children.values())
        try:
            await asyncio.gather(*(endings.stop_or_kill(child, timeout_s) for child in children))
        finally:
            for child in children:
                child.kill()

    def open(self) -> None:
        """Start children again after a `stop`."""
        self._open = True

    def _begin(self, key: K) -> ActorRef[Any]:
        child = self._factory(key)
        child.watch(self, key)
        self.children[key] = child
        callbacks.notify("the callback for started children", self._started, key, child)
        return child

    def _count(self, key: K) -> float:
        """Count one end of `key`; the seconds of the quarantine that follows, or 0.0."""
        now = self._clock()
        trouble = self._troubles.get(key, restarts.NO_TROUBLE)
        trouble, wait_s = restarts.key_ended(trouble, now, self._intensity, self._backoff, self._jitter())
        self._troubles.pop(key, None)
        self._troubles[key] = trouble  # the newest last, so those that are past are found at the front
        past = []
        for other, each in self._troubles.items():
            if not each.is_past(now, self._intensity, self._backoff):
                break
            past.append(other)
        for other in past:
            del self._troubles[other]
        if wait_s > 0.0:
            logger.error("%r failed too often and is quarantined for %.1f s", key, wait_s)
            callbacks.notify("the callback for quarantined keys", self._quarantined, key, wait_s)
        return wait_s


class KeyedHost(Actor):
    """The place of a keyed supervisor in the tree: opens it when it starts, stops its children when it stops."""

    await_limit_s: ClassVar[float | None] = None  # stopping has its own limit

    def __init__(self, keyed: KeyedSupervisor[Any], stop_timeout_s: float = STOP_TIMEOUT_S) -> None:
        super().__init__()
        self._keyed = keyed
        self._stop_timeout_s = stop_timeout_s

    def on_start(self) -> None:
        self._keyed.open()

    async def on_stop(self) -> None:  # type: ignore[override]
        await self._keyed.stop(self._stop_timeout_s)

    async def on_failure(  # type: ignore[override]
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._keyed.stop(self._stop_timeout_s)
