"""The watchdog's thread, on loops that are blocked by an event it releases itself."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from actors.runtime.actor import Actor
from actors.runtime.watchdog import Stall, Watchdog
from tests.runtime.conftest import World
from tests.runtime.hosts import PATIENCE_S


class Blocker(Actor):
    def on_receive(self, message: threading.Event) -> None:
        self.stand_still(message)

    def stand_still(self, until: threading.Event) -> None:
        until.wait()


async def test_a_blocked_loop_is_reported_with_its_stack_and_the_actor_whose_turn_it_is(world: World, caplog: Any) -> None:
    stalls: list[Stall] = []
    release = threading.Event()

    def stalled(stall: Stall) -> None:
        stalls.append(stall)
        release.set()

    recovered, loop = asyncio.Event(), asyncio.get_running_loop()
    lengths: list[float] = []

    def ticks_again(seconds: float) -> None:
        lengths.append(seconds)
        loop.call_soon_threadsafe(recovered.set)

    dog = Watchdog(world.runtime, limit_s=0.02, stalled=stalled, recovered=ticks_again)
    dog.start()
    Blocker.start().tell(release)
    await recovered.wait()
    dog.stop()
    ours = [stall for stall in stalls if "stand_still" in stall.stack]
    assert len(ours) == 1
    assert ours[0].actor == "Blocker"
    assert ours[0].seconds >= 0.02
    assert lengths
    assert dog.stalls == len(stalls)
    assert any("has not ticked" in record.getMessage() and "stand_still" in record.getMessage() for record in caplog.records)


async def test_a_loop_that_ticks_is_left_in_peace(world: World) -> None:
    dog = Watchdog(world.runtime, limit_s=30.0)
    dog.start()
    await asyncio.sleep(0)
    dog.stop()
    assert dog.stalls == 0


async def test_a_watchdog_can_be_stopped_while_the_loop_is_blocked(world: World) -> None:
    noticed = threading.Event()
    dog = Watchdog(world.runtime, limit_s=0.02, stalled=lambda stall: noticed.set())
    dog.start()
    noticed.wait()  # this blocks the loop until the watchdog says so
    dog.stop()
    assert dog.stalls == 1


def test_a_watchdog_ends_with_its_loop() -> None:
    class Gone:
        thread_id = 0
        running = None
        loop = asyncio.new_event_loop()

    Gone.loop.close()
    runtime: Any = Gone
    dog = Watchdog(runtime, limit_s=0.02)
    dog.start()
    dog._thread.join()
    dog.stop()
    assert dog.stalls == 0


async def test_a_callback_that_raises_does_not_end_the_watch(world: World) -> None:
    release, again = threading.Event(), threading.Event()
    stalls: list[Stall] = []

    def stalled(stall: Stall) -> None:
        stalls.append(stall)
        (release if len(stalls) == 1 else again).set()
        raise ValueError("a counter")

    def recovered(seconds: float) -> None:
        raise ValueError("another counter")

    dog = Watchdog(world.runtime, limit_s=0.02, stalled=stalled, recovered=recovered)
    dog.start()
    release.wait()  # this blocks the loop until the watchdog says so
    await asyncio.sleep(0)
    assert await asyncio.to_thread(dog._answered.wait, PATIENCE_S)
    assert again.wait(PATIENCE_S)
    dog.stop()
    assert dog.stalls == len(stalls) >= 2


async def test_an_async_handler_a_last_hook_and_a_piped_coroutine_that_block_are_named(world: World) -> None:
    class Handler(Actor):
        async def on_receive(self, message: threading.Event) -> None:
            message.wait()

    class Hook(Actor):
        async def on_stop(self) -> None:  # type: ignore[override]
            releases[1].wait()

    class Pipes(Actor):
        def on_receive(self, message: threading.Event | None) -> None:
            if message is not None:
                self.pipe(self.block(message), lambda outcome: None)

        async def block(self, message: threading.Event) -> None:
            message.wait()

    releases = [threading.Event() for _ in range(3)]
    named: list[str | None] = []

    def stalled(stall: Stall) -> None:
        if ".wait()" in stall.stack:  # not a machine that stood still
            named.append(stall.actor)
            releases[len(named) - 1].set()

    dog = Watchdog(world.runtime, limit_s=0.02, stalled=stalled)
    dog.start()
    await Handler.start().ask(releases[0])
    await Hook.start().stop()
    ref = Pipes.start()
    ref.tell(releases[2])
    while not ref.is_idle():  # noqa: ASYNC110  the pipe's end is told to nobody else
        await asyncio.sleep(0)
    dog.stop()
    assert named == ["Handler", "Hook", "Pipes"]


def test_a_stall_of_the_limit_is_noticed_whenever_it_begins(monkeypatch: Any) -> None:
    """The longest that can pass between the last answer and the report, counted by events that let time pass at once."""
    passed = 0.0

    class Event:
        def __init__(self) -> None:
            self.is_it = False

        def set(self) -> None:
            self.is_it = True

        def is_set(self) -> bool:
            return self.is_it

        def wait(self, timeout: float | None = None) -> bool:
            nonlocal passed
            passed += timeout or 0.0
            return self.is_it

    class Blocked:
        thread_id = 0
        running = None

        class loop:  # noqa: N801
            @staticmethod
            def call_soon_threadsafe(callback: Any) -> None:
                """It never gets to it."""

    runtime: Any = Blocked
    monkeypatch.setattr(threading, "Event", Event)
    monkeypatch.setattr(time, "monotonic", lambda: passed)
    stalls: list[Stall] = []

    def stalled(stall: Stall) -> None:
        stalls.append(stall)
        dog._stopping.set()

    dog = Watchdog(runtime, limit_s=1.0, stalled=stalled)
    dog._watch()
    assert passed == 1.0
    assert [stall.seconds for stall in stalls] == [1.0]
