"""The group: who gets what as members come and go, however the owner fares."""

from __future__ import annotations

from typing import Any

import pytest

from actors import group as group_actor
from protocol import codes, events, ids, messages
from protocol.events import Audience, Privacy, Role
from storage import errors, records
from tests.actors.test_owner import Gate
from tests.actors.world import ASHA, BEN, CARA, DEV, Phone, World, text
from tests.storage.faults import Fault


async def made(asha: Phone, *members: int) -> bytes:
    await asha.done(messages.CreateGroup, "g", members)
    stream = ids.group_stream(asha.device, asha.counter)
    await asha.world.quiet()
    return stream


async def test_who_is_removed_gets_that_and_nothing_after_and_who_returns_nothing_of_between(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    stream = await made(asha, BEN)
    await asha.done(messages.Send, stream, text("one"))
    await asha.done(messages.RemoveMember, stream, BEN)
    await asha.done(messages.Send, stream, text("secret"))
    await world.quiet()
    assert ben.seqs(stream) == [1, 2, 3]
    assert await ben.refused(messages.Send, stream, text("x")) is codes.NOT_ALLOWED
    assert await ben.refused(messages.FetchGroup, stream) is codes.NOT_ALLOWED
    await asha.done(messages.AddMembers, stream, (BEN,))
    await asha.done(messages.Send, stream, text("three"))
    await world.quiet()
    assert ben.seqs(stream) == [1, 2, 3, 5, 6]
    await ben.ask(messages.FetchHistory, stream)
    assert [item.seq for item in ben.all(messages.HistoryItem)] == [6, 5, 3, 2, 1]
    # A forward reads no further than its sender.
    assert await ben.refused(messages.Forward, ids.direct_stream(BEN, BEN), stream, 4) is codes.NOT_ALLOWED
    # Nor does a device that comes back from before.
    again = world.phone(BEN, await world.device(BEN))
    await again.caught_up()


async def test_a_device_that_was_away_reads_its_intervals_alone(world: World) -> None:
    asha = await world.known(ASHA)
    device = await world.device(BEN)
    stream = await made(asha, BEN)
    for kind, fields in (
        (messages.RemoveMember, (BEN,)),
        (messages.Send, (text("secret"),)),
        (messages.AddMembers, ((BEN,),)),
        (messages.Send, (text("back"),)),
    ):
        await asha.done(kind, stream, *fields)
    ben = world.phone(BEN, device)
    await ben.caught_up()
    assert ben.seqs(stream) == [1, 2, 4, 5]


async def test_membership_changes_and_messages_of_one_moment_reach_the_right_people(world: World) -> None:
    asha, ben, cara = [await world.known(user) for user in (ASHA, BEN, CARA)]
    stream = await made(asha, BEN)
    for kind, fields in (
        (messages.Send, (text("2"),)),
        (messages.AddMembers, ((CARA,),)),
        (messages.Send, (text("4"),)),
        (messages.RemoveMember, (BEN,)),
        (messages.Send, (text("6"),)),
        (messages.AddMembers, ((BEN,),)),
        (messages.RemoveMember, (CARA,)),
    ):
        asha.say(kind, stream, *fields)
    await world.quiet()
    assert len(await world.whole(stream)) == 8
    assert ben.seqs(stream) == [1, 2, 3, 4, 5, 7, 8]
    assert cara.seqs(stream) == [3, 4, 5, 6, 7, 8]


async def test_outsiders_cannot_tell_a_group_from_none(world: World) -> None:
    asha, cara = await world.known(ASHA), await world.known(CARA)
    stream = await made(asha)
    nowhere = ids.group_stream(5, 5)
    tries: list[tuple[Any, tuple[Any, ...]]] = [
        (messages.Send, (text("x"),)),
        (messages.Edit, (1, text("x"))),
        (messages.Delete, (1,)),
        (messages.React, (1, "x")),
        (messages.SetTimer, (5,)),
        (messages.AddMembers, ((CARA,),)),
        (messages.RemoveMember, (ASHA,)),
        (messages.Leave, ()),
        (messages.SetRole, (ASHA, Role.ADMIN)),
        (messages.SetGroupProfile, ("x",)),
        (messages.CreateInvite, ()),
        (messages.Join, (b"guess",)),
        (messages.AnswerJoin, (CARA, True)),
        (messages.Unban, (CARA,)),
        (messages.FetchGroup, ()),
        (messages.FetchMembers, ()),
        (messages.FetchGroupAdmin, ()),
        (messages.FetchHistory, ()),
        (messages.Info, (1,)),
        (messages.SetConversation, (True,)),
    ]
    for kind, fields in tries:
        answers = [await cara.ask(kind, target, *fields) for target in (stream, nowhere)]
        told = [(answer.number, answer.text, answer.retry_after_ms) for answer in answers if isinstance(answer, messages.Error)]
        assert len(told) == 2, kind
        assert told[0] == told[1], kind


async def test_receipts_of_a_small_group_say_who_read_unless_they_do_not_want_it_said(world: World) -> None:
    asha, ben, cara = [await world.known(user) for user in (ASHA, BEN, CARA)]
    await cara.done(messages.SetPrivacy, Privacy(receipts=False))
    stream = await made(asha, BEN, CARA)
    sent = await asha.done(messages.Send, stream, text("hi"))
    world.services.people._known.clear()
    for phone in (ben, cara):
        phone.say(messages.Read, stream, sent.seq)
    await world.quiet()
    newest = {each.user: each for each in asha.all(messages.Receipt) if each.stream == stream}
    assert (newest[BEN].read, newest[CARA].read, newest[CARA].delivered) == (sent.seq, 0, sent.seq)
    world.services.people._known.clear()
    state = await asha.ask(messages.FetchGroup, stream)
    assert isinstance(state, messages.GroupState)
    assert {each.user: each.read for each in state.marks} == {BEN: sent.seq, CARA: 0}
    world.services.people._known.clear()
    info = await asha.ask(messages.Info, stream, sent.seq)
    assert isinstance(info, messages.MessageInfo)
    assert (set(info.delivered), set(info.read)) == ({CARA}, {BEN})


async def test_who_left_hears_no_more_receipts(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    stream = await made(asha, BEN)
    sent = await ben.done(messages.Send, stream, text("mine"))
    await ben.done(messages.Leave, stream)
    await world.quiet()
    ben.frames.clear()
    asha.say(messages.Read, stream, sent.seq + 1)
    await world.quiet()
    assert ben.frames == []


async def test_account_streams_are_told_until_they_confirm_and_no_longer(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    tell = world.directory.tell_committed
    lost: list[Any] = []

    def loses(key: Any, message: Any) -> bool:
        if key == ids.account_stream(BEN) and len(lost) < 2:
            lost.append(message)
            return False
        return tell(key, message)

    world.directory.tell_committed = loses  # type: ignore[method-assign]
    stream = await made(asha, BEN)
    assert not await world.whole(ids.account_stream(BEN))
    assert world.actor(stream).state.owed
    for _ in range(2):
        await world.advance(group_actor.TELL_AGAIN_S)
    assert [type(event) for event in await world.whole(ids.account_stream(BEN))] == [events.Joined]
    assert not world.actor(stream).state.owed
    # Woken, it tells once more, because what was confirmed is not stored; and then it is.
    await world.sleep()
    assert world.directory.awake(stream) is None
    told: list[Any] = []

    def counts(key: Any, message: Any) -> bool:
        if key == ids.account_stream(BEN):
            told.append(message)
        return tell(key, message)

    world.directory.tell_committed = counts  # type: ignore[method-assign]
    for expected in (1, 1):
        await asha.ask(messages.FetchGroup, stream)
        await world.quiet()
        assert len([each for each in told if isinstance(each.frame, events.Joined)]) == expected
        await world.sleep()
        assert world.directory.awake(stream) is None
    assert ben.closed is None


async def test_counts_of_a_large_group_are_right_and_told_once_a_second(world: World) -> None:
    crowd = tuple(range(1000, 1040))
    for user in crowd:
        await world.disk.create_user(records.User(user, f"u{user}", f"u{user}", "x", None, None, 1))
    asha = await world.known(ASHA)
    devices = [await world.device(user) for user in crowd[:10]]
    stream = await made(asha, *crowd)
    sent = await asha.done(messages.Send, stream, text("hi"))
    phones = [world.phone(user, device) for user, device in zip(crowd, devices, strict=False)]
    for phone in phones:
        await phone.caught_up()
    for phone in phones[:4]:
        phone.say(messages.Read, stream, sent.seq)
    await world.quiet()
    assert asha.all(messages.ReceiptCount) == []
    await world.advance(1.0)
    (count,) = asha.all(messages.ReceiptCount)
    assert (count.seq, count.delivered, count.read) == (sent.seq, 10, 4)


async def test_a_count_holds_neither_who_hides_what_they_read_nor_who_came_after_the_message(world: World) -> None:
    crowd = tuple(range(1000, 1040))
    for user in (*crowd, 1999):
        await world.disk.create_user(records.User(user, f"u{user}", f"u{user}", "x", None, None, 1))
    asha = await world.known(ASHA)
    hider, reader = await world.known(crowd[0]), await world.known(crowd[1])
    await hider.done(messages.SetPrivacy, Privacy(receipts=False))
    stream = await made(asha, *crowd)
    sent = await asha.done(messages.Send, stream, text("hi"))
    await asha.done(messages.AddMembers, stream, (1999,))
    for phone in (hider, reader):
        phone.say(messages.Read, stream, sent.seq)
    await world.quiet()
    await world.advance(1.0)
    count = asha.all(messages.ReceiptCount)[-1]
    assert (count.seq, count.delivered, count.read) == (sent.seq, 2, 1)
    info = await asha.ask(messages.Info, stream, sent.seq)
    assert isinstance(info, messages.MessageInfo)
    assert (info.read, info.delivered) == ((reader.user,), (hider.user,))


async def test_a_count_is_never_less_than_nobody_though_the_senders_own_mark_is_still_on_its_way(world: World) -> None:
    crowd = tuple(range(1000, 1040))
    for user in crowd:
        await world.disk.create_user(records.User(user, f"u{user}", f"u{user}", "x", None, None, 1))
    asha = await world.known(ASHA)
    stream = await made(asha, *crowd)
    sent = await asha.done(messages.Send, stream, text("hi"))
    await world.advance(1.0)
    owner = world.actor(stream)
    owner._moved[ASHA] = (1, 1)  # as an acknowledgement from before the message leaves it
    owner._tell_counts(1)
    await world.quiet()
    counts = [(count.seq, count.delivered, count.read) for count in asha.all(messages.ReceiptCount)]
    assert counts[-1] == (sent.seq, 0, 0)


async def test_who_hides_what_they_read_from_now_on_stays_where_they_were_seen(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    stream = await made(asha, BEN)
    first = await asha.done(messages.Send, stream, text("one"))
    await ben.ask(messages.Read, stream, first.seq)
    await ben.done(messages.SetPrivacy, Privacy(receipts=False))
    second = await asha.done(messages.Send, stream, text("two"))
    await ben.ask(messages.Read, stream, second.seq)
    await world.quiet()
    newest = asha.all(messages.Receipt)[-1]
    assert (newest.delivered, newest.read) == (second.seq, first.seq)


async def test_a_receipt_waits_for_a_store_that_cannot_say_whether_it_may_be_told(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    stream = await made(asha, BEN)
    sent = await asha.done(messages.Send, stream, text("one"))
    await world.quiet()
    world.services.people._known.pop(BEN)
    load = world.services.people.load

    async def away(user: int) -> Any:
        raise errors.Unavailable("injected")

    world.services.people.load = away  # type: ignore[method-assign]
    await ben.ask(messages.Read, stream, sent.seq)
    await world.quiet()
    world.services.people.load = load  # type: ignore[method-assign]
    await world.advance(2.0)
    assert [receipt.read for receipt in asha.all(messages.Receipt)][-1] == sent.seq
    assert 0 not in [receipt.read for receipt in asha.all(messages.Receipt) if receipt.delivered == sent.seq][1:]


async def test_a_group_that_cannot_store_what_was_confirmed_does_not_load_in_circles(world: World) -> None:
    asha = await world.known(ASHA)
    stream = await made(asha, BEN)
    await world.sleep()
    loads = 0
    load = world.store.inner.load

    async def counts(name: bytes) -> Any:
        nonlocal loads
        loads += name == stream
        return await load(name)

    world.store.load = counts  # type: ignore[attr-defined]
    world.store.faults.extend([Fault.REFUSED] * 20)
    await asha.ask(messages.FetchGroup, stream)
    await world.quiet()
    assert loads <= 2


async def test_join_requests_are_answered_to_who_asked(world: World) -> None:
    asha, dev = await world.known(ASHA), await world.known(DEV)
    stream = await made(asha)
    await asha.done(messages.CreateInvite, stream, 0, 0, True)
    admin = await asha.ask(messages.FetchGroupAdmin, stream)
    assert isinstance(admin, messages.GroupAdmin)
    code = admin.invites[0].code
    await dev.done(messages.Join, stream, code)
    assert dev.seqs(stream) == []
    await asha.done(messages.AnswerJoin, stream, DEV, False)
    await world.quiet()
    assert [type(event) for _, event in dev.events(ids.account_stream(DEV))] == [events.TurnedDown]
    await dev.done(messages.Join, stream, code)
    await asha.done(messages.AnswerJoin, stream, DEV, True)
    await world.quiet()
    assert len(dev.seqs(stream)) == 1


@pytest.mark.parametrize("audience", [Audience.NOBODY, Audience.CONTACTS])
async def test_nobody_is_added_who_does_not_want_it(world: World, audience: Audience) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await ben.done(messages.SetPrivacy, Privacy(add_to_groups=audience))
    await world.quiet()
    answers = [await asha.ask(messages.CreateGroup, "g", (user,)) for user in (BEN, 999)]
    assert {(each.number, each.text) for each in answers if isinstance(each, messages.Error)} == {
        (codes.NOT_ALLOWED.number, codes.NOT_ALLOWED.text)
    }


async def test_events_stored_by_an_owner_that_failed_reach_who_was_removed_by_them(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    stream = await made(asha, BEN)
    commit = Gate(world, "commit")
    rid = asha.say(messages.RemoveMember, stream, BEN)
    await world.until(lambda: commit.waiting)
    owner = world.directory.awake(stream)
    assert owner is not None
    owner.tell(type("Nonsense", (), {"rid": property(lambda self: 1 / 0)})())
    world.actor(stream).handle = lambda message: 1 / 0
    await world.until(lambda: world.directory.awake(stream) is not owner)
    answer = await asha.answer(rid)
    assert isinstance(answer, messages.Error)
    assert answer.symbol == "unknown"
    commit.open()
    await world.until(lambda: ben.seqs(stream) == [1, 2])
