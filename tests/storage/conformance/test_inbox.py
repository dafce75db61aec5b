"""What one user's devices have and lack, as `interfaces.InboxStore` promises it."""

from __future__ import annotations

import pytest

from protocol import ids
from storage import errors, interfaces, records
from tests.storage import make
from tests.storage.make import ASHA, BEN, CARA, DIRECT, GROUP, LAPTOP, PHONE, append, event, member

OPEN = records.OPEN_END


async def test_intervals_are_kept_oldest_first(store: interfaces.Store) -> None:
    await make.stored(store, append(GROUP, 1, event(), members=[member(ASHA, GROUP), member(BEN, GROUP)]))
    await make.stored(store, append(GROUP, 2, event(), event(), members=[member(BEN, GROUP, 1, 2)]))
    await make.stored(store, append(GROUP, 4, event(), members=[member(BEN, GROUP, 4)]))
    assert await store.memberships(BEN, GROUP) == ((1, 2), (4, OPEN))
    assert await store.memberships(ASHA, GROUP) == ((1, OPEN),)
    assert await store.memberships(CARA, GROUP) == ()
    assert await store.memberships(ASHA, DIRECT) == ()


async def test_a_device_is_behind_until_its_cursor_meets_the_head(store: interfaces.Store) -> None:
    await make.devices(store, ASHA, PHONE, LAPTOP)
    await make.stored(store, append(DIRECT, 1, event(), event(), members=[member(ASHA, DIRECT), member(BEN, DIRECT)]))
    expected = records.Behind(DIRECT, 0, 2, ((1, OPEN),))
    assert await store.behind(ASHA, PHONE) == [expected]
    await make.stored(store, records.Cursor(ASHA, PHONE, DIRECT, 1))
    assert [found.cursor for found in await store.behind(ASHA, PHONE)] == [1]
    assert await store.behind(ASHA, LAPTOP) == [expected]
    await make.stored(store, records.Cursor(ASHA, PHONE, DIRECT, 2))
    assert await store.behind(ASHA, PHONE) == []
    await make.stored(store, append(DIRECT, 3, event()))
    assert [(found.cursor, found.head) for found in await store.behind(ASHA, PHONE)] == [(2, 3)]


async def test_a_cursor_never_goes_back(store: interfaces.Store) -> None:
    await make.devices(store, ASHA, PHONE)
    await make.stored(store, append(DIRECT, 1, event(), event(), event(), members=[member(ASHA, DIRECT)]))
    await make.stored(store, records.Cursor(ASHA, PHONE, DIRECT, 2), records.Cursor(ASHA, PHONE, DIRECT, 1))
    await make.stored(store, records.Cursor(ASHA, PHONE, DIRECT, 1))
    assert [found.cursor for found in await store.behind(ASHA, PHONE)] == [2]


async def test_behind_sees_everything_committed_before_the_call(store: interfaces.Store) -> None:
    await make.devices(store, ASHA, PHONE)
    for seq in range(1, 60):
        await make.stored(store, append(DIRECT, seq, event(), members=[member(ASHA, DIRECT)] if seq == 1 else ()))
        assert [found.head for found in await store.behind(ASHA, PHONE)] == [seq]


async def test_a_removed_member_is_behind_up_to_the_removal_and_no_further(store: interfaces.Store) -> None:
    await make.devices(store, BEN, PHONE)
    await make.stored(store, append(GROUP, 1, event(), event(), members=[member(BEN, GROUP, 1, 2)]))
    await make.stored(store, append(GROUP, 3, event(), event()))
    found = await store.behind(BEN, PHONE)
    assert [(each.cursor, each.head, each.intervals) for each in found] == [(0, 2, ((1, 2),))]
    await make.stored(store, records.Cursor(BEN, PHONE, GROUP, 2))
    assert await store.behind(BEN, PHONE) == []


async def test_a_late_member_counts_from_the_joining(store: interfaces.Store) -> None:
    await make.devices(store, CARA, PHONE)
    await make.stored(store, append(GROUP, 1, event(), event()), append(GROUP, 3, event(), members=[member(CARA, GROUP, 3)]))
    assert await store.behind(CARA, PHONE) == [records.Behind(GROUP, 2, 3, ((3, OPEN),))]


async def test_one_who_left_and_came_back_gets_the_intervals_that_are_not_over(store: interfaces.Store) -> None:
    await make.devices(store, BEN, PHONE)
    members = [member(BEN, GROUP, 1, 2), member(BEN, GROUP, 4)]
    await make.stored(store, append(GROUP, 1, *[event()] * 5, members=members), records.Cursor(BEN, PHONE, GROUP, 1))
    assert await store.behind(BEN, PHONE) == [records.Behind(GROUP, 1, 5, ((1, 2), (4, OPEN)))]
    await make.stored(store, records.Cursor(BEN, PHONE, GROUP, 2))
    assert await store.behind(BEN, PHONE) == [records.Behind(GROUP, 2, 5, ((4, OPEN),))]


async def test_a_device_that_is_gone_leaves_no_cursor(store: interfaces.Store) -> None:
    await make.devices(store, ASHA, PHONE)
    await make.stored(store, append(DIRECT, 1, event(), event(), members=[member(ASHA, DIRECT)]))
    await store.revoke_device(ASHA, PHONE)
    await make.stored(store, records.Cursor(ASHA, PHONE, DIRECT, 1))
    await store.add_device(make.device(ASHA, PHONE), make.token(ASHA, PHONE, b"again"))
    assert await store.behind(ASHA, PHONE) == []  # it begins at the heads, as any new one


async def test_a_device_that_is_not_there_any_more_is_told_from_one_that_lacks_nothing(store: interfaces.Store) -> None:
    await make.devices(store, ASHA, PHONE, LAPTOP)
    await make.devices(store, BEN, 23)
    await store.revoke_device(ASHA, PHONE)
    await store.delete_user(BEN, 2_000)
    assert await store.behind(ASHA, LAPTOP) == []
    for user, device in ((ASHA, PHONE), (ASHA, 23), (BEN, 23), (CARA, LAPTOP)):
        with pytest.raises(errors.NoSuch):
            await store.behind(user, device)


async def test_a_new_device_begins_at_the_heads(store: interfaces.Store) -> None:
    await store.create_user(make.user(BEN, "ben"))
    account = ids.account_stream(BEN)
    await make.stored(
        store,
        append(account, 1, event(b"p", 64), n=0),
        append(DIRECT, 1, event(), members=[member(BEN, DIRECT)]),
        append(GROUP, 1, event(), event(), event(), members=[member(BEN, GROUP, 1, 2)]),
    )
    await store.add_device(make.device(BEN, PHONE), make.token(BEN, PHONE, b"t"))
    assert await store.behind(BEN, PHONE) == []
    await make.stored(store, append(DIRECT, 2, event()), append(account, 2, event(b"q", 64), n=0))
    assert {(found.stream, found.cursor) for found in await store.behind(BEN, PHONE)} == {(DIRECT, 1), (account, 1)}


async def test_the_account_stream_has_its_user_from_the_first_moment(store: interfaces.Store) -> None:
    await make.devices(store, BEN, PHONE)
    account = ids.account_stream(BEN)
    assert await store.memberships(BEN, account) == ((1, OPEN),)
    await make.stored(store, append(account, 1, event(b"p", 64), n=0))
    assert [found.stream for found in await store.behind(BEN, PHONE)] == [account]
    assert await store.conversations(BEN, b"", 9) == []


async def test_a_summary_counts_messages_and_mentions_beyond_the_read_mark(store: interfaces.Store) -> None:
    await make.stored(
        store,
        append(GROUP, 1, event(b"c", 2), event(b"1"), event(b"2"), n=2, members=[member(ASHA, GROUP), member(BEN, GROUP)]),
        append(GROUP, 4, event(b"r", make.REACTED), event(b"3"), n=3, mentions=[(ASHA, 5), (ASHA, 2)]),
        append(GROUP, 6, event(b"e", make.EDITED), n=3, parts=[(records.fold_key(5), b"fold")]),
        records.Mark(GROUP, ASHA, 4, 3),
    )
    (found,) = await store.conversations(ASHA, b"", 9)
    assert found == records.Summary(
        stream=GROUP,
        head=6,
        n=3,
        time=1_006,
        intervals=((1, OPEN),),
        delivered=4,
        read=3,
        read_n=2,
        mentions=1,
        last=records.Item(records.Event(5, 1, 1, b"3"), b"fold"),
    )
    (found,) = await store.conversations(BEN, b"", 9)
    assert (found.read_n, found.mentions, found.read) == (0, 0, 0)


async def test_a_late_member_has_nothing_unread_from_before(store: interfaces.Store) -> None:
    await make.stored(store, append(GROUP, 1, *[event()] * 4))
    await make.stored(store, append(GROUP, 5, event(b"a", make.ADDED), n=4, members=[member(CARA, GROUP, 5)]))
    (found,) = await store.conversations(CARA, b"", 9)
    assert (found.n, found.read_n) == (4, 4)
    assert found.last is not None
    assert found.last.event.seq == 5


async def test_a_removed_member_sees_nothing_of_what_came_after(store: interfaces.Store) -> None:
    await make.stored(store, append(GROUP, 1, event(), event(), members=[member(BEN, GROUP, 1, 2)]))
    await make.stored(store, append(GROUP, 3, event(b"later"), mentions=[(BEN, 3)]))
    (found,) = await store.conversations(BEN, b"", 9)
    assert (found.head, found.n, found.time, found.mentions) == (2, 2, 0, 0)
    assert found.last is not None
    assert found.last.event.seq == 2


async def test_conversations_come_in_pages_in_order_of_their_ids(store: interfaces.Store) -> None:
    streams = [ids.direct_stream(ASHA, other) for other in range(100, 107)] + [ids.group_stream(9, n) for n in range(1, 4)]
    await make.stored(store, *[append(stream, 1, event(), members=[member(ASHA, stream)]) for stream in streams[::-1]])
    seen: list[bytes] = []
    while page := await store.conversations(ASHA, seen[-1] if seen else b"", 4):
        seen += [found.stream for found in page]
    assert seen == sorted(streams)


async def test_mentions_that_were_read_are_swept_and_no_others(store: interfaces.Store) -> None:
    writes = [append(DIRECT, 1, *[event()] * 5, members=[member(ASHA, DIRECT)], mentions=[(ASHA, seq) for seq in range(1, 6)])]
    await make.stored(store, *writes, records.Mark(DIRECT, ASHA, 3, 3))
    assert await store.sweep_mentions(2) == 2
    assert await store.sweep_mentions(2) == 1
    assert await store.sweep_mentions(2) == 0
    assert [each.mentions for each in await store.conversations(ASHA, b"", 9)] == [2]
