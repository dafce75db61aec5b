"""Receipts, typing, presence: what tells of people and is not an event."""

from __future__ import annotations

import pytest

from actors import presence
from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.world import World

MATRIX = {"last_seen": 1, "profile": 1, "receipts": True, "write": 1, "requests": True, "add_to_groups": 1}


async def set_privacy(client: Client, **cells: int | bool) -> None:
    """Set the privacy matrix: all open but these cells."""
    await client.change("SetPrivacy", privacy=list((MATRIX | cells).values()))


async def test_a_receipt_for_each_mark_in_a_direct_conversation(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("ben")
    stream = asha.with_(ben)
    ben.acknowledging = second.acknowledging = False
    sent = await asha.send(stream, "read me")
    await ben.event(stream, 1)
    assert not asha.all("Receipt"), "nobody acknowledged"
    await ben.tell("Ack", cursors=[[stream, sent.seq]])
    assert (await asha.frame("Receipt", stream=stream, user=ben.user)).fields.items() >= {"delivered": 1, "read": 0}.items()
    info = await asha.ask("Info", stream=stream, target=1)
    assert (info.seq, info.delivered, info.read) == (1, [ben.user], [])
    assert (await ben.ask("Read", stream=stream, seq=1)).kind == "Done"
    await asha.frame("Receipt", stream=stream, user=ben.user, delivered=1, read=1)
    await second.until(lambda: bool(second.events(ben.account, "OwnRead")))
    own = second.events(ben.account, "OwnRead")[-1].event
    assert (own.stream, own.seq) == (stream, 1)
    info = await asha.ask("Info", stream=stream, target=1)
    assert (info.delivered, info.read) == ([], [ben.user])
    assert await ben.refusal("Info", stream=stream, target=1) == "not_allowed"


async def test_marks_never_fall_and_a_read_beyond_the_head_says_nothing_false(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for number in range(3):
        await asha.send(stream, f"{number}")
    await ben.event(stream, 3)
    await ben.ask("Read", stream=stream, seq=3)
    await ben.ask("Read", stream=stream, seq=1)
    opened = await asha.ask("Open", user=ben.user)
    assert [ben.user, 3, 3] in opened.marks
    assert [asha.user, 3, 3] in opened.marks, "who sends has read up to there"
    assert (opened.stream, opened.head, opened.n, opened.timer, opened.request_for) == (stream, 3, 3, 0, 0)


async def test_who_hides_read_marks_sends_none(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await set_privacy(ben, receipts=False)
    await asha.send(stream, "seen?")
    await ben.event(stream, 1)
    await ben.ask("Read", stream=stream, seq=1)
    await ben.send(stream, "no")
    await asha.event(stream, 2)
    assert not [each for each in asha.all("Receipt", user=ben.user) if each.read]
    assert (await asha.ask("Info", stream=stream, target=1)).read == []
    marks = (await asha.ask("Open", user=ben.user)).marks
    assert {user: read for user, _, read in marks}[ben.user] == 0


async def test_receipts_of_a_small_group_name_each_member(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    made = await asha.change("CreateGroup", title="three", members=[ben.user, cleo.user])
    stream = wire.group(asha.device, asha.memory.counter)
    sent = await asha.send(stream, "who is there?")
    for member in (ben, cleo):
        await member.event(stream, sent.seq)
        await member.ask("Read", stream=stream, seq=sent.seq)
        await asha.frame("Receipt", stream=stream, user=member.user, read=sent.seq)
    info = await asha.ask("Info", stream=stream, target=sent.seq)
    assert sorted(info.read) == sorted([ben.user, cleo.user])
    assert made.seq == 1
    state = await asha.ask("FetchGroup", stream=stream)
    assert sorted(state.marks) == sorted([[ben.user, 2, 2], [cleo.user, 2, 2]])


async def test_a_large_group_counts(world: World) -> None:
    asha, *others = await world.people(*(f"user{number}" for number in range(34)))
    await asha.change("CreateGroup", title="many", members=[each.user for each in others])
    stream = wire.group(asha.device, asha.memory.counter)
    sent = await asha.send(stream, "hands up")
    for member in others:
        await member.event(stream, sent.seq)
    for member in others[:5]:
        await member.ask("Read", stream=stream, seq=sent.seq)
    await asha.frame("ReceiptCount", stream=stream, seq=sent.seq, delivered=33, read=5)
    assert not asha.all("Receipt", stream=stream)
    assert not others[0].all("ReceiptCount"), "to senders only"
    info = await asha.ask("Info", stream=stream, target=sent.seq)
    assert sorted(info.read) == sorted(each.user for each in others[:5])
    assert len(info.delivered) == 28


async def test_typing_is_shown_to_who_looks(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await asha.change("CreateGroup", title="three", members=[ben.user, cleo.user])
    stream = wire.group(asha.device, asha.memory.counter)
    await ben.event(stream, 1)
    await ben.tell("Look", stream=stream)
    await ben.ask("FetchGroup", stream=stream)  # the Look has been taken when this is answered
    await asha.tell("Typing", stream=stream)
    assert (await ben.frame("MemberTyping", stream=stream)).fields.items() >= {"user": asha.user, "on": True}.items()
    await asha.tell("Typing", stream=stream, on=False)
    await ben.frame("MemberTyping", stream=stream, on=False)
    await ben.tell("Look")
    await cleo.tell("Look", stream=stream)
    await cleo.ask("FetchGroup", stream=stream)
    await ben.ask("FetchGroup", stream=stream)
    count = len(ben.all("MemberTyping"))
    await asha.tell("Typing", stream=stream)
    await cleo.frame("MemberTyping", stream=stream)
    sent = await asha.send(stream, "done")
    await ben.event(stream, sent.seq)
    assert len(ben.all("MemberTyping")) == count, "who looks away is not told"


async def test_presence_comes_at_once_and_then_on_changes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "DAMP_S", 0.1)  # how long is tests/actors/test_presence.py's, by a clock of its own
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    answer = await asha.pages("WatchPresence", add=[ben.user, 4711])
    assert answer[-1].kind == "Done"
    await asha.frame("Presence", user=ben.user, online=True)
    await ben.close()
    gone = await asha.frame("Presence", user=ben.user, online=False)
    assert gone.last_seen > asha.welcome.time
    await cleo.ask("WatchPresence", add=[ben.user])
    assert (await cleo.frame("Presence", user=ben.user, online=False)).last_seen == gone.last_seen
    await ben.come_back()
    for who in (asha, cleo):
        await who.until(lambda who=who: who.all("Presence", user=ben.user)[-1].online)  # type: ignore[misc]
        assert not who.all("Presence", user=4711)


async def test_presence_is_watched_anew_after_a_reconnect(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    await asha.ask("WatchPresence", add=[ben.user])
    await asha.close()
    before = len(asha.received)
    await asha.come_back()
    await asha.until(lambda: any(each.kind == "Presence" for each in asha.received[before:]))


async def test_presence_is_for_those_who_may_know(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await set_privacy(ben, last_seen=wire.CONTACTS)
    await ben.change("SetContact", user=asha.user)
    await asha.ask("WatchPresence", add=[ben.user])
    assert (await asha.frame("Presence", user=ben.user)).online
    await cleo.ask("WatchPresence", add=[ben.user, asha.user])
    await cleo.frame("Presence", user=asha.user)
    assert not cleo.all("Presence", user=ben.user)


async def test_more_than_the_subscriptions_are_too_many(world: World) -> None:
    asha = await world.person("asha")
    limit = asha.limits().subscriptions
    await asha.ask("WatchPresence", add=list(range(1, limit + 1)))
    assert await asha.refusal("WatchPresence", add=[limit + 1]) == "too_many"
    await asha.ask("WatchPresence", drop=[1])
    await asha.ask("WatchPresence", add=[limit + 1])


@pytest.mark.parametrize("blocker", ["asha", "ben"])
async def test_a_block_hides_presence_both_ways(world: World, monkeypatch: pytest.MonkeyPatch, blocker: str) -> None:
    monkeypatch.setattr(presence, "DAMP_S", 0.1)
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    for who, other in ((asha, ben), (ben, asha)):
        await who.ask("WatchPresence", add=[other.user, cleo.user])
        for seen in (other, cleo):
            await who.frame("Presence", user=seen.user, online=True)
    by, blocked = (asha, ben) if blocker == "asha" else (ben, asha)
    await by.change("SetBlock", user=blocked.user)
    assert (await blocked.frame("Presence", user=by.user, online=False)).last_seen == 0, "gone, and not since when"
    for who, other in ((asha, ben), (ben, asha)):
        await who.ask("WatchPresence", drop=[other.user, cleo.user])
        before = len(who.received)
        await who.ask("WatchPresence", add=[other.user])
        await who.ask("WatchPresence", add=[cleo.user])
        # All are known by now, so that whom one may see is shown in this order.
        await who.until(lambda who=who, before=before: _shown(who, before) != [])  # type: ignore[misc]
        assert set(_shown(who, before)) == {cleo.user}
    before = len(blocked.received)
    await by.change("SetBlock", user=blocked.user, on=False)
    await blocked.until(lambda: by.user in _shown(blocked, before))


def _shown(client: Client, start: int) -> list[int]:
    """Whose presence a client was told of from a place in what it received on."""
    return [each.user for each in client.received[start:] if each.kind == "Presence"]


@pytest.mark.parametrize("blocker", ["asha", "ben"])
async def test_a_block_hides_typing_both_ways(world: World, blocker: str) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    sent = await asha.send(stream, "before")
    await ben.event(stream, sent.seq)
    by, blocked = (asha, ben) if blocker == "asha" else (ben, asha)
    pairs = ((asha, ben), (ben, asha))
    for who, other in pairs:
        await who.tell("Look", stream=stream)
        await who.ask("Open", user=other.user)  # the Look has been taken when this is answered
    for who, other in pairs:
        await who.tell("Typing", stream=stream)
        await other.frame("MemberTyping", stream=stream, user=who.user, on=True)
    await by.change("SetBlock", user=blocked.user)
    counts = [len(each.all("MemberTyping")) for each in (asha, ben)]
    for who, other in pairs:
        await who.tell("Typing", stream=stream)
        await who.ask("Open", user=other.user)  # the notice, if there were one, is on its way before this answer,
        await other.ask("Open", user=who.user)  # and has arrived before this one
    assert [len(each.all("MemberTyping")) for each in (asha, ben)] == counts
    await by.change("SetBlock", user=blocked.user, on=False)
    for who, other in pairs:
        count = len(other.all("MemberTyping"))
        await who.tell("Typing", stream=stream)
        await other.until(lambda other=other, count=count: len(other.all("MemberTyping")) > count)  # type: ignore[misc]
