"""In what order messages are taken, and which are refused."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.runtime import errors, runtime
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from tests.runtime.conftest import World, actor_of


class Log(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []

    def on_receive(self, message: Any) -> None:
        self.log.append(message)
        if callable(message):
            message()


def log_of(ref: Any) -> list[Any]:
    log: list[Any] = actor_of(ref).log
    return log


async def test_the_system_lane_is_taken_first_and_the_other_two_in_order(world: World) -> None:
    ref = Log.start()
    ref.tell("a")
    ref.tell_committed("b")
    ref.tell_system("s1")
    ref.tell("c")
    ref.tell_system("s2")
    await world.settle()
    assert log_of(ref) == ["s1", "s2", "a", "b", "c"]


async def test_a_system_message_overtakes_in_the_middle_of_a_turn(world: World) -> None:
    ref = Log.start()

    def interrupt() -> None:
        ref.tell_system("urgent")

    ref.tell(interrupt)
    ref.tell("after")
    await world.settle()
    assert log_of(ref) == [interrupt, "urgent", "after"]


async def test_a_full_mailbox_takes_completions_and_system_messages(world: World) -> None:
    class Small(Log):
        mailbox_limit = 2

    ref = Small.start()
    ref.tell(1)
    ref.tell(2)
    with pytest.raises(errors.MailboxFull):
        ref.tell(3)
    ref.tell_committed(4)
    ref.tell_system(5)
    with pytest.raises(errors.MailboxFull):
        ref.tell(6)
    await world.settle()
    assert log_of(ref) == [5, 1, 2, 4]
    ref.tell(7)
    await world.settle()
    assert log_of(ref)[-1] == 7


async def test_a_stop_is_taken_by_a_full_mailbox(world: World) -> None:
    class Small(Log):
        mailbox_limit = 1

    ref = Small.start()
    ref.tell(1)
    assert await ref.stop() is True


async def test_all_lanes_raise_when_the_actor_is_dead(world: World) -> None:
    ref = Log.start()
    await ref.stop()
    for tell in (ref.tell, ref.tell_committed, ref.tell_system):
        with pytest.raises(errors.ActorDeadError):
            tell("late")


async def test_a_busy_actor_does_not_keep_the_others_waiting(world: World) -> None:
    order: list[str] = []
    busy, other = Log.start(), Log.start()
    for _ in range(3 * runtime.TURN_BUDGET):
        busy.tell(lambda: order.append("busy"))
    other.tell(lambda: order.append("other"))
    await world.settle()
    assert order.index("other") == runtime.TURN_BUDGET
    assert order.count("busy") == 3 * runtime.TURN_BUDGET


async def test_an_actor_that_feeds_itself_does_not_keep_the_loop_from_its_other_work(world: World) -> None:
    ref = Log.start()
    handled = 0
    seen_by_loop: list[int] = []

    def again() -> None:
        nonlocal handled
        handled += 1
        if len(seen_by_loop) < 3:
            ref.tell(again)

    def other_work() -> None:
        seen_by_loop.append(handled)
        if len(seen_by_loop) < 3:
            asyncio.get_running_loop().call_soon(other_work)

    ref.tell(again)
    asyncio.get_running_loop().call_soon(other_work)
    await world.settle()
    assert ref.is_alive()  # what interrupts a test that hangs would end the actor, and be mistaken for success
    assert len(seen_by_loop) == 3
    assert seen_by_loop[0] <= runtime.TICK_BUDGET
    assert all(b - a <= runtime.TICK_BUDGET for a, b in itertools.pairwise(seen_by_loop))


async def drained(hosting: runtime.Runtime) -> None:
    while hosting.ready:  # noqa: ASYNC110  a tick at a time is what this waits for
        await asyncio.sleep(0)


async def test_a_turn_does_not_run_in_the_context_of_whoever_woke_the_actor(world: World) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    seen: list[str] = []
    ref = Log.start()
    variable.set("the sender's")
    ref.tell(lambda: seen.append(variable.get()))
    await world.settle()
    assert seen == ["nobody's"]


class LaneModel:
    """What the three lanes promise, said plainly."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.queue: list[int] = []
        self.system: list[int] = []

    def put(self, lane: str, message: int) -> bool:
        if lane == "system":
            self.system.append(message)
        elif lane == "tell" and len(self.queue) >= self.limit:
            return False
        else:
            self.queue.append(message)
        return True

    def take_all(self) -> list[int]:
        taken = self.system + self.queue
        self.system, self.queue = [], []
        return taken


LANES = st.sampled_from(["tell", "committed", "system", "drain"])


@settings(deadline=None)  # a slow machine is no failure
@given(lanes=st.lists(LANES, max_size=60), limit=st.integers(1, 5))
def test_the_lanes_keep_to_their_model(lanes: list[str], limit: int) -> None:
    async def run() -> None:
        world = runtime.Runtime(asyncio.get_running_loop()).start()
        limited: Any = type("Limited", (Log,), {"mailbox_limit": limit})
        ref: ActorRef[Log] = limited.start()
        model, expected = LaneModel(limit), list[int]()
        for message, lane in enumerate(lanes):
            if lane == "drain":
                await drained(world)
                expected += model.take_all()
                continue
            accepted = True
            try:
                {"tell": ref.tell, "committed": ref.tell_committed, "system": ref.tell_system}[lane](message)
            except errors.MailboxFull:
                accepted = False
            assert accepted == model.put(lane, message)
            assert ref.backlog() == len(model.queue) + len(model.system)
        await drained(world)
        assert log_of(ref) == expected + model.take_all()
        assert ref.is_idle()
        await world.stop()

    asyncio.run(run())
