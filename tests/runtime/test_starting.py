"""Between the making of an actor and its `on_start`."""

from __future__ import annotations

import asyncio
from typing import Any

import pykka
import pytest

from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from tests.runtime.conftest import World


class Eager(Actor):
    """Writes to itself while it is being made."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log
        self.actor_ref.tell("told in __init__")
        self.actor_ref.tell_system("system in __init__")
        self.schedule(1.0, "timer of __init__")

    def on_start(self) -> None:
        self.log.append("start")

    def on_receive(self, message: Any) -> None:
        self.log.append(message)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append("failure")


async def test_what_an_actor_tells_itself_in_its_initialiser_comes_after_on_start(world: World) -> None:
    log: list[Any] = []
    Eager.start(log)
    await world.settle()
    assert log == ["start", "system in __init__", "told in __init__"]


async def test_so_it_does_when_a_thread_makes_the_actor_and_the_loop_turns_meanwhile(world: World) -> None:
    log: list[Any] = []

    class Slow(Actor):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("told in __init__")
            asyncio.run_coroutine_threadsafe(world.settle(), world.runtime.loop).result()
            log.append("made")

        def on_start(self) -> None:
            log.append("start")

        def on_receive(self, message: Any) -> None:
            log.append(message)

    await asyncio.to_thread(Slow.start)
    await world.settle()
    assert log == ["made", "start", "told in __init__"]


async def test_an_actor_that_could_not_be_made_is_dead_and_handles_nothing(world: World) -> None:
    class Broken(Eager):
        def __init__(self, log: list[Any]) -> None:
            super().__init__(log)
            refs.append(self.actor_ref)
            answers.append(self.actor_ref.ask("asked in __init__"))
            raise ValueError("broken")

    log: list[Any] = []
    refs: list[ActorRef[Any]] = []
    answers: list[Any] = []
    with pytest.raises(ValueError, match="broken"):
        Broken.start(log)
    await world.settle()
    assert log == []
    assert not refs[0].is_alive()
    assert len(world.runtime.timers) == 0
    with pytest.raises(pykka.ActorDeadError):
        await answers[0]


async def test_an_actor_that_a_thread_could_not_make_is_dead_too(world: World) -> None:
    class Broken(Actor):
        def __init__(self) -> None:
            super().__init__()
            refs.append(self.actor_ref)
            raise ValueError("broken")

    refs: list[ActorRef[Any]] = []
    with pytest.raises(ValueError, match="broken"):
        await asyncio.to_thread(Broken.start)
    await world.settle()
    assert not refs[0].is_alive()


async def test_an_actor_that_is_killed_before_it_started_is_asked_nothing(world: World) -> None:
    log: list[Any] = []
    ref = Eager.start(log)
    ref.kill()
    await world.settle()
    assert log == []
    assert not ref.is_alive()


async def test_an_actor_without_on_start_has_started_when_start_returns(world: World) -> None:
    class Plain(Actor):
        def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
            log.append("failure")

    log: list[str] = []
    ref = Plain.start()
    assert ref.is_idle()
    ref.kill()
    await world.settle()
    assert log == ["failure"]
