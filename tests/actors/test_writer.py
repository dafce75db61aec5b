"""The writer: one commit at a time, everybody hears how it ended, and an overfull queue says so at once."""

from __future__ import annotations

import pytest

from actors import writer
from actors.messages import Persist, Persisted
from actors.runtime.actor import Actor
from actors.runtime.ref import ActorRef
from storage import records
from tests.actors.test_owner import Gate
from tests.actors.world import ASHA, World, direct
from tests.storage.faults import Fault

S = direct(ASHA, ASHA)


class Asker(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Persisted] = []

    def on_receive(self, message: Persisted) -> None:
        self.heard.append(message)


def mark(seq: int) -> records.Mark:
    return records.Mark(S, ASHA, seq, seq)


def asker() -> tuple[ActorRef[Asker], Asker]:
    ref = Asker.start()
    actor = ref._actor
    assert actor is not None
    return ref, actor


async def test_what_comes_while_a_commit_is_under_way_makes_one_more(world: World) -> None:
    ref, actor = asker()
    commit = Gate(world, "commit")
    for number in range(100):
        world.services.whereis("writer").tell_committed(Persist([mark(number)], ref, number))
        if number == 0:
            await world.until(lambda: commit.waiting)
    commit.open()
    await world.until(lambda: len(actor.heard) == 100)
    assert commit.waiting == 2
    assert [each.token for each in actor.heard] == list(range(100))


async def test_more_than_may_wait_is_refused_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 10)
    ref, actor = asker()
    commit = Gate(world, "commit")
    tell = world.services.whereis("writer").tell_committed
    tell(Persist([mark(1)], ref, 0))
    await world.until(lambda: commit.waiting)
    for number in range(1, 13):
        tell(Persist([mark(number)], ref, number))
    await world.until(lambda: len(actor.heard) == 2)
    assert {each.token: each.outcomes[0].result for each in actor.heard} == {
        11: records.Result.FAILED,
        12: records.Result.FAILED,
    }
    commit.open()
    await world.until(lambda: len(actor.heard) == 13)
    assert world.permanent("writer").waiting() == 0


async def test_a_store_that_raises_leaves_everything_unknown_and_the_writer_alive(world: World) -> None:
    ref, actor = asker()
    inner = world.store.inner.commit

    async def raises(batch: object) -> object:
        raise OSError("planted")

    world.store.commit = raises  # type: ignore[method-assign, assignment]
    world.services.whereis("writer").tell_committed(Persist([mark(1), mark(2)], ref, "a"))
    await world.until(lambda: actor.heard)
    assert [each.result for each in actor.heard[0].outcomes] == [records.Result.UNKNOWN] * 2
    world.store.commit = inner  # type: ignore[method-assign, assignment]
    world.services.whereis("writer").tell_committed(Persist([mark(1)], ref, "b"))
    await world.until(lambda: len(actor.heard) == 2)
    assert actor.heard[1].outcomes == [records.STORED]


async def test_an_empty_write_ends_after_all_that_was_told_before(world: World) -> None:
    ref, actor = asker()
    world.store.faults.append(Fault.REFUSED)
    tell = world.services.whereis("writer").tell_committed
    tell(Persist([mark(1)], ref, 1))
    tell(Persist((), ref, 2))
    await world.until(lambda: len(actor.heard) == 2)
    assert [each.token for each in actor.heard] == [1, 2]
    assert not world.services.telemetry.restarts
