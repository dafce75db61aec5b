"""What an owner may rely on when an answer is lost: the same call again settles it, and takes effect once."""

from __future__ import annotations

import pytest

from storage import errors, interfaces, records
from tests.storage import faults, make
from tests.storage.make import ASHA, DIRECT, PHONE, append, event, member


@pytest.mark.parametrize("fault", [faults.Fault.LOST, faults.Fault.UNANSWERED, faults.Fault.LATE])
async def test_an_unknown_append_sent_again_is_stored_once(store: interfaces.Store, fault: faults.Fault) -> None:
    await make.devices(store, ASHA, PHONE)
    faulty = faults.FaultyStore(store)
    await make.stored(faulty.store, append(DIRECT, 1, event(b"a")))
    faulty.faults.append(fault)
    batch: list[records.Write] = [
        append(DIRECT, 2, event(b"b"), event(b"c"), parts=[(b"p", b"1")], members=[member(ASHA, DIRECT)], mentions=[(ASHA, 2)]),
        records.Mark(DIRECT, ASHA, 1, 1),
        records.Cursor(ASHA, PHONE, DIRECT, 1),
    ]
    assert await make.results(faulty.store, *batch) == [records.Result.UNKNOWN] * 3
    await make.stored(faulty.store, *batch)
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert [each.seq for each in await store.changes(0, 99)] == [1, 2, 3]
    assert [each.cursor for each in await store.behind(ASHA, PHONE)] == [1]
    assert [each.mentions for each in await store.conversations(ASHA, b"", 9)] == [1]


@pytest.mark.parametrize("fault", [faults.Fault.LOST, faults.Fault.UNANSWERED])
async def test_an_owner_that_loads_again_finds_how_it_ended(store: interfaces.Store, fault: faults.Fault) -> None:
    faulty = faults.FaultyStore(store)
    faulty.faults.append(fault)
    assert await make.results(faulty.store, append(DIRECT, 1, event(b"a"))) == [records.Result.UNKNOWN]
    head = (await faulty.store.load(DIRECT)).head
    assert head == (1 if fault is faults.Fault.UNANSWERED else 0)
    await make.stored(faulty.store, append(DIRECT, head + 1, event(b"next")))


async def test_a_late_write_of_an_owner_that_lost_its_place_does_not_count(store: interfaces.Store) -> None:
    faulty = faults.FaultyStore(store)
    faulty.faults.append(faults.Fault.LATE)
    assert await make.results(faulty.store, append(DIRECT, 1, event(b"late"))) == [records.Result.UNKNOWN]
    await make.stored(store, append(DIRECT, 1, event(b"new owner"), epoch=2))
    assert await make.results(faulty.store, append(DIRECT, 1, event(b"late"))) == [records.Result.FENCED]
    assert await make.whole(store, DIRECT) == [(1, b"new owner")]


async def test_account_calls_may_be_repeated(store: interfaces.Store) -> None:
    for _ in range(2):
        await store.create_user(make.user(ASHA, "asha", request=b"r"))
        await store.add_device(make.device(ASHA, PHONE), make.token(ASHA, PHONE, b"t"))
        await store.rename(ASHA, "Usha", "asha")
        await store.add_token(make.token(ASHA, PHONE, b"u", True))
    assert len(await store.devices(ASHA)) == 1


async def test_a_store_that_is_away_says_so(store: interfaces.Store) -> None:
    faulty = faults.FaultyStore(store)
    faulty.away = True
    with pytest.raises(errors.Unavailable):
        await faulty.store.load(DIRECT)
    assert not faulty.healthy
