"""Putting an idle actor away without losing a message, and the end of a runtime."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.runtime import errors
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef, watch_with
from actors.runtime.runtime import Runtime
from tests.runtime.conftest import Clock, World


class Sleeper(Actor):
    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log

    def on_receive(self, message: Any) -> None:
        self.log.append(message)

    def on_stop(self) -> None:
        self.log.append("asleep")


async def test_an_actor_is_idle_when_nothing_waits_and_nothing_runs(world: World) -> None:
    ref = Sleeper.start([])
    assert ref.is_idle()
    ref.tell("x")
    assert not ref.is_idle()
    await world.settle()
    assert ref.is_idle()
    ref.tell_system("x")
    assert not ref.is_idle()


async def test_an_actor_is_not_idle_in_its_own_turn(world: World) -> None:
    seen: list[bool] = []

    class Looks(Actor):
        def on_receive(self, message: Any) -> None:
            seen.extend((self.actor_ref.is_idle(), self.actor_ref.stop_now()))

    ref = Looks.start()
    ref.tell("look")
    await world.settle()
    assert seen == [False, False]
    assert ref.is_alive()


async def test_an_actor_that_has_not_started_yet_is_not_idle(world: World) -> None:
    class Starts(Sleeper):
        def on_start(self) -> None:
            self.log.append("started")

    log: list[Any] = []
    ref = Starts.start(log)
    assert ref.stop_now() is False
    await world.settle()
    assert ref.stop_now() is True
    assert log == ["started", "asleep"]


async def test_stop_now_ends_an_idle_actor_within_the_call_and_a_tell_after_it_raises(world: World) -> None:
    log: list[Any] = []
    ref = Sleeper.start(log)
    ends: list[Any] = []
    ref.watch(watch_with(lambda who, error: ends.append((who, error))))
    assert ref.stop_now() is True
    assert log == ["asleep"]
    assert ends == [(ref, None)]
    assert ref.stop_now() is False
    assert world.runtime.registry.get_all() == []
    for tell in (ref.tell, ref.tell_committed, ref.tell_system):
        with pytest.raises(errors.ActorDeadError):
            tell("would be lost")


async def test_messages_around_sleep_all_arrive_when_the_sender_starts_a_new_actor_for_the_dead(world: World) -> None:
    log: list[Any] = []
    current: list[ActorRef[Sleeper]] = [Sleeper.start(log)]
    starts = 1
    for i in range(200):
        try:
            current[0].tell(i)
        except errors.ActorDeadError:
            current[0] = Sleeper.start(log)
            starts += 1
            current[0].tell(i)
        if i % 3 == 0:
            await asyncio.sleep(0)
        current[0].stop_now()
    await world.settle()
    assert [entry for entry in log if entry != "asleep"] == list(range(200))
    assert starts > 10


async def test_a_watcher_that_raises_hurts_nobody(world: World) -> None:
    ref = Sleeper.start([])

    def broken(who: Any, error: Any) -> None:
        raise ValueError

    ref.watch(watch_with(broken))
    assert await ref.stop() is True


async def test_a_dead_actor_cannot_be_watched(world: World) -> None:
    ref = Sleeper.start([])
    await ref.stop()
    with pytest.raises(errors.ActorDeadError):
        ref.watch(watch_with(lambda who, error: None))


async def test_a_runtime_stops_its_actors_last_started_first_and_tells_no_watcher() -> None:
    runtime = Runtime(asyncio.get_running_loop()).start()
    log: list[Any] = []

    class Named(Sleeper):
        def __init__(self, name: str) -> None:
            super().__init__(log)
            self.name = name

        def on_stop(self) -> None:
            log.append(self.name)

    refs = [Named.start(name) for name in "abc"]
    refs[0].watch(watch_with(lambda who, error: log.append("told")))
    refs[0].tell("queued")
    await runtime.stop()
    assert log == ["queued", "c", "b", "a"]
    with pytest.raises(errors.NoRuntime):
        Named.start("late")


async def test_a_runtime_stops_what_starts_while_it_stops() -> None:
    runtime = Runtime(asyncio.get_running_loop()).start()
    late: list[ActorRef[Sleeper]] = []

    class Starts(Sleeper):
        def on_stop(self) -> None:
            late.append(Sleeper.start([]))

    Starts.start([])
    await runtime.stop()
    assert not late[0].is_alive()


async def test_a_runtime_waits_for_the_last_hooks() -> None:
    runtime = Runtime(asyncio.get_running_loop()).start()
    log: list[Any] = []

    class Flushes(Sleeper):
        async def on_stop(self) -> None:  # type: ignore[override]
            await asyncio.sleep(0)
            log.append("flushed")

    ref = Flushes.start([])
    assert ref.stop_now() is True
    assert log == []
    await runtime.stop()
    assert log == ["flushed"]


async def test_a_runtime_kills_who_does_not_stop() -> None:
    clock = Clock()
    runtime = Runtime(asyncio.get_running_loop(), clock=clock).start()

    class Hangs(Actor):
        await_limit_s = None

        async def on_receive(self, message: Any) -> None:
            await asyncio.Event().wait()

    ref = Hangs.start()
    ref.tell("x")
    stopping = asyncio.ensure_future(runtime.stop(timeout_s=3.0))
    while not stopping.done():
        await asyncio.sleep(0)
        clock.now += 0.5
        runtime.timers.run_due()
    await stopping
    assert not ref.is_alive()
    assert runtime.failed == 1


async def test_an_actor_that_starts_another_whenever_it_stops_does_not_outlive_the_runtime() -> None:
    runtime = Runtime(asyncio.get_running_loop()).start()
    started: list[ActorRef[Any]] = []

    class Hydra(Actor):
        def __init__(self) -> None:
            super().__init__()
            started.append(self.actor_ref)

        def on_stop(self) -> None:
            Hydra.start()

    Hydra.start()
    await runtime.stop()
    assert [ref.is_alive() for ref in started] == [False, False]
    assert runtime.registry.get_all() == []
