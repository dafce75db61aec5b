"""Argon2id in its pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import argon2
import pytest
from argon2 import exceptions

import telemetry
from auth import passwords
from protocol import codes
from tests.auth import world


class Held:
    """A hasher that waits until it is let go, in place of one that takes its time."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.threads: set[int] = set()

    def hash(self, password: str) -> str:
        self.threads.add(threading.get_ident())
        self.begun.release()
        assert self.go.wait(60)
        return "hash of " + password


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    made = Held()
    monkeypatch.setattr(argon2, "PasswordHasher", lambda **_: made)
    yield made
    made.go.set()


@pytest.fixture
def cheap() -> Iterator[passwords.Passwords]:
    made = passwords.Passwords(world.CHEAP, 2, 4)
    yield made
    made.close()


async def test_a_hash_is_argon2id_with_the_configured_cost_and_verifies(cheap: passwords.Passwords) -> None:
    hashed = await cheap.hash(world.PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await cheap.verify(hashed, world.PASSWORD)
    assert not await cheap.verify(hashed, world.PASSWORD + "!")
    assert hashed != await cheap.hash(world.PASSWORD)


async def test_for_nobody_the_same_work_is_done_and_nothing_is_right(
    cheap: passwords.Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[argon2.Parameters] = []
    real = argon2.PasswordHasher.verify

    def spy(self: argon2.PasswordHasher, hashed: str, password: str) -> bool:
        tried.append(argon2.extract_parameters(hashed))
        return real(self, hashed, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", spy)
    assert not await cheap.verify(None, world.PASSWORD)
    assert not await cheap.verify(await cheap.hash("another"), world.PASSWORD)
    assert tried[0] == tried[1]


async def test_a_hash_of_other_parameters_is_outdated_and_still_verifies(cheap: passwords.Passwords) -> None:
    dearer = passwords.Passwords(passwords.Cost(16, 2), 1, 1)
    hashed = await cheap.hash(world.PASSWORD)
    assert not cheap.outdated(hashed)
    assert dearer.outdated(hashed)
    assert await dearer.verify(hashed, world.PASSWORD)
    dearer.close()


async def test_beyond_the_queue_the_answer_is_busy_at_once_and_the_waiting_are_served(held: Held) -> None:
    counts = telemetry.Telemetry()
    pool = passwords.Passwords(world.CHEAP, 2, 3, counts)
    jobs = [asyncio.ensure_future(pool.hash(f"password {number}")) for number in range(5)]
    await asyncio.sleep(0)  # each has handed its job in
    assert pool.waiting == counts.argon2_queue() == 3
    with world.refused(codes.BUSY) as refusal:
        await pool.hash("one too many")
    assert refusal.value.retry_after_ms > 0
    assert counts.argon2_refusals == 1
    held.go.set()
    assert await asyncio.gather(*jobs) == [f"hash of password {number}" for number in range(5)]
    assert len(held.threads) == 2
    assert threading.get_ident() not in held.threads
    assert await pool.hash("now there is room") == "hash of now there is room"
    pool.close()


async def test_who_goes_away_while_waiting_leaves_a_place(held: Held) -> None:
    pool = passwords.Passwords(world.CHEAP, 1, 1)
    first = asyncio.ensure_future(pool.hash("first"))
    await asyncio.sleep(0)
    await asyncio.to_thread(held.begun.acquire)
    second = asyncio.ensure_future(pool.hash("second"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    third = asyncio.ensure_future(pool.hash("third"))
    await asyncio.sleep(0)
    held.go.set()
    assert await first == "hash of first"
    assert await third == "hash of third"
    pool.close()


async def test_a_closed_pool_refuses_and_finishes_what_waits(held: Held) -> None:
    pool = passwords.Passwords(world.CHEAP, 1, 4)
    jobs = [asyncio.ensure_future(pool.hash(f"{number}")) for number in range(3)]
    await asyncio.sleep(0)
    pool.close()
    with world.refused(codes.RESTARTING):
        await pool.hash("too late")
    held.go.set()
    assert len(await asyncio.gather(*jobs)) == 3
    assert pool.waiting == 0


async def test_without_memory_for_a_hash_the_answer_is_unavailable(
    cheap: passwords.Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise exceptions.HashingError("Memory allocation error")

    monkeypatch.setattr(argon2.PasswordHasher, "hash", fail)
    with world.refused(codes.UNAVAILABLE):
        await cheap.hash(world.PASSWORD)
    assert cheap.waiting == 0


async def test_a_stored_hash_that_cannot_be_read_lets_nobody_in(cheap: passwords.Passwords) -> None:
    assert not await cheap.verify("no hash at all", world.PASSWORD)
