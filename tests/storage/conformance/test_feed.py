"""The change feed, as `interfaces.ChangeFeed` promises it."""

from __future__ import annotations

import pathlib

import pytest

from storage import errors, interfaces, records
from tests.storage import backends, make
from tests.storage.make import DIRECT, GROUP, append, event


async def test_every_committed_event_is_told_once_in_the_order_of_its_stream(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a")), append(GROUP, 1, event(b"x"), event(b"y")))
    await make.stored(store, append(DIRECT, 2, event(b"b", make.EDITED), n=1), records.Mark(DIRECT, 1, 1, 1))
    await make.results(store, append(DIRECT, 1, event(b"a")), append(DIRECT, 9, event(b"no")))
    found = await store.changes(b"", 99)
    told = {stream: [(each.seq, each.kind, each.data) for each in found if each.stream == stream] for stream in (DIRECT, GROUP)}
    assert told == {DIRECT: [(1, 1, b"a"), (2, make.EDITED, b"b")], GROUP: [(1, 1, b"x"), (2, 1, b"y")]}
    assert len({each.position for each in found}) == 4


async def test_one_asks_on_from_any_position(store: interfaces.Store) -> None:
    for turn in range(5):
        await make.stored(store, append(DIRECT, 3 * turn + 1, *[event()] * 3), append(GROUP, 2 * turn + 1, event(), event()))
    every = await store.changes(b"", 999)
    assert len(every) == 25
    for size in (1, 2, 3, 7, 25):
        seen: list[records.Change] = []
        while more := await store.changes(seen[-1].position if seen else b"", size):
            assert len(more) <= size
            seen += more
        assert seen == every


async def test_a_feed_that_was_trimmed_begins_later_and_goes_on(store: interfaces.Store) -> None:
    for seq in range(1, 6):
        await make.stored(store, append(DIRECT, seq, event()))
    last = (await store.changes(b"", 99))[-1].position
    assert await store.trim_changes(1) == 0
    await store.trim_changes(2**52)
    assert [seq for seq, _ in await make.whole(store, DIRECT)] == [1, 2, 3, 4, 5]
    await make.stored(store, append(DIRECT, 6, event()))
    assert [each.seq for each in await store.changes(last, 99)] == [6]
    found = await store.changes(b"", 99)
    assert [each.seq for each in found][-1] == 6
    assert len(found) < 6


async def test_who_has_missed_what_was_trimmed_is_told_and_not_led_past_it(store: interfaces.Store) -> None:
    for seq in range(1, 6):
        await make.stored(store, append(DIRECT, seq, event()))
    early, *_, late = [each.position for each in await store.changes(b"", 99)]
    await store.trim_changes(2**52)
    with pytest.raises(errors.Trimmed):
        await store.changes(early, 99)
    assert await store.changes(late, 99) == []


async def test_a_position_that_another_store_gave_out_is_told(backend: backends.Backend, tmp_path: pathlib.Path) -> None:
    """One that was set back by a restore counts as another, also when it has come as far again."""
    one, other = await backend.open(tmp_path / "one"), await backend.open(tmp_path / "other")
    for store, last in ((one, 2), (other, 5)):
        for seq in range(1, last + 1):
            await make.stored(store, append(DIRECT, seq, event()))
    position = (await one.changes(b"", 99))[-1].position
    with pytest.raises(errors.Trimmed):
        await other.changes(position, 99)
    await one.close()
    await other.close()


async def test_erased_events_appear_redacted(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"secret")), append(DIRECT, 2, event(b"d", 33), n=1, erase=[1]))
    assert [each.data for each in await store.changes(b"", 9)] == [b"gones", b"d"]
