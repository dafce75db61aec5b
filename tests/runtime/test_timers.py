"""Timers by the runtime's clock, which these tests move."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.runtime import timers
from actors.runtime.actor import Actor
from tests.runtime.conftest import Clock, World, actor_of


class Sleeper(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    def on_receive(self, message: Any) -> None:
        self.log.append(message)


async def test_a_scheduled_message_comes_when_its_time_has_come(world: World) -> None:
    ref = Sleeper.start()
    actor = actor_of(ref)
    timer = actor.schedule(10.0, "tick")
    assert timer.when == world.clock.now + 10.0
    world.advance(9.9)
    await world.settle()
    assert actor.log == []
    assert not ref.is_idle()
    world.advance(0.2)
    await world.settle()
    assert actor.log == ["tick"]
    assert ref.is_idle()


async def test_a_cancelled_timer_never_comes_and_its_actor_is_idle(world: World) -> None:
    ref = Sleeper.start()
    actor = actor_of(ref)
    timer = actor.schedule(1.0, "never")
    timer.cancel()
    timer.cancel()
    assert ref.is_idle()
    world.advance(2.0)
    await world.settle()
    assert actor.log == []
    assert len(world.runtime.timers) == 0


async def test_a_timer_that_has_fired_can_be_cancelled_without_effect(world: World) -> None:
    ref = Sleeper.start()
    actor = actor_of(ref)
    timer = actor.schedule(1.0, "tick")
    world.advance(1.0)
    timer.cancel()
    await world.settle()
    assert actor.log == ["tick"]
    assert len(world.runtime.timers) == 0


async def test_a_timer_dies_with_its_actor(world: World) -> None:
    ref = Sleeper.start()
    actor_of(ref).schedule(1.0, "late")
    await ref.stop()
    assert len(world.runtime.timers) == 0
    world.advance(2.0)


async def test_a_timers_message_is_taken_by_a_full_mailbox(world: World) -> None:
    class Small(Sleeper):
        mailbox_limit = 1

    ref = Small.start()
    actor = actor_of(ref)
    actor.schedule(1.0, "tick")
    ref.tell("full")
    world.advance(1.0)
    await world.settle()
    assert actor.log == ["full", "tick"]


async def test_a_callback_that_raises_does_not_keep_the_others_from_firing(world: World) -> None:
    fired: list[str] = []

    def broken() -> None:
        raise ValueError

    world.runtime.timers.call_later(1.0, broken)
    world.runtime.timers.call_later(2.0, lambda: fired.append("second"))
    world.advance(3.0)
    assert fired == ["second"]


async def test_the_loop_itself_fires_a_timer_that_is_due(world: World) -> None:
    fired = asyncio.Event()
    world.runtime.timers.call_later(0.0, fired.set)
    await fired.wait()


DELAYS = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=300)


@settings(deadline=None)  # a slow machine is no failure
@given(plan=DELAYS, steps=st.lists(st.integers(1, 7), max_size=5))
def test_timers_fire_once_in_order_and_never_when_cancelled(plan: list[tuple[int, bool]], steps: list[int]) -> None:
    async def run() -> None:
        clock = Clock()
        service = timers.Timers(asyncio.get_running_loop(), clock)
        fired: list[tuple[float, int]] = []
        made = []
        for number, (delay, _) in enumerate(plan):
            when = clock.now + delay
            made.append(service.call_later(delay, functools.partial(fired.append, (when, number))))
        kept = []
        for number, (delay, cancelled) in enumerate(plan):
            if cancelled:
                made[number].cancel()
            else:
                kept.append((clock.now + delay, number))
        assert len(service) == len(kept)
        for step in steps:
            clock.now += step
            service.run_due()
            assert fired == sorted(entry for entry in kept if entry[0] <= clock.now)
        assert len(service) == len(kept) - len(fired)
        assert len(service._heap) <= max(2 * len(service) + 1, len(service) + timers.COMPACT_ABOVE)
        service.close()
        assert len(service) == 0
        made[0].cancel() if made else None
        assert len(service) == 0

    asyncio.run(run())


async def test_what_a_callback_adds_waits_for_the_next_call_even_if_it_is_due(world: World) -> None:
    fired: list[str] = []

    def again() -> None:
        fired.append("again")
        world.runtime.timers.call_later(0.0, again)
        world.runtime.timers.call_later(-5.0, lambda: fired.append("long due"))

    world.runtime.timers.call_later(1.0, again)
    world.runtime.timers.call_later(2.0, lambda: fired.append("second"))
    world.clock.now += 3.0
    assert world.runtime.timers.run_due() == 2
    assert fired == ["again", "second"]
    assert world.runtime.timers.run_due() == 2
    assert fired == ["again", "second", "long due", "again"]


async def test_a_timer_that_is_cancelled_by_one_that_fires_with_it_does_not_fire(world: World) -> None:
    service, fired = world.runtime.timers, []
    service.call_later(1.0, lambda: victim.cancel())
    victim = service.call_later(2.0, lambda: fired.append("victim"))
    service.call_later(9.0, lambda: fired.append("later"))
    world.clock.now += 3.0
    assert service.run_due() == 1
    assert fired == []
    assert len(service) == 1


async def test_a_callback_that_raises_what_it_should_not_does_not_stop_the_clock(world: World) -> None:
    def broken() -> None:
        raise asyncio.CancelledError

    fired = asyncio.Event()
    world.runtime.timers.call_later(0.0, broken)
    world.runtime.timers.call_later(0.0, fired.set)
    await fired.wait()
