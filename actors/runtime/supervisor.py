"""A supervisor of named children, in dependency order: the shell around `restarts.Family`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

from actors.runtime import endings, errors, restarts
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from actors.runtime.restarts import Intensity, Restart, Strategy

logger = logging.getLogger("actors.runtime")

STOP_TIMEOUT_S = 5.0
"""Seconds a child may take to stop before it is killed, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Child:
    """One child of a supervisor.

    `start` starts the actor (a supervisor, too) and returns its reference; it is called again at each restart. While
    the child runs, `registry.whereis(name)` finds it. `stop_timeout_s`: how long it may take to stop.
    """

    name: str
    start: Callable[[], ActorRef[Any]]
    restart: Restart = Restart.PERMANENT
    stop_timeout_s: float = STOP_TIMEOUT_S


class WhichChildren:
    """Ask a supervisor: a dict from the name to the reference of each child that runs, in order."""


@dataclass(frozen=True, slots=True)
class ChildEnded:
    name: str
    ref: ActorRef[Any]
    error: BaseException | None


class Supervisor(Actor):
    """Starts its children in order, restarts them as they end, stops them in reverse.

    `Supervisor.start(...)` returns when `Child.start` of each has returned, so they can be found at once; what a child
    is told before its `on_start` has run waits for that. When one cannot start the first time, those before it are
    killed and its exception is raised from there. Over the intensity it stops them all and fails with
    RestartIntensityExceeded; the failure of a supervisor is its own supervisor's business.
    """

    await_limit_s: ClassVar[float | None] = None  # it waits for children, each with its own limit

    def __init__(
        self,
        children: Sequence[Child],
        *,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        intensity: Intensity = Intensity(),  # noqa: B008  frozen
    ) -> None:
        super().__init__()
        self._specs = {child.name: child for child in children}
        if len(self._specs) != len(children):
            raise ValueError("two children have one name")
        order = tuple((child.name, child.restart) for child in children)
        self._family = restarts.Family(order, strategy, intensity)
        self._children: dict[str, ActorRef[Any]] = {}

    def actor_ended(self, ref: ActorRef[Any], key: Any, error: BaseException | None) -> None:
        """A child's end becomes a message, to be decided on in turn."""
        with contextlib.suppress(errors.ActorDeadError):
            self.actor_ref.tell_system(ChildEnded(key, ref, error))

    def _start_actor_loop(self) -> None:
        # Within `start()`, and so depth first: the run queue then has the actors of the whole tree in dependency order.
        self._family, actions = self._family.start_all()
        try:
            for action in actions:
                self._start_child(action.name)
        except BaseException:
            self._kill_children()
            raise
        super()._start_actor_loop()

    async def on_receive(self, message: Any) -> Any:
        if isinstance(message, WhichChildren):
            return {name: self._children[name] for name in self._specs if name in self._children}
        if not isinstance(message, ChildEnded):
            return super().on_receive(message)
        if self._children.get(message.name) is message.ref:  # not one that was stopped or replaced meanwhile
            self._let_go(message.name, message.ref)
            await self._child_ended(message.name, message.error)
        return None

    async def on_stop(self) -> None:  # type: ignore[override]
        await self._stop_children()

    async def on_failure(  # type: ignore[override]
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop_children()

    async def _child_ended(self, name: str, error: BaseException | None) -> None:
        """Decide and carry out, again for as long as a restart fails at once.

        However slowly they come, as many of those in a row as restarts are allowed within the window are too many."""
        tries = 0
        while True:
            now = self.actor_ref.runtime.clock()
            self._family, actions = self._family.child_ended(name, failed=error is not None, now=now)
            for action in actions:
                if isinstance(action, restarts.Stop):
                    await self._stop_child(action.name)
                elif isinstance(action, restarts.Escalate):
                    raise errors.RestartIntensityExceeded(f"{action.name} ended too often") from error
                else:
                    try:
                        self._start_child(action.name)
                    except Exception as failure:
                        logger.exception("%s could not be started again", action.name)
                        name, error = action.name, failure
                        tries += 1
                        break
            else:
                return
            if tries > self._family.intensity.restarts:
                raise errors.RestartIntensityExceeded(f"{name} could not be started {tries} times") from error
            await asyncio.sleep(0)  # the others get their turn between two tries

    def _start_child(self, name: str) -> None:
        child = self._specs[name].start()
        child.watch(self, name)
        self._children[name] = child
        self.actor_ref.runtime.registry.bind(name, child)

    def _let_go(self, name: str, child: ActorRef[Any]) -> None:
        child.unwatch()
        self._children.pop(name, None)
        self.actor_ref.runtime.registry.unbind(name, child)

    async def _stop_child(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None:
            child.unwatch()
            await endings.stop_or_kill(child, self._specs[name].stop_timeout_s)
            self._let_go(name, child)

    async def _stop_children(self) -> None:
        try:
            for name in reversed(self._specs):
                await self._stop_child(name)
        finally:
            self._kill_children()  # those that are left when this is cut short: nobody else would end them

    def _kill_children(self) -> None:
        for name, child in reversed(list(self._children.items())):
            self._let_go(name, child)
            child.kill()
