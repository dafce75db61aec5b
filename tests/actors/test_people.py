"""What is known of people is never older than what was acknowledged, and is bounded."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator

import pytest

from actors.people import People
from auth.policy import Facts
from storage import interfaces, records
from storage.sqlite import store as sqlite
from tests.storage.faults import FaultyStore


@pytest.fixture
async def store(tmp_path: pathlib.Path) -> AsyncIterator[interfaces.Store]:
    opened = await sqlite.open_store(tmp_path / "data")
    for user in range(1, 9):
        await opened.create_user(records.User(user, f"u{user}", f"u{user}", "x", None, None, 1))
    yield opened
    await opened.close()


async def test_what_was_put_is_not_overwritten_by_a_read_that_began_before(store: interfaces.Store) -> None:
    faulty = FaultyStore(store)
    gate, begun = asyncio.Event(), asyncio.Event()
    inner = store.user

    async def user(number: int) -> records.User | None:
        row = await inner(number)
        begun.set()
        await gate.wait()
        return row

    faulty.user = user  # type: ignore[attr-defined]
    people = People(faulty.store, limit=2)
    loads = [asyncio.create_task(people.load(1)) for _ in range(2)]
    await begun.wait()
    people.put(1, Facts("newer"))
    people.put(2, Facts("crowds"))
    people.put(3, Facts("it out"))
    assert not people.knows(1)
    gate.set()
    faulty.user = inner  # type: ignore[attr-defined]
    assert [await load for load in loads] == [Facts("u1"), Facts("u1")]  # read anew, after what was put
    assert not people._reading


async def test_no_more_are_kept_than_the_limit(store: interfaces.Store) -> None:
    people = People(store, limit=3)
    for user in range(1, 9):
        await people.load(user)
    assert [user for user in range(1, 9) if people.knows(user)] == [6, 7, 8]


async def test_who_does_not_exist_or_no_longer_is_known_as_nobody(store: interfaces.Store) -> None:
    people = People(store)
    await store.delete_user(1, 5)
    assert await people.load(1) is None
    assert await people.load(99) is None
    assert people.peek(1) is None


async def test_those_who_name_many_make_room_as_well(store: interfaces.Store) -> None:
    people = People(store, limit_named=10)
    for user in (1, 2, 3):
        people.put(user, Facts(f"u{user}", contacts=frozenset(range(10, 14)), blocked=frozenset({10})))
    assert [people.knows(user) for user in (1, 2, 3)] == [False, True, True]
    people.put(3, Facts("u3"))
    people.put(4, Facts("u4", contacts=frozenset(range(10, 15))))
    assert [people.knows(user) for user in (2, 3, 4)] == [True, True, True]
    people.put(5, Facts("u5", contacts=frozenset(range(10, 40))))
    assert [people.knows(user) for user in (2, 3, 4, 5)] == [False, False, False, True]
