"""Supervisors of named children, with real actors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors.runtime import errors
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef, watch_with
from actors.runtime.restarts import Intensity, Restart, Strategy
from actors.runtime.supervisor import Child, Supervisor, WhichChildren
from tests.runtime.conftest import World


class Worker(Actor):
    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name = name
        self.log = log

    def on_start(self) -> None:
        self.log.append(f"+{self.name}")

    def on_receive(self, message: Any) -> Any:
        return message()

    def on_stop(self) -> None:
        self.log.append(f"-{self.name}")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append(f"!{self.name}")


def fail() -> None:
    raise ValueError("a worker's own")


def worker(name: str, log: list[str], restart: Restart = Restart.PERMANENT) -> Child:
    return Child(name, lambda: Worker.start(name, log), restart)


def child(world: World, name: str) -> ActorRef[Any]:
    found = world.runtime.registry.whereis(name)
    assert found is not None, name
    return found


def ends_of(ref: ActorRef[Any]) -> list[BaseException | None]:
    ends: list[BaseException | None] = []
    ref.watch(watch_with(lambda who, error: ends.append(error)))
    return ends


async def test_children_start_in_order_are_found_by_name_and_stop_in_reverse(world: World) -> None:
    log: list[str] = []
    tree = Supervisor.start([worker(name, log) for name in "abc"])
    children = await tree.ask(WhichChildren())
    assert list(children) == ["a", "b", "c"]
    assert children["b"] is child(world, "b")
    await world.settle()
    assert await tree.stop() is True
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert world.runtime.registry.whereis("a") is None


async def test_a_failed_child_is_restarted_and_found_under_its_name_and_its_siblings_go_on(world: World) -> None:
    log: list[str] = []
    Supervisor.start([worker(name, log) for name in "abc"])
    await world.settle()
    before = {name: child(world, name) for name in "abc"}
    before["b"].tell(fail)
    await world.settle()
    assert child(world, "b") is not before["b"]
    assert child(world, "b").is_alive()
    assert (child(world, "a"), child(world, "c")) == (before["a"], before["c"])
    assert log[3:] == ["!b", "+b"]


async def test_rest_for_one_restarts_the_later_ones_in_dependency_order(world: World) -> None:
    log: list[str] = []
    Supervisor.start([worker(name, log) for name in "abc"], strategy=Strategy.REST_FOR_ONE)
    await world.settle()
    log.clear()
    child(world, "b").tell(fail)
    await world.settle()
    assert log == ["!b", "-c", "+b", "+c"]


async def test_the_end_of_a_child_that_was_replaced_meanwhile_is_no_news(world: World) -> None:
    log: list[str] = []
    Supervisor.start([worker(name, log) for name in "abc"], strategy=Strategy.REST_FOR_ONE)
    await world.settle()
    log.clear()
    child(world, "b").tell(fail)
    child(world, "c").tell(fail)  # dead by itself when the supervisor comes to stop it for b's sake
    await world.settle()
    assert log == ["!b", "!c", "+b", "+c"]


async def test_kinds_decide_who_comes_back(world: World) -> None:
    log: list[str] = []
    kinds = {"p": Restart.PERMANENT, "t": Restart.TRANSIENT, "x": Restart.TEMPORARY}
    tree = Supervisor.start([worker(name, log, kind) for name, kind in kinds.items()])
    await world.settle()
    for name in kinds:
        await child(world, name).stop()
    await world.settle()
    assert list(await tree.ask(WhichChildren())) == ["p"]


async def test_over_the_intensity_all_children_stop_and_the_supervisor_fails(world: World) -> None:
    log: list[str] = []
    tree = Supervisor.start([worker(name, log) for name in "ab"], intensity=Intensity(2, 10.0))
    ends = ends_of(tree)
    for _ in range(3):
        await world.settle()
        child(world, "b").tell(fail)
    await world.settle()
    assert isinstance(ends[0], errors.RestartIntensityExceeded)
    assert isinstance(ends[0].__cause__, ValueError)
    assert log[-2:] == ["!b", "-a"]
    assert world.runtime.registry.get_all() == []


async def test_failures_apart_in_time_do_not_add_up(world: World) -> None:
    tree = Supervisor.start([worker("a", [])], intensity=Intensity(1, 10.0))
    for _ in range(5):
        await world.settle()
        child(world, "a").tell(fail)
        await world.settle()
        world.clock.now += 11.0
    assert tree.is_alive()


async def test_an_escalation_restarts_the_subtree_and_what_depends_on_it(world: World) -> None:
    log: list[str] = []

    def inner() -> ActorRef[Any]:
        return Supervisor.start([worker("x", log), worker("y", log)], intensity=Intensity(0, 10.0))

    Supervisor.start([worker("a", log), Child("inner", inner), worker("z", log)], strategy=Strategy.REST_FOR_ONE)
    await world.settle()
    log.clear()
    child(world, "y").tell(fail)
    await world.settle()
    assert log == ["!y", "-x", "-z", "+x", "+y", "+z"]
    assert child(world, "x").is_alive()


async def test_a_child_that_cannot_start_the_first_time_raises_and_ends_those_before_it(world: World) -> None:
    def broken() -> ActorRef[Any]:
        raise OSError("no disk")

    log: list[str] = []
    with pytest.raises(OSError, match="no disk"):
        Supervisor.start([worker("a", log), Child("b", broken), worker("c", log)])
    await world.settle()
    assert log == []  # it has not run its on_start yet
    assert world.runtime.registry.get_all() == []


async def test_a_restart_that_fails_at_once_counts_until_it_works_or_escalates(world: World) -> None:
    log: list[str] = []
    outcomes: list[Callable[[], ActorRef[Any]]] = []

    def start() -> ActorRef[Any]:
        return outcomes.pop()() if outcomes else Worker.start("a", log)

    def refuse() -> ActorRef[Any]:
        raise OSError("not yet")

    tree = Supervisor.start([Child("a", start)], intensity=Intensity(3, 10.0))
    ends = ends_of(tree)
    await world.settle()
    outcomes += [refuse, refuse]
    child(world, "a").tell(fail)
    await world.settle()
    assert child(world, "a").is_alive()
    outcomes += [refuse]
    child(world, "a").tell(fail)
    await world.settle()
    assert [type(end) for end in ends] == [errors.RestartIntensityExceeded]


async def test_a_child_that_cannot_be_started_again_is_not_tried_for_ever_however_slow_the_tries(world: World) -> None:
    tries: list[float] = []

    def start() -> ActorRef[Any]:
        if not tries:
            tries.append(world.clock.now)
            return Worker.start("a", [])
        world.clock.now += 100.0  # longer than the window of the intensity
        tries.append(world.clock.now)
        if len(tries) > 50:
            return Worker.start("a", [])
        raise OSError("not yet")

    tree = Supervisor.start([Child("a", start)], intensity=Intensity(3, 10.0))
    ends = ends_of(tree)
    await world.settle()
    child(world, "a").tell(fail)
    await world.settle()
    assert [type(end) for end in ends] == [errors.RestartIntensityExceeded]
    assert isinstance(ends[0].__cause__, OSError) if ends[0] else False
    assert len(tries) == 5


async def test_others_get_their_turn_between_two_tries_to_start_a_child_again(world: World) -> None:
    log: list[str] = []

    def start() -> ActorRef[Any]:
        log.append("try")
        if log.count("try") in (2, 3):
            asyncio.get_running_loop().call_soon(log.append, "another")
            raise OSError("not yet")
        return Worker.start("a", [])

    Supervisor.start([Child("a", start)])
    await world.settle()
    child(world, "a").tell(fail)
    await world.settle()
    assert log == ["try", "try", "another", "try", "another", "try"]


async def test_a_supervisor_that_is_killed_while_it_stops_leaves_no_child(world: World) -> None:
    class Hangs(Actor):
        await_limit_s = None

        async def on_receive(self, message: Any) -> None:
            await asyncio.Event().wait()

    tree = Supervisor.start([worker("a", []), Child("b", lambda: Hangs.start(), stop_timeout_s=100.0)])
    await world.settle()
    child(world, "b").tell("hang")
    tree.stop()
    await world.settle()
    tree.kill()
    await world.settle()
    assert world.runtime.registry.get_all() == []


async def test_an_on_start_that_raises_is_an_end_like_any_other(world: World) -> None:
    class Unstartable(Actor):
        def on_start(self) -> None:
            raise ValueError

    tree = Supervisor.start([Child("a", lambda: Unstartable.start())], intensity=Intensity(2, 10.0))
    ends = ends_of(tree)
    await world.settle()
    await world.settle()
    assert [type(end) for end in ends] == [errors.RestartIntensityExceeded]
    assert world.runtime.failed == 4


async def test_a_child_that_does_not_stop_in_its_time_is_killed(world: World) -> None:
    class Hangs(Actor):
        await_limit_s = None

        async def on_receive(self, message: Any) -> None:
            await asyncio.Event().wait()

    log: list[str] = []
    tree = Supervisor.start([worker("a", log), Child("b", lambda: Hangs.start(), stop_timeout_s=2.0)])
    await world.settle()
    hanging = child(world, "b")
    hanging.tell("hang")
    await world.settle()
    stopping = tree.stop()
    await world.settle()
    assert hanging.is_alive()
    assert log == ["+a"]
    world.advance(2.0)
    assert await stopping is True
    assert not hanging.is_alive()
    assert log == ["+a", "-a"]


async def test_a_killed_supervisor_takes_its_children_along(world: World) -> None:
    log: list[str] = []
    tree = Supervisor.start([worker(name, log) for name in "ab"])
    await world.settle()
    tree.kill()
    await world.settle()
    assert log == ["+a", "+b", "-b", "-a"]
    assert world.runtime.registry.get_all() == []


async def test_two_children_of_one_name_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="one name"):
        Supervisor.start([worker("a", []), worker("a", [])])
