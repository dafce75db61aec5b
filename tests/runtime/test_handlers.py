"""Async handlers: one message at a time, and what becomes of those that fail or hang."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pykka
import pytest

from actors.runtime import endings, errors
from actors.runtime.actor import Actor
from actors.runtime.runtime import Hooks
from tests.runtime.conftest import World, actor_of


class Waiter(Actor):
    """Awaits the events it is told, and writes down when it begins and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.failure: BaseException | None = None

    async def on_receive(self, message: Any) -> Any:
        self.log.append(("begin", message))
        if isinstance(message, asyncio.Event):
            try:
                await message.wait()
            finally:
                self.log.append("finally")
        elif isinstance(message, BaseException):
            raise message
        self.log.append(("end", message))
        return message

    async def method(self, word: str) -> str:
        await asyncio.sleep(0)
        return word * 2

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append("on_failure")
        self.failure = exception_value


async def test_one_message_at_a_time_while_a_handler_is_suspended(world: World) -> None:
    ref = Waiter.start()
    actor, gate = actor_of(ref), asyncio.Event()
    ref.tell(gate)
    ref.tell("second")
    ref.tell_system("system")
    await world.settle()
    # The system lane was filled before the first turn, so it went first; then the gate holds everything.
    assert actor.log == [("begin", "system"), ("end", "system"), ("begin", gate)]
    ref.tell_system("system while suspended")
    await world.settle()
    assert len(actor.log) == 3
    assert not ref.is_idle()
    gate.set()
    await ref.ask("last")
    assert actor.log[3:8] == [
        "finally",
        ("end", gate),
        ("begin", "system while suspended"),
        ("end", "system while suspended"),
        ("begin", "second"),
    ]


async def test_an_actor_is_idle_again_when_its_handler_has_ended(world: World) -> None:
    ref = Waiter.start()
    assert await ref.ask("x") == "x"
    await world.settle()
    assert ref.is_idle()
    assert len(world.runtime.suspended) == 0


async def test_an_async_method_is_awaited_before_a_proxy_answers(world: World) -> None:
    assert await Waiter.start().proxy().method("ha") == "haha"


async def test_an_exception_in_an_async_handler_is_the_askers_or_the_actors_end(world: World) -> None:
    ref = Waiter.start()
    actor = actor_of(ref)
    with pytest.raises(ValueError, match="asked"):
        await ref.ask(ValueError("asked"))
    assert ref.is_alive()
    ref.tell(ValueError("told"))
    await world.settle()
    assert not ref.is_alive()
    assert str(actor.failure) == "told"


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)])
async def test_a_base_exception_in_an_async_handler_ends_one_actor_only(world: World, error: BaseException) -> None:
    ref, other = Waiter.start(), Waiter.start()
    with pytest.raises(pykka.ActorDeadError):
        await ref.ask(error)
    assert not ref.is_alive()
    assert await other.ask("alive") == "alive"


async def test_an_async_on_start_is_awaited_before_the_first_message(world: World) -> None:
    gate = asyncio.Event()

    class Slow(Waiter):
        async def on_start(self) -> None:  # type: ignore[override]
            await gate.wait()
            self.log.append("started")

    ref = Slow.start()
    actor = actor_of(ref)
    ref.tell("first")
    await world.settle()
    assert actor.log == []
    gate.set()
    await ref.ask("second")
    assert actor.log[:2] == ["started", ("begin", "first")]


async def test_an_async_on_start_that_raises_ends_the_actor_without_on_failure(world: World) -> None:
    class Broken(Waiter):
        async def on_start(self) -> None:  # type: ignore[override]
            raise ValueError

    ref = Broken.start()
    actor = actor_of(ref)
    with pytest.raises(pykka.ActorDeadError):
        await ref.ask("x")
    assert actor.log == []


async def test_an_async_on_stop_is_awaited_before_the_stop_is_answered(world: World) -> None:
    gate = asyncio.Event()

    class Slow(Waiter):
        async def on_stop(self) -> None:  # type: ignore[override]
            await gate.wait()
            self.log.append("flushed")

    ref = Slow.start()
    actor = actor_of(ref)
    stopping = ref.stop()
    await world.settle()
    assert not stopping.done()
    assert not ref.is_alive()
    gate.set()
    assert await stopping is True
    assert actor.log == ["flushed"]


async def test_a_kill_cancels_a_suspended_handler_and_its_finally_runs_before_on_failure(world: World) -> None:
    ref = Waiter.start()
    actor, gate = actor_of(ref), asyncio.Event()
    answer = ref.ask(gate)
    waiting = ref.ask("behind")
    await world.settle()
    ref.kill(ValueError("enough"))
    for future in (answer, waiting):
        with pytest.raises(pykka.ActorDeadError):
            await future
    assert actor.log == [("begin", gate), "finally", "on_failure"]
    assert str(actor.failure) == "enough"


async def test_a_handler_that_is_killed_before_its_first_step_ends_too(world: World) -> None:
    ref = Waiter.start()
    actor = actor_of(ref)

    class KillsInTheSameTick(Actor):
        def on_receive(self, message: Any) -> None:
            ref.kill()

    killer = KillsInTheSameTick.start()
    ref.tell(asyncio.Event())
    killer.tell("now")  # its turn follows that of `ref` in the same tick, before any task has run
    await world.settle()
    assert not ref.is_alive()
    assert isinstance(actor.failure, errors.Killed)


async def test_a_kill_goes_before_everything_that_is_queued(world: World) -> None:
    ref = Waiter.start()
    actor = actor_of(ref)
    ref.tell("told")
    ref.tell_system("system")
    ref.kill()
    await world.settle()
    assert actor.log == ["on_failure"]


async def test_a_handler_that_awaits_too_long_is_cancelled_counted_and_its_actor_failed(world: World) -> None:
    hangs: list[tuple[Any, str, float]] = []
    world.runtime.hooks = Hooks(hung=lambda *what: hangs.append(what))

    class Patient(Waiter):
        await_limit_s = None

    ref, patient = Waiter.start(), Patient.start()
    actor, gate = actor_of(ref), asyncio.Event()
    answer = ref.ask(gate)
    held = patient.ask(gate)
    await world.settle()
    world.advance(4.9)
    await world.settle()
    assert ref.is_alive()
    world.advance(0.6)
    with pytest.raises(pykka.ActorDeadError):
        await answer
    assert isinstance(actor.failure, errors.HandlerTimeout)
    assert actor.log == [("begin", gate), "finally", "on_failure"]
    assert [(who, name) for who, name, _ in hangs] == [(ref, "Waiter.on_receive")]
    assert world.runtime.suspended.hung == 1
    gate.set()
    assert await held is gate


async def test_a_handler_that_swallows_its_cancellation_is_given_up(world: World) -> None:
    gate = asyncio.Event()

    class Stubborn(Waiter):
        async def on_receive(self, message: Any) -> Any:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    self.log.append("swallowed")
            return "too late"

    ref = Stubborn.start()
    actor = actor_of(ref)
    answer = ref.ask("x")
    await world.settle()
    world.advance(6.0)
    await world.settle()
    assert actor.log == ["swallowed"]
    assert ref.is_alive()
    world.advance(endings.KILL_GRACE_S + 1.0)
    with pytest.raises(pykka.ActorDeadError):
        await answer
    assert isinstance(actor.failure, errors.HandlerTimeout)
    gate.set()
    await world.settle()
    assert not ref.is_alive()


async def test_a_stop_that_takes_too_long_becomes_a_kill(world: World) -> None:
    ref = Waiter.start()
    actor = actor_of(ref)
    ref.tell(asyncio.Event())
    await world.settle()
    ending = asyncio.ensure_future(endings.stop_or_kill(ref, 3.0))
    await world.settle()
    assert ref.is_alive()
    world.advance(3.0)
    assert await ending is False
    assert not ref.is_alive()
    assert isinstance(actor.failure, errors.Killed)


async def test_a_kill_that_is_not_heeded_is_enforced(world: World) -> None:
    gate = asyncio.Event()

    class Stubborn(Actor):
        async def on_receive(self, message: Any) -> None:
            while not gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await gate.wait()

    ref = Stubborn.start()
    ref.tell("x")
    await world.settle()
    ending = asyncio.ensure_future(endings.stop_or_kill(ref, 0.25))
    for seconds in (0.3, 0.7, endings.KILL_GRACE_S - 0.65):  # the last ends between two sweeps
        await world.settle()
        world.advance(seconds)
    assert await ending is False
    assert not ref.is_alive()
    gate.set()


async def test_failures_are_counted_and_told_to_the_hook(world: World) -> None:
    failures: list[Any] = []
    world.runtime.hooks = Hooks(failed=lambda ref, error: failures.append((ref, str(error))))
    ref = Waiter.start()
    ref.tell(ValueError("seen"))
    await world.settle()
    assert failures == [(ref, "seen")]
    assert world.runtime.failed == 1
