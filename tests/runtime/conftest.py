"""A runtime on the test's loop, its time in the test's hand; and the hosts of the conformance suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest
import uvloop

from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from actors.runtime.runtime import Runtime
from tests.runtime.hosts import HOSTS, Host

A = TypeVar("A", bound=Actor)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of this room that has a loop runs on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def actor_of(ref: ActorRef[A]) -> A:
    """The actor behind the reference of a living one."""
    actor = ref._actor
    assert actor is not None
    return actor


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A runtime and its clock."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self.runtime = runtime
        self.clock = clock

    def advance(self, seconds: float) -> None:
        """Let time pass, and fire the timers that are due by then."""
        self.clock.now += seconds
        self.runtime.timers.run_due()

    async def settle(self) -> None:
        """Let the loop tick until no actor has anything to do; handlers that await an outer event stay suspended."""
        idle_ticks = 0
        while idle_ticks < 10:
            await asyncio.sleep(0)
            idle_ticks = 0 if self.runtime.ready else idle_ticks + 1


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = Clock()
    runtime = Runtime(asyncio.get_running_loop(), clock=clock).start()
    try:
        yield World(runtime, clock)
    finally:
        clock.now += 1e9  # what a test left hanging times out now
        stopping = asyncio.ensure_future(runtime.stop())
        while not stopping.done():
            await asyncio.sleep(0)
            clock.now += 1.0
            runtime.timers.run_due()
        await stopping


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    hosted: Host = request.param()
    await hosted.open()
    yield hosted
    await hosted.close()
