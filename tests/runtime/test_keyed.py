"""Supervisors of keyed children: the key suffers, never the node."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from actors.runtime import endings, errors, keyed
from actors.runtime.actor import Actor
from actors.runtime.keyed import KeyedHost, KeyedSupervisor
from actors.runtime.ref import ActorRef
from actors.runtime.restarts import Backoff, Intensity, Restart, Strategy
from actors.runtime.supervisor import Child, Supervisor
from tests.runtime.conftest import World


class Conversation(Actor):
    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key

    def on_receive(self, message: Any) -> Any:
        return message()


def fail() -> None:
    raise ValueError("a bad message")


class Bench:
    """A keyed supervisor and what it said."""

    def __init__(self, world: World, restart: Restart = Restart.TRANSIENT) -> None:
        self.world = world
        self.unloadable: set[int] = set()
        self.said: list[Any] = []
        self.restart = restart
        self.keyed = self.supervise()

    def supervise(self) -> KeyedSupervisor[int]:
        return KeyedSupervisor(
            self.load,
            restart=self.restart,
            clock=self.world.clock,
            intensity=Intensity(2, 10.0),
            backoff=Backoff(4.0, 64.0),
            jitter=lambda: 0.5,
            started=lambda key, ref: self.said.append(("started", key)),
            ended=lambda key, error: self.said.append(("ended", key, type(error))),
            quarantined=lambda key, seconds: self.said.append(("quarantined", key, seconds)),
        )

    def load(self, key: int) -> ActorRef[Any]:
        if key in self.unloadable:
            raise OSError("cannot load")
        return Conversation.start(key)


async def test_a_key_has_one_child_which_is_found_again(world: World) -> None:
    bench = Bench(world)
    ref = bench.keyed.start(7)
    assert bench.keyed.start(7) is ref
    assert bench.keyed.children == {7: ref}
    assert bench.keyed.start(8) is not ref


async def test_a_child_that_was_put_to_sleep_is_forgotten_and_started_anew(world: World) -> None:
    bench = Bench(world)
    ref = bench.keyed.start(7)
    assert ref.stop_now()
    assert bench.keyed.children == {}
    assert bench.keyed.start(7) is not ref
    assert bench.said == [("started", 7), ("ended", 7, type(None)), ("started", 7)]


async def test_a_failed_transient_child_is_restarted_at_once(world: World) -> None:
    bench = Bench(world)
    ref = bench.keyed.start(7)
    ref.tell(fail)
    await world.settle()
    again = bench.keyed.children[7]
    assert again is not ref
    assert again.is_alive()
    assert bench.said == [("started", 7), ("started", 7)]


async def test_a_failed_temporary_child_is_not(world: World) -> None:
    bench = Bench(world, Restart.TEMPORARY)
    bench.keyed.start(7).tell(fail)
    await world.settle()
    assert bench.keyed.children == {}
    assert bench.said == [("started", 7), ("ended", 7, ValueError)]
    assert bench.keyed.quarantined_for(7) == 0.0


async def test_a_key_that_fails_too_often_is_quarantined_with_backoff_and_the_others_are_not(world: World) -> None:
    bench = Bench(world)
    other = bench.keyed.start(8)
    bench.keyed.start(7)
    for _ in range(3):
        bench.keyed.children[7].tell(fail)
        await world.settle()
    assert bench.said[-2:] == [("quarantined", 7, 3.0), ("ended", 7, ValueError)]
    with pytest.raises(errors.Quarantined) as caught:
        bench.keyed.start(7)
    assert (caught.value.key, caught.value.retry_after_s) == (7, 3.0)
    assert other.is_alive()
    assert bench.keyed.start(9).is_alive()
    world.clock.now += 2.0
    assert bench.keyed.quarantined_for(7) == 1.0
    world.clock.now += 1.0
    bench.keyed.start(7).tell(fail)  # on probation: one is enough, and it takes twice as long
    await world.settle()
    assert bench.keyed.quarantined_for(7) == 6.0


async def test_many_unrelated_failures_quarantine_nobody(world: World) -> None:
    bench = Bench(world)
    for key in range(200):
        bench.keyed.start(key).tell(fail)
    await world.settle()
    await world.settle()
    assert len(bench.keyed.children) == 200
    assert all(bench.keyed.quarantined_for(key) == 0.0 for key in range(200))


async def test_a_key_that_cannot_load_raises_and_is_quarantined_at_last(world: World) -> None:
    bench = Bench(world)
    bench.unloadable.add(7)
    for _ in range(2):
        with pytest.raises(OSError, match="cannot load"):
            bench.keyed.start(7)
    with pytest.raises(errors.Quarantined) as caught:
        bench.keyed.start(7)
    assert isinstance(caught.value.__cause__, OSError)
    bench.unloadable.clear()
    with pytest.raises(errors.Quarantined):
        bench.keyed.start(7)
    world.clock.now += caught.value.retry_after_s
    assert bench.keyed.start(7).is_alive()


async def test_a_child_that_fails_and_then_cannot_load_ends_in_quarantine_not_in_a_loop(world: World) -> None:
    bench = Bench(world)
    ref = bench.keyed.start(7)
    bench.unloadable.add(7)
    ref.tell(fail)
    await world.settle()
    assert bench.said[-2:] == [("quarantined", 7, 3.0), ("ended", 7, OSError)]


async def test_trouble_of_long_ago_is_forgotten(world: World) -> None:
    bench = Bench(world)
    bench.unloadable.update(range(100))
    for key in range(100):
        with pytest.raises(OSError, match="cannot load"):
            bench.keyed.start(key)
    assert len(bench.keyed._troubles) == 100
    world.clock.now += 5.0
    with pytest.raises(OSError, match="cannot load"):
        bench.keyed.start(7)
    world.clock.now += 5.0
    with pytest.raises(OSError, match="cannot load"):
        bench.keyed.start(99)
    assert set(bench.keyed._troubles) == {7, 99}


async def test_stop_ends_all_children_and_starts_no_more_until_opened(world: World) -> None:
    bench = Bench(world, Restart.PERMANENT)
    refs = [bench.keyed.start(key) for key in range(5)]
    await bench.keyed.stop()
    assert not any(ref.is_alive() for ref in refs)
    assert bench.keyed.children == {}
    with pytest.raises(errors.ActorDeadError):
        bench.keyed.start(1)
    bench.keyed.open()
    assert bench.keyed.start(1).is_alive()


async def test_in_a_tree_its_children_stop_with_their_host(world: World) -> None:
    bench = Bench(world)
    tree = Supervisor.start([Child("conversations", lambda: KeyedHost.start(bench.keyed))])
    await world.settle()
    refs = [bench.keyed.start(key) for key in range(5)]
    host = world.runtime.registry.whereis("conversations")
    assert host is not None
    host.kill()
    await world.settle()
    assert not any(ref.is_alive() for ref in refs)
    ref = bench.keyed.start(1)
    assert ref.is_alive()
    await tree.stop()
    assert not ref.is_alive()


class Lingers(Conversation):
    """Its last hook takes as long as the test likes; it hangs in a handler when told to."""

    await_limit_s = None

    def __init__(self, key: int, gate: asyncio.Event) -> None:
        super().__init__(key)
        self.gate = gate

    async def hang(self) -> None:
        for _ in range(3):  # swallowed: that of the kill, and of giving up; the loop's own ends it
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def on_stop(self) -> None:  # type: ignore[override]
        await self.gate.wait()

    async def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:  # type: ignore[override]
        await self.gate.wait()


async def test_a_child_whose_last_hook_still_runs_is_replaced_and_its_end_counts(world: World) -> None:
    gate, bench = asyncio.Event(), Bench(world)
    bench.load = lambda key: Lingers.start(key, gate)  # type: ignore[method-assign]
    bench.keyed = bench.supervise()
    ref = bench.keyed.start(7)
    ref.tell(fail)
    await world.settle()
    assert not ref.is_alive()
    assert bench.keyed.living(7) is None
    again = bench.keyed.start(7)
    assert again.is_alive()
    gate.set()
    await world.settle()
    assert bench.keyed.children == {7: again}
    assert again.is_alive()
    assert len(bench.keyed._troubles[7].restarts) == 1


async def test_a_stop_that_is_cut_short_leaves_no_dead_child_and_no_living_one(world: World) -> None:
    gate, bench = asyncio.Event(), Bench(world)
    bench.load = lambda key: Lingers.start(key, gate)  # type: ignore[method-assign]
    bench.keyed = bench.supervise()
    refs = [bench.keyed.start(key) for key in range(3)]
    hanging = refs[0]._actor
    assert hanging is not None
    refs[0].tell(hanging.hang)
    await world.settle()
    stopping = asyncio.ensure_future(bench.keyed.stop(5.0))
    await world.settle()
    stopping.cancel()
    await world.settle()
    bench.keyed.open()
    assert bench.keyed.children == {0: refs[0]}  # it swallows its cancellation, so nobody takes its place yet
    world.advance(endings.KILL_GRACE_S + 1.0)
    gate.set()
    await world.settle()
    assert not any(ref.is_alive() for ref in refs)
    assert [await bench.keyed.start(key).ask(lambda: "alive") for key in range(3)] == ["alive"] * 3


async def test_a_host_that_is_killed_while_it_stops_leaves_every_key_usable(world: World) -> None:
    gate, bench = asyncio.Event(), Bench(world)
    bench.load = lambda key: Lingers.start(key, gate)  # type: ignore[method-assign]
    bench.keyed = bench.supervise()
    Supervisor.start(
        [
            Child("first", lambda: Conversation.start(0)),
            Child("host", lambda: KeyedHost.start(bench.keyed), stop_timeout_s=0.5),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    await world.settle()
    refs = [bench.keyed.start(key) for key in range(3)]
    first = world.runtime.registry.whereis("first")
    assert first is not None
    first.tell(fail)  # so the host is stopped, and its children's hooks take longer than it may
    await world.settle()
    for _ in range(8):
        world.advance(0.5)
        await world.settle()
    assert not any(ref.is_alive() for ref in refs)
    assert [await bench.keyed.start(key).ask(lambda: "alive") for key in range(3)] == ["alive"] * 3


async def test_a_host_has_longer_than_its_children_and_their_kill(world: World) -> None:
    gate, bench = asyncio.Event(), Bench(world)
    bench.load = lambda key: Lingers.start(key, gate)  # type: ignore[method-assign]
    bench.keyed = bench.supervise()
    tree = Supervisor.start([Child("host", lambda: KeyedHost.start(bench.keyed, 2.0), stop_timeout_s=2.0 + keyed.HOST_SLACK_S)])
    await world.settle()
    ref = bench.keyed.start(1)
    actor = ref._actor
    assert actor is not None
    ref.tell(actor.hang)
    await world.settle()
    stopping = tree.stop()
    for seconds in (2.0, endings.KILL_GRACE_S, endings.KILL_GRACE_S):  # its time, its handler's grace, its last hook's
        await world.settle()
        assert not stopping.done()
        world.advance(seconds)
    assert await stopping is True
    assert world.runtime.failed == 1  # the child; its host was not killed
    assert bench.keyed.children == {}


async def test_a_callback_that_raises_starts_no_second_child(world: World) -> None:
    made: list[ActorRef[Any]] = []

    def load(key: int) -> ActorRef[Any]:
        made.append(Conversation.start(key))
        return made[-1]

    def broken(*_: Any) -> None:
        raise RuntimeError("a counter")

    supervisor: KeyedSupervisor[int] = KeyedSupervisor(
        load,
        restart=Restart.TRANSIENT,
        clock=world.clock,
        intensity=Intensity(1, 10.0),
        started=broken,
        ended=broken,
        quarantined=broken,
    )
    supervisor.start(7).tell(fail)
    await world.settle()
    assert [ref.is_alive() for ref in made] == [False, True]
    assert supervisor.children == {7: made[1]}
    made[1].tell(fail)
    await world.settle()
    assert supervisor.children == {}
    assert supervisor.quarantined_for(7) > 0.0


async def test_a_factory_that_raises_what_it_should_not_at_a_restart_freezes_nobody(world: World) -> None:
    bench = Bench(world)
    other, ref = bench.keyed.start(8), bench.keyed.start(7)

    def load(key: int) -> ActorRef[Any]:
        raise asyncio.CancelledError

    bench.keyed._factory = load
    ref.tell(fail)
    await world.settle()
    assert bench.said[-2:] == [("quarantined", 7, 3.0), ("ended", 7, asyncio.CancelledError)]
    assert await other.ask(lambda: "alive") == "alive"
