"""Supervisors of keyed children: the key suffers, never the node."""

from __future__ import annotations

from typing import Any

import pytest

from actors.runtime import errors, keyed
from actors.runtime.actor import Actor
from actors.runtime.keyed import KeyedHost, KeyedSupervisor
from actors.runtime.ref import ActorRef
from actors.runtime.restarts import Backoff, Intensity, Restart
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
        self.unloadable: set[int] = set()
        self.said: list[Any] = []
        self.keyed: KeyedSupervisor[int] = KeyedSupervisor(
            self.load,
            restart=restart,
            clock=world.clock,
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
    for key in range(keyed.FORGET_ABOVE + 1):
        bench.unloadable.add(key)
        with pytest.raises(OSError, match="cannot load"):
            bench.keyed.start(key)
        world.clock.now += 20.0
    assert len(bench.keyed._troubles) == 1


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
