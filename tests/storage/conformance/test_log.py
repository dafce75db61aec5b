"""Streams, as `interfaces.LogStore` promises them."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from protocol import ids
from storage import interfaces, records
from tests.storage import backends, make
from tests.storage.make import DIRECT, GROUP, append, event

STORED, CONFLICT, FENCED = records.Result.STORED, records.Result.CONFLICT, records.Result.FENCED
FAILED = records.Result.FAILED


async def test_a_stream_that_was_never_written_loads_as_new(store: interfaces.Store) -> None:
    assert await store.load(DIRECT) == records.Loaded(DIRECT, 0, 0, 0, store.node_epoch, 0, {}, [], [])
    assert await store.head(DIRECT) == 0
    assert await store.range(DIRECT, 1, 9, 9, 9) == []
    assert await store.item(DIRECT, 1) is None
    assert await store.page(DIRECT, 1, 9, True, 9, 9) == records.Page([], False)
    assert await store.parts(DIRECT, b"") == {}
    assert await store.marks(DIRECT) == []


async def test_what_is_stored_is_there_after_opening_again(backend: backends.Backend, tmp_path: pathlib.Path) -> None:
    first = await backend.open(tmp_path)
    await make.stored(first, append(DIRECT, 1, event(b"a"), event(b"b", expires_at=9), parts=[(b"p", b"1")]))
    await first.close()
    again = await backend.open(tmp_path)
    loaded = await again.load(DIRECT)
    assert again.node_epoch > first.node_epoch
    assert 0 < again.incarnation == first.incarnation < 2**53
    assert await again.head(DIRECT) == 2
    await again.close()
    assert (loaded.head, loaded.n, loaded.time, loaded.epoch, loaded.snapshot_seq) == (2, 2, 1_002, again.node_epoch, 0)
    assert loaded.parts == {b"p": b"1"}
    assert loaded.tail == [records.Event(1, 1, 1, b"a"), records.Event(2, 1, 1, b"b", 9)]


async def test_the_digest_of_a_command_is_kept_beside_its_event_and_outlives_its_body(
    backend: backends.Backend, tmp_path: pathlib.Path
) -> None:
    """An owner that loads knows a repeat by it."""
    first = await backend.open(tmp_path)
    await make.stored(first, append(DIRECT, 1, event(b"a", digest=7), event(b"b", digest=2**63 - 1), event(b"c")))
    await make.stored(first, append(DIRECT, 4, event(b"d", 33, digest=9), erase=[2]))
    await first.close()
    store = await backend.open(tmp_path)
    digests = [7, 2**63 - 1, 0, 9]
    assert [each.digest for each in (await store.load(DIRECT)).tail] == digests
    assert [each.digest for each in await store.range(DIRECT, 1, 9, 9, 999)] == digests
    item = await store.item(DIRECT, 2)
    assert item is not None
    assert item.event.digest == 2**63 - 1
    await store.close()


async def test_an_empty_batch_has_no_outcomes(store: interfaces.Store) -> None:
    assert await store.commit([]) == []


async def test_the_same_append_again_is_stored_once(store: interfaces.Store) -> None:
    write = append(DIRECT, 1, event(b"a"), event(b"b"))
    assert await make.results(store, write, write) == [STORED, STORED]
    await make.stored(store, append(DIRECT, 3, event(b"c")), write)
    assert await make.results(store, write) == [STORED]
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"b"), (3, b"c")]


async def test_a_repeat_does_not_bring_old_parts_back(store: interfaces.Store) -> None:
    write = append(DIRECT, 1, event(), parts=[(b"p", b"old")])
    await make.stored(store, write, append(DIRECT, 2, event(), parts=[(b"p", b"new")]), write)
    assert await store.parts(DIRECT, b"p") == {b"p": b"new"}


@pytest.mark.parametrize(
    "write",
    [
        append(DIRECT, 1, event(b"other")),
        append(DIRECT, 2, event(b"b"), event(b"c")),
        append(DIRECT, 4, event(b"d")),
        append(DIRECT, 2, n=1),
        append(DIRECT, 0, event(b"a")),
    ],
    ids=["other bytes", "half a repeat", "a gap", "a snapshot of an old head", "before the first"],
)
async def test_an_append_out_of_place_conflicts_and_changes_nothing(store: interfaces.Store, write: records.Append) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"a"), event(b"b")))
    await make.answers(store, [CONFLICT], write)
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"b")]


async def test_an_older_epoch_is_fenced_and_a_newer_one_takes_over(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(), epoch=5))
    await make.answers(store, [FENCED], append(DIRECT, 2, event(), epoch=4))
    await make.stored(store, append(DIRECT, 2, event(), epoch=7))
    await make.answers(store, [FENCED], append(DIRECT, 3, event(), epoch=5))
    assert [found.epoch for found in await store.range(DIRECT, 1, 9, 9, 999)] == [5, 7]


async def test_an_owner_may_take_over_without_an_event(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(), epoch=1), append(DIRECT, 2, epoch=3))
    assert (await store.load(DIRECT)).epoch == 3
    await make.answers(store, [FENCED], append(DIRECT, 2, event(), epoch=2))


async def test_a_repeat_by_a_newer_owner_raises_the_epoch(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(), epoch=1))
    await make.stored(store, append(DIRECT, 1, event(), epoch=2))
    assert (await store.load(DIRECT)).epoch == 2


async def test_nothing_is_stored_on_top_of_what_was_not(store: interfaces.Store) -> None:
    """Seq 2 was taken by an append that came late: what was decided on top of one's own seq 2 must not follow it."""
    await make.stored(store, append(DIRECT, 1, event(b"a")), append(DIRECT, 2, event(b"late")))
    await make.answers(store, [CONFLICT, CONFLICT], append(DIRECT, 2, event(b"b")), append(DIRECT, 3, event(b"on top of b")))
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"late")]
    await make.stored(store, append(DIRECT, 3, event(b"c")))


async def test_one_bad_write_does_not_spoil_the_others(store: interfaces.Store) -> None:
    await make.stored(store, append(GROUP, 1, event(b"x"), epoch=2))
    await make.answers(
        store,
        [STORED, FENCED, CONFLICT, STORED, STORED],
        append(DIRECT, 1, event(b"a")),
        append(GROUP, 2, event(b"y"), epoch=1),
        append(GROUP, 9, event(b"z"), epoch=2),
        append(DIRECT, 2, event(b"b")),
        records.Mark(GROUP, make.BEN, 1, 1),
    )
    assert await make.whole(store, DIRECT) == [(1, b"a"), (2, b"b")]
    assert await make.whole(store, GROUP) == [(1, b"x")]


async def test_a_stream_that_cannot_be_written_fails_alone(store: interfaces.Store) -> None:
    def broken(_: bytes) -> bytes:
        raise ZeroDivisionError

    await make.stored(store, append(GROUP, 1, event(b"x")))
    bad = records.Append(GROUP, 1, 2, 2, 1, [event(b"y")], erase=[records.Erasure(1, broken)])
    found = await make.results(store, append(DIRECT, 1, event(b"a")), bad, records.Cursor(make.BEN, make.PHONE, DIRECT, 1))
    assert found == [STORED, FAILED, STORED]
    assert await make.whole(store, GROUP) == [(1, b"x")]
    await make.stored(store, append(GROUP, 2, event(b"y")), append(DIRECT, 2, event(b"b")))


async def test_commits_of_other_streams_may_be_under_way_together(store: interfaces.Store) -> None:
    streams = [ids.direct_stream(1, other) for other in range(2, 32)]
    for seq in range(1, 4):
        commits = [store.commit([append(stream, seq, event(b"%d" % seq))]) for stream in streams]
        assert await asyncio.gather(*commits) == [[records.STORED]] * len(streams)
    for stream in streams:
        assert await make.whole(store, stream) == [(1, b"1"), (2, b"2"), (3, b"3")]


async def test_who_may_read_follows_from_stored_appends_alone(store: interfaces.Store) -> None:
    first = append(GROUP, 1, event(), members=[make.member(make.ASHA, GROUP), make.member(make.BEN, GROUP)])
    await make.stored(store, first, append(GROUP, 2, event(), epoch=2))
    joins = [make.member(make.CARA, GROUP, 3), make.member(make.BEN, GROUP, 1, 3)]
    await make.answers(store, [FENCED], append(GROUP, 3, event(b"late"), members=joins))
    await make.answers(store, [CONFLICT], append(GROUP, 9, event(b"elsewhere"), members=joins, epoch=2))
    assert await store.memberships(make.CARA, GROUP) == ()
    assert await store.memberships(make.BEN, GROUP) == ((1, records.OPEN_END),)
    await make.stored(store, append(GROUP, 3, event(b"in time"), members=joins, epoch=2))
    assert await store.memberships(make.CARA, GROUP) == ((3, records.OPEN_END),)
    assert await store.memberships(make.BEN, GROUP) == ((1, 3),)


async def test_load_gives_the_snapshot_and_only_what_came_after(store: interfaces.Store) -> None:
    await make.stored(
        store,
        append(DIRECT, 1, event(b"a"), event(b"b"), parts=[(b"s", b"old"), (b"t", b"kept"), (b"u", b"away")]),
        append(DIRECT, 3, n=2, parts=[(b"s", b"new"), (b"u", None)], snapshot_seq=2),
        append(DIRECT, 3, event(b"c"), parts=[(records.fold_key(1), b"fold")]),
        records.Mark(DIRECT, make.ASHA, 2, 1),
    )
    loaded = await store.load(DIRECT)
    assert (loaded.snapshot_seq, [found.seq for found in loaded.tail]) == (2, [3])
    assert loaded.parts == {b"s": b"new", b"t": b"kept"}
    assert loaded.marks == [records.Mark(DIRECT, make.ASHA, 2, 1)]


async def test_parts_are_found_by_prefix(store: interfaces.Store) -> None:
    parts = [(b"a", b"1"), (b"ab", b"2"), (b"b", b"3"), (b"\xff", b"4"), (b"\xff\xff", b"5")]
    await make.stored(store, append(DIRECT, 1, event(), parts=parts))
    assert await store.parts(DIRECT, b"") == dict(parts)
    assert await store.parts(DIRECT, b"a") == {b"a": b"1", b"ab": b"2"}
    assert await store.parts(DIRECT, b"ab") == {b"ab": b"2"}
    assert await store.parts(DIRECT, b"\xff") == {b"\xff": b"4", b"\xff\xff": b"5"}
    assert await store.parts(DIRECT, b"c") == {}


async def test_a_range_is_cut_by_count_and_by_bytes_but_never_to_nothing(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, *[event(bytes([seq]) * 10) for seq in range(1, 8)]))
    assert [found.seq for found in await store.range(DIRECT, 2, 6, 3, 999)] == [2, 3, 4]
    assert [found.seq for found in await store.range(DIRECT, 2, 6, 99, 25)] == [2, 3]
    assert [found.seq for found in await store.range(DIRECT, 2, 6, 99, 1)] == [2]
    assert [found.seq for found in await store.range(DIRECT, 6, 99, 99, 999)] == [6, 7]


async def _mixed(store: interfaces.Store, changes: int) -> None:
    """Item 1, then a run of changes, then items 2 more, a run of changes at the end."""
    run = [event(b"r", make.REACTED)] * changes
    await make.stored(
        store,
        append(GROUP, 1, event(b"one"), *run, n=1, parts=[(records.fold_key(1), b"fold 1")]),
        append(GROUP, 2 + changes, event(b"two"), event(b"three", make.ADDED), *run, n=2),
    )


@pytest.mark.parametrize("changes", [0, 1, 3, 40])
async def test_a_page_holds_items_and_leaps_over_changes(store: interfaces.Store, changes: int) -> None:
    await _mixed(store, changes)
    items = [1, 2 + changes, 3 + changes]
    for size in (1, 2, 3, 9):
        down = await store.page(GROUP, 1, 999, True, size, 999)
        assert [found.event.seq for found in down.items] == items[::-1][:size]
        assert down.more == (size < 3)
        up = await store.page(GROUP, 1, 999, False, size, 999)
        assert [found.event.seq for found in up.items] == items[:size]
        assert up.more == (size < 3)


async def test_a_page_stays_within_its_bounds(store: interfaces.Store) -> None:
    await _mixed(store, 5)
    page = await store.page(GROUP, 2, 7, True, 9, 999)
    assert ([found.event.seq for found in page.items], page.more) == ([7], False)
    page = await store.page(GROUP, 2, 6, False, 9, 999)
    assert (page.items, page.more) == ([], False)
    page = await store.page(GROUP, 1, 999, False, 9, 10)
    assert ([found.event.seq for found in page.items], page.more) == ([1], True)


async def test_items_come_with_their_fold(store: interfaces.Store) -> None:
    await _mixed(store, 1)
    page = await store.page(GROUP, 1, 999, False, 9, 999)
    assert [found.fold for found in page.items] == [b"fold 1", None, None]
    assert await store.item(GROUP, 1) == page.items[0]
    assert await store.item(GROUP, 3) == page.items[1]


async def test_watermarks_never_go_back(store: interfaces.Store) -> None:
    await make.stored(store, records.Mark(DIRECT, 1, 5, 2), records.Mark(DIRECT, 1, 3, 4), records.Mark(DIRECT, 2, 1, 1))
    await make.stored(store, records.Mark(DIRECT, 1, 4, 1))
    assert await store.marks(DIRECT) == [records.Mark(DIRECT, 1, 5, 4), records.Mark(DIRECT, 2, 1, 1)]


async def test_erasure_takes_the_body_and_the_fold_and_keeps_the_place(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"secret"), event(b"open"), parts=[(records.fold_key(1), b"secret edit")]))
    write = append(DIRECT, 3, event(b"delete", 33), n=2, erase=[1, 77])
    await make.stored(store, write, write)
    assert await make.whole(store, DIRECT) == [(1, b"gones"), (2, b"open"), (3, b"delete")]
    assert await store.item(DIRECT, 1) == records.Item(records.Event(1, 1, 1, b"gones"), None)


async def test_the_append_that_erases_may_write_the_fold_anew(store: interfaces.Store) -> None:
    key = records.fold_key(1)
    await make.stored(store, append(DIRECT, 1, event(b"secret"), parts=[(key, b"old")]))
    await make.stored(store, append(DIRECT, 2, event(b"delete", 33), n=1, erase=[1], parts=[(key, b"new")]))
    assert await store.parts(DIRECT, key) == {key: b"new"}


async def test_an_event_can_be_erased_in_the_batch_that_adds_it(store: interfaces.Store) -> None:
    await make.stored(store, append(DIRECT, 1, event(b"secret")), append(DIRECT, 2, event(b"d", 33), n=1, erase=[1]))
    assert await make.whole(store, DIRECT) == [(1, b"gones"), (2, b"d")]


async def test_expiry_erases_what_is_due_and_nothing_else(store: interfaces.Store) -> None:
    due = [event(b"x%d" % seq, expires_at=100 + seq) for seq in range(5)]
    await make.stored(store, append(DIRECT, 1, *due, event(b"stays"), parts=[(records.fold_key(2), b"edit")]))
    assert await store.erase_expired(99, make.redact, 9) == 0
    assert await store.erase_expired(103, make.redact, 3) == 3
    assert await store.erase_expired(103, make.redact, 3) == 1
    assert await store.erase_expired(103, make.redact, 3) == 0
    assert [data for _, data in await make.whole(store, DIRECT)] == [b"gonex"] * 4 + [b"x4", b"stays"]
    assert [found.expires_at for found in await store.range(DIRECT, 1, 9, 9, 999)] == [100, 101, 102, 103, 104, 0]
    assert await store.parts(DIRECT, records.FOLD_PREFIX) == {}


async def test_large_bodies_come_back_whole(store: interfaces.Store) -> None:
    bodies = [bytes([seq]) * 65_536 for seq in range(1, 6)]
    await make.stored(store, append(DIRECT, 1, *[event(body) for body in bodies]))
    assert [data for _, data in await make.whole(store, DIRECT)] == bodies


async def test_a_fold_that_comes_after_its_event_was_erased_is_not_kept(store: interfaces.Store) -> None:
    fold = records.fold_key(1)
    await make.stored(store, append(DIRECT, 1, event(b"secret", expires_at=50), event(b"other"), n=2))
    assert await store.erase_expired(50, make.redact, 9) == 1
    edit = append(DIRECT, 3, event(b"newer secret", make.EDITED, expires_at=50), n=2, parts=[(fold, b"newer secret")])
    await make.stored(store, edit)
    item = await store.item(DIRECT, 1)
    assert item is not None
    assert item.fold is None
    assert await store.parts(DIRECT, fold) == {}
    assert await store.erase_expired(50, make.redact, 9) == 1
    assert b"secret" not in b"".join(data for _, data in await make.whole(store, DIRECT))
    await make.stored(store, append(DIRECT, 4, event(b"r", make.REACTED), n=2, parts=[(records.fold_key(2), b"kept")]))
    await make.stored(store, append(DIRECT, 5, event(b"d", 33), n=2, erase=[2], parts=[(records.fold_key(2), b"deleted")]))
    assert await store.parts(DIRECT, records.FOLD_PREFIX) == {records.fold_key(2): b"deleted"}
