"""The watchdog's thread, on loops that are blocked by an event it releases itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from actors.runtime.actor import Actor
from actors.runtime.watchdog import Stall, Watchdog
from tests.runtime.conftest import World


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
