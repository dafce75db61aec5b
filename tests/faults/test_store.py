"""Outcomes of a store that a disk cannot be made to show: refused, lost, stored without an answer, stored late, and a store
that is away. Senders hear so, and their repeats resolve one way."""

from __future__ import annotations

import pathlib
import random
from collections.abc import Sequence

import pytest

from protocol import codes
from storage import interfaces, records
from storage.sqlite import store as sqlite
from tests.faults import nodes, traffic
from tests.faults.waiting import until
from tests.storage.faults import Fault, FaultyStore


class RandomlyFaulty(FaultyStore):
    """Every so many commits one goes wrong, in any way, while `on`. `happened`: which."""

    def __init__(self, inner: interfaces.Store, chance: random.Random) -> None:
        super().__init__(inner)
        self.on = False
        self.happened: list[Fault] = []
        self._chance = chance

    async def commit(self, batch: Sequence[records.Write]) -> list[records.Outcome]:
        if self.on and self._chance.randrange(6) == 0:
            fault = self._chance.choice(list(Fault))
            self.happened.append(fault)
            self.faults.append(fault)
        return await super().commit(batch)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> list[RandomlyFaulty]:
    """The stores of nodes started from now on."""
    made: list[RandomlyFaulty] = []

    async def open_store(path: pathlib.Path, *, readers: int) -> interfaces.Store:
        store = RandomlyFaulty(await original(path, readers=readers), random.Random(7))
        made.append(store)
        return store.store

    original = sqlite.open_store
    monkeypatch.setattr("storage.sqlite.store.open_store", open_store)
    return made


async def test_whatever_becomes_of_a_commit_repeats_resolve_it_one_way(
    tmp_path: pathlib.Path, faulty: list[RandomlyFaulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    async with nodes.inside(data) as node:
        async with traffic.Traffic(node.url, seed=7) as people:
            await people.gather()
            faulty[0].on = True
            people.begin(commands=120)
            await people.answered(600)
            faulty[0].on = False
            await people.converge()
        assert set(faulty[0].happened) == set(Fault)
        assert people.refusals[codes.UNKNOWN.number] > 0
        assert people.refusals[codes.UNAVAILABLE.number] > 0
        assert not node.failure
    monkeypatch.undo()
    await traffic.stored(data, people.seen)
    people.check()


async def test_a_store_that_is_away_and_returns_loses_nothing(
    tmp_path: pathlib.Path, faulty: list[RandomlyFaulty], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads fail and commits are refused for a while: sessions are closed, owners cannot load; then all go on."""
    data = tmp_path / "data"
    async with nodes.inside(data) as node:
        async with traffic.Traffic(node.url, seed=8) as people:
            await people.gather()
            store = faulty[0]
            people.begin(commands=120)
            for _ in range(2):
                await people.answered(100)
                store.away = True
                store.faults.extend([Fault.REFUSED] * 20)
                for person in people.people[:2]:
                    if person.client._line is not None:  # else it is between two connections as it is
                        person.client._line._socket.transport.abort()
                await until(lambda: len(store.faults) < 18, "commits are refused")
                store.away = False
                store.faults.clear()
            await people.converge()
        assert people.refusals[codes.UNAVAILABLE.number] > 0
        assert not node.failure
    monkeypatch.undo()
    await traffic.stored(data, people.seen)
    people.check()
