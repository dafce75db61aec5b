"""`Actor.pipe`: an awaitable's outcome comes back as a message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.runtime import errors
from actors.runtime.actor import Actor
from actors.runtime.runtime import Hooks
from tests.runtime.conftest import World, actor_of


class Piper(Actor):
    """A callable message is called with the actor; anything else is written down."""

    pipe_limit = 2

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.log.append(message)
        return None


async def gated(gate: asyncio.Event, result: Any) -> Any:
    await gate.wait()
    if isinstance(result, BaseException):
        raise result
    return result


async def test_a_result_and_an_exception_both_come_back_wrapped(world: World) -> None:
    ref, gate = Piper.start(), asyncio.Event()
    actor, error = actor_of(ref), ValueError("not found")
    await ref.ask(lambda me: me.pipe(gated(gate, "row"), lambda outcome: ("loaded", outcome)))
    await ref.ask(lambda me: me.pipe(gated(gate, error), lambda outcome: ("loaded", outcome)))
    ref.tell("handled meanwhile")
    await world.settle()
    assert actor.log == ["handled meanwhile"]
    gate.set()
    await world.settle()
    assert actor.log == ["handled meanwhile", ("loaded", "row"), ("loaded", error)]


async def test_an_actor_with_a_running_awaitable_is_not_idle(world: World) -> None:
    ref, gate = Piper.start(), asyncio.Event()
    await ref.ask(lambda me: me.pipe(gated(gate, 1), lambda outcome: outcome))
    await world.settle()
    assert not ref.is_idle()
    assert ref.stop_now() is False
    gate.set()
    await world.settle()
    assert ref.is_idle()


async def test_pipes_are_bounded_per_actor_and_a_refused_coroutine_is_closed(world: World) -> None:
    ref, gate = Piper.start(), asyncio.Event()
    for _ in range(2):
        await ref.ask(lambda me: me.pipe(gated(gate, 1), lambda outcome: outcome))
    with pytest.raises(errors.PipesFull, match="2 awaitables"):
        await ref.ask(lambda me: me.pipe(gated(gate, 1), lambda outcome: outcome))
    gate.set()
    await world.settle()
    await ref.ask(lambda me: me.pipe(gated(gate, 1), lambda outcome: outcome))


async def test_timers_do_not_count_as_pipes(world: World) -> None:
    ref, gate = Piper.start(), asyncio.Event()
    for _ in range(5):
        await ref.ask(lambda me: me.schedule(1.0, "tick"))
    await ref.ask(lambda me: me.pipe(gated(gate, 1), lambda outcome: outcome))
    gate.set()


async def test_a_stop_cancels_what_runs_and_no_message_comes(world: World) -> None:
    ref, gate = Piper.start(), asyncio.Event()
    actor, ended = actor_of(ref), []

    async def work() -> None:
        try:
            await gate.wait()
        finally:
            ended.append("cancelled")

    await ref.ask(lambda me: me.pipe(work(), lambda outcome: outcome))
    await world.settle()
    await ref.stop()
    await world.settle()
    assert ended == ["cancelled"]
    assert actor.log == []


async def test_an_outcome_is_taken_by_a_full_mailbox(world: World) -> None:
    class Small(Piper):
        mailbox_limit = 1

    ref = Small.start()
    actor, done = actor_of(ref), asyncio.get_running_loop().create_future()
    await ref.ask(lambda me: me.pipe(done, lambda outcome: outcome))
    await world.settle()
    asyncio.get_running_loop().call_soon(lambda: ref.tell("fills it"))
    done.set_result("outcome")  # its callback comes after the one that fills the mailbox, and before the turn
    await world.settle()
    assert actor.log == ["fills it", "outcome"]


async def test_a_wrap_that_raises_is_the_actors_own_failure(world: World) -> None:
    ref = Piper.start()

    def wrap(outcome: Any) -> Any:
        raise KeyError(outcome)

    done = asyncio.get_running_loop().create_future()
    await ref.ask(lambda me: me.pipe(done, wrap))
    done.set_result("x")
    await world.settle()
    assert not ref.is_alive()


async def test_an_awaitable_that_is_cancelled_comes_back_as_its_exception(world: World) -> None:
    ref = Piper.start()
    actor, done = actor_of(ref), asyncio.get_running_loop().create_future()
    await ref.ask(lambda me: me.pipe(done, lambda outcome: ("ended", type(outcome))))
    done.cancel()
    await world.settle()
    assert actor.log == [("ended", asyncio.CancelledError)]


async def test_the_answer_of_another_actor_can_be_piped(world: World) -> None:
    ref, other = Piper.start(), Piper.start()
    actor = actor_of(ref)
    await ref.ask(lambda me: me.pipe(other.ask(lambda me: "answer"), lambda outcome: ("from the other", outcome)))
    await world.settle()
    assert actor.log == [("from the other", "answer")]


async def test_a_dead_actor_pipes_nothing(world: World) -> None:
    ref = Piper.start()
    actor = actor_of(ref)
    await ref.stop()
    with pytest.raises(errors.ActorDeadError):
        actor.pipe(gated(asyncio.Event(), 1), lambda outcome: outcome)
    with pytest.raises(errors.ActorDeadError):
        actor.schedule(1.0, "x")
    assert len(world.runtime.timers) == 0


async def test_a_pipe_that_hangs_is_reported_once_and_goes_on(world: World) -> None:
    hangs: list[tuple[Any, str, float]] = []
    world.runtime.hooks = Hooks(hung=lambda *what: hangs.append(what))
    ref, gate = Piper.start(), asyncio.Event()
    actor = actor_of(ref)
    await ref.ask(lambda me: me.pipe(gated(gate, "row"), lambda outcome: outcome))
    await world.settle()
    world.advance(4.9)
    assert hangs == []
    world.advance(0.6)
    world.advance(100.0)
    assert hangs == [(ref, "gated", 5.5)]
    assert world.runtime.suspended.hung == 1
    gate.set()
    await world.settle()
    assert actor.log == ["row"]
    world.advance(1.0)
    assert len(world.runtime.timers) == 0  # nothing is left to look after


async def test_a_class_may_have_slow_pipes(world: World) -> None:
    class Patient(Piper):
        slow_pipe_s = None

    ref, gate = Patient.start(), asyncio.Event()
    await ref.ask(lambda me: me.pipe(gated(gate, 1), lambda outcome: outcome))
    world.advance(1000.0)
    assert world.runtime.suspended.hung == 0
    gate.set()
