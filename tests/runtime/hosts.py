"""The adapter between the conformance suite and what hosts the actors: this runtime, and Pykka's own threads.

A test writes its actors on `pykka.Actor`; `Host.start` mixes the host's actor class in.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Iterable
from typing import Any, ClassVar, cast

import pykka

from actors.runtime.actor import Actor
from actors.runtime.runtime import Runtime

PATIENCE_S = 30.0
"""A guard against a hang; no test takes a fraction of it."""


class Latch:
    """Set by an actor, waited for by the test, on whatever threads they are."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await asyncio.to_thread(self.block)

    def block(self) -> None:
        assert self._event.wait(PATIENCE_S)


class Host:
    name: ClassVar[str]
    base: ClassVar[type[pykka.Actor]]
    logger: ClassVar[str]
    already_settled: ClassVar[type[Exception]]
    registry: Any

    async def open(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def get(self, future: Any) -> Any:
        """The value of a future that `ask`, `stop` or a proxy has given."""
        raise NotImplementedError

    def hosted(self, actor: Any) -> Any:
        return type(actor.__name__, (actor, self.base), {})

    def start(self, actor: Any, *args: Any, **kwargs: Any) -> Any:
        return self.hosted(actor).start(*args, **kwargs)

    def hold(self, latch: Latch) -> Any:
        """What a handler returns in order to keep its actor busy until `latch` is set."""
        raise NotImplementedError

    async def ask(self, ref: Any, message: Any) -> Any:
        return await self.get(ref.ask(message, block=False))

    async def stop(self, ref: Any) -> Any:
        return await self.get(ref.stop(block=False))

    async def stop_all(self) -> list[Any]:
        futures: Iterable[Any] = self.registry.stop_all(block=False)
        return [await self.get(future) for future in futures]

    async def assign(self, proxy: Any, name: str, value: Any) -> None:
        """Set an attribute through a proxy, which blocks: from a thread without a loop."""
        await asyncio.to_thread(setattr, proxy, name, value)


class LoopHost(Host):
    name = "loop"
    base = Actor
    logger = "actors.runtime"
    already_settled = asyncio.InvalidStateError

    async def open(self) -> None:
        self._runtime = Runtime(asyncio.get_running_loop()).start()
        self.registry = self._runtime.registry

    async def close(self) -> None:
        await self._runtime.stop()

    async def get(self, future: Any) -> Any:
        return await asyncio.wait_for(cast(Awaitable[Any], future), PATIENCE_S)

    def hold(self, latch: Latch) -> Any:
        return latch.wait()


class ThreadHost(Host):
    name = "threads"
    base = pykka.ThreadingActor
    logger = "pykka"
    already_settled = queue.Full
    registry = pykka.ActorRegistry

    async def open(self) -> None:
        assert not pykka.ActorRegistry.get_all()

    async def close(self) -> None:
        await asyncio.to_thread(pykka.ActorRegistry.stop_all)

    async def get(self, future: Any) -> Any:
        return await asyncio.to_thread(future.get, timeout=PATIENCE_S)

    def hold(self, latch: Latch) -> Any:
        latch.block()


HOSTS = (LoopHost, ThreadHost)


# -- what the conformance suite works with


class Recorder(pykka.Actor):
    """Writes down what happens to it. A callable message is called, and what it returns is the answer."""

    def __init__(self, log: list[Any] | None = None) -> None:
        super().__init__()
        self.log = [] if log is None else log
        self.failed = Latch()
        self.stopped = Latch()

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message()
        self.log.append(message)
        return message

    def on_start(self) -> None:
        self.log.append("start")

    def on_stop(self) -> None:
        self.log.append("stop")
        self.stopped.set()

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append((exception_type, str(exception_value), traceback is not None))
        self.failed.set()


def failing() -> None:
    raise ValueError("of its own")


def of(ref: Any) -> Any:
    """The actor behind a reference."""
    actor = ref._actor_weakref()
    assert actor is not None
    return actor
