"""What an owner may rely on when an answer is lost: the same call again settles it, and takes effect once."""

from __future__ import annotations

import pathlib

import pytest

from storage import errors, interfaces, records
from tests.storage import backends, faults, make
from tests.storage.make import ASHA, BEN, DIRECT, GROUP, PHONE, append, event, member

#: After these, only a load can tell whether the append is stored.
UNKNOWN = [faults.Fault.LOST, faults.Fault.UNANSWERED, faults.Fault.LATE]


@pytest.mark.parametrize("fault", UNKNOWN)
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
    assert [each.seq for each in await store.changes(b"", 99)] == [1, 2, 3]
    assert [each.cursor for each in await store.behind(ASHA, PHONE)] == [1]
    assert [each.mentions for each in await store.conversations(ASHA, b"", 9)] == [1]


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_what_a_load_does_not_show_of_an_unknown_append_is_never_seen(
    store: interfaces.Store, fault: faults.Fault
) -> None:
    faulty = faults.FaultyStore(store)
    faulty.faults.append(fault)
    assert await make.results(faulty.store, append(DIRECT, 1, event(b"a"))) == [records.Result.UNKNOWN]
    loaded = await faulty.store.load(DIRECT)
    shown = [(each.seq, each.data) for each in loaded.tail]
    assert shown == ([] if fault is faults.Fault.LOST else [(1, b"a")])
    await make.stored(faulty.store, append(DIRECT, loaded.head + 1, event(b"next"), epoch=loaded.epoch))
    assert await make.whole(store, DIRECT) == [*shown, (loaded.head + 1, b"next")]


async def test_a_loading_owner_is_given_an_epoch_that_fences_those_before_it(
    backend: backends.Backend, tmp_path: pathlib.Path
) -> None:
    """Also in a stream that was never written, and where no earlier owner has written with its own."""
    earlier = await backend.open(tmp_path)
    given = [(await earlier.load(stream)).epoch for stream in (DIRECT, GROUP)]
    await make.stored(earlier, append(DIRECT, 1, event(b"a"), epoch=given[0]))
    await earlier.close()
    store = await backend.open(tmp_path)
    for stream, before in zip((DIRECT, GROUP), given, strict=True):
        loaded = await store.load(stream)
        assert loaded.epoch > before
        await make.stored(store, append(stream, loaded.head + 1, event(b"mine"), epoch=loaded.epoch))
        late = append(stream, loaded.head + 2, event(b"late"), epoch=before)
        await make.answers(store, [records.Result.FENCED], late)
        assert (await store.load(stream)).epoch == loaded.epoch
    await store.close()


async def test_a_late_write_of_an_owner_that_lost_its_place_does_not_count(store: interfaces.Store) -> None:
    faulty = faults.FaultyStore(store)
    faulty.faults.append(faults.Fault.LATE)
    assert await make.results(faulty.store, append(DIRECT, 1, event(b"late"))) == [records.Result.UNKNOWN]
    await make.stored(store, append(DIRECT, 1, event(b"new owner"), epoch=2))
    await make.answers(faulty.store, [records.Result.FENCED], append(DIRECT, 1, event(b"late")))
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


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_after_a_load_who_may_read_is_what_its_events_say(store: interfaces.Store, fault: faults.Fault) -> None:
    """A joining and a removal whose append ended unknown: all of it, or nothing."""
    await make.stored(store, append(GROUP, 1, event(), members=[member(ASHA, GROUP)]))
    faulty = faults.FaultyStore(store)
    faulty.faults.append(fault)
    change = append(GROUP, 2, event(), members=[member(ASHA, GROUP, 1, 2), member(BEN, GROUP, 2)])
    assert await make.results(faulty.store, change) == [records.Result.UNKNOWN]
    stored = (await faulty.store.load(GROUP)).head == 2
    assert await store.memberships(ASHA, GROUP) == ((1, 2 if stored else records.OPEN_END),)
    assert await store.memberships(BEN, GROUP) == (((2, records.OPEN_END),) if stored else ())
