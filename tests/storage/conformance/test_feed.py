"""The change feed, as `interfaces.ChangeFeed` promises it."""

from __future__ import annotations

from storage import interfaces, records
from tests.storage import make
from tests.storage.make import DIRECT, GROUP, append, event


async def test_every_committed_event_is_told_once_in_order(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a")), append(GROUP, 1, event(b"x"), event(b"y")))
    await make.stored(store, append(DIRECT, 2, event(b"b", make.EDITED), n=1), records.Mark(DIRECT, 1, 1, 1))
    await make.results(store, append(DIRECT, 1, event(b"a")), append(DIRECT, 9, event(b"no")))
    found = await store.changes(0, 99)
    assert sorted((each.stream, each.seq, each.kind, each.data) for each in found[:3]) == [
        (DIRECT, 1, 1, b"a"),
        (GROUP, 1, 1, b"x"),
        (GROUP, 2, 1, b"y"),
    ]
    assert [(each.stream, each.seq, each.kind, each.data) for each in found[3:]] == [(DIRECT, 2, make.EDITED, b"b")]
    positions = [each.position for each in found]
    assert positions == sorted(set(positions))


async def test_one_asks_on_from_any_position(store: interfaces.Store) -> None:
    for turn in range(5):
        await make.stored(store, append(DIRECT, 3 * turn + 1, *[event()] * 3), append(GROUP, 2 * turn + 1, event(), event()))
    every = await store.changes(0, 999)
    assert len(every) == 25
    for size in (1, 2, 3, 7, 25):
        seen: list[records.Change] = []
        while more := await store.changes(seen[-1].position if seen else 0, size):
            assert len(more) <= size
            seen += more
        assert seen == every


async def test_a_feed_that_was_trimmed_begins_later_and_positions_go_on(store: interfaces.Store) -> None:
    for seq in range(1, 6):
        await make.stored(store, append(DIRECT, seq, event()))
    last = (await store.changes(0, 99))[-1].position
    assert await store.trim_changes(1) == 0
    await store.trim_changes(2**52)
    assert [seq for seq, _ in await make.whole(store, DIRECT)] == [1, 2, 3, 4, 5]
    await make.stored(store, append(DIRECT, 6, event()))
    found = await store.changes(0, 99)
    assert [each.seq for each in found][-1] == 6
    assert len(found) < 6
    assert found[-1].position > last


async def test_erased_events_appear_redacted(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"secret")), append(DIRECT, 2, event(b"d", 33), n=1, erase=[1]))
    assert [each.data for each in await store.changes(0, 9)] == [b"gones", b"d"]
