"""Who may write to whom, see whom and add whom; blocks; message requests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.independent import wire
from tests.e2e.independent.tables import MAX_INT, row
from tests.e2e.test_groups import group_of
from tests.e2e.test_signs import set_privacy
from tests.e2e.world import World

HELLO = wire.text("hello")


@pytest.mark.usefixtures("bystanders")
async def test_who_is_blocked_gets_no_word_through(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await ben.change("SetProfile", profile=["Ben", "secret about", ""])
    first = await asha.send(stream, "before")
    await ben.event(stream, first.seq)
    await ben.change("SetBlock", user=asha.user)
    assert await asha.refusal("Send", stream=stream, body=HELLO) == "not_allowed"
    assert await asha.refusal("React", stream=stream, target=1, emoji="👍") == "not_allowed"
    assert await asha.refusal("Send", stream=stream, body=HELLO, flags=wire.EPHEMERAL) == "not_allowed"
    assert "secret about" not in str(await asha.ask("FetchProfiles", users=[ben.user]))
    await ben.ask("Read", stream=stream, seq=1)
    opened = await asha.ask("Open", user=ben.user)
    assert {user: read for user, _, read in opened.marks}.get(ben.user, 0) == 0
    await ben.change("SetBlock", user=asha.user, on=False)
    sent = await asha.send(stream, "after")
    assert (await ben.event(stream, sent.seq)).body[1] == "after"


async def test_a_profile_is_shown_to_its_audience(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await ben.change("SetProfile", profile=["Ben", "about", ""])
    await ben.change("SetContact", user=asha.user)
    for audience, seen in ((wire.EVERYONE, (True, True)), (wire.CONTACTS, (True, False)), (wire.NOBODY, (False, False))):
        await set_privacy(ben, profile=audience)
        for who, sees in zip((asha, cleo), seen, strict=True):
            rows = (await who.ask("FetchProfiles", users=[ben.user])).profiles
            assert [row("ProfileRow", each).fields["name"] for each in rows] == ["ben"]
            assert ("about" in str(rows)) == sees


async def test_who_may_not_write_at_once_sends_a_request(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await set_privacy(ben, write=wire.CONTACTS)
    sent = await asha.send(stream, "may I?")
    event = await ben.event(stream, sent.seq)
    assert event.flags == wire.REQUEST
    for who in (asha, ben):
        assert (await who.ask("Open", user=(ben if who is asha else asha).user)).request_for == ben.user
    assert await asha.refusal("AcceptRequest", stream=stream) == "not_allowed"
    accepted = await ben.change("AcceptRequest", stream=stream)
    assert (await asha.event(stream, accepted.seq)).kind == "RequestAccepted"
    assert (await asha.ask("Open", user=ben.user)).request_for == 0
    sent = await asha.send(stream, "thank you")
    assert (await ben.event(stream, sent.seq)).flags == 0


async def test_answering_accepts(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await set_privacy(ben, write=wire.NOBODY)
    await asha.send(stream, "may I?")
    await ben.event(stream, 1)
    await ben.send(stream, "yes")
    await asha.event(stream, 2)
    assert (await asha.ask("Open", user=ben.user)).request_for == 0
    sent = await asha.send(stream, "good")
    assert (await ben.event(stream, sent.seq)).flags == 0


@pytest.mark.usefixtures("bystanders")
async def test_no_requests_means_no_word(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await set_privacy(ben, write=wire.CONTACTS, requests=False)
    await ben.change("SetContact", user=cleo.user)
    assert await asha.refusal("Send", stream=asha.with_(ben), body=HELLO) == "not_allowed"
    sent = await cleo.send(cleo.with_(ben), "a contact may")
    assert (await ben.event(cleo.with_(ben), sent.seq)).flags == 0
    sent = await ben.send(ben.with_(asha), "I write to whom I like")
    assert (await asha.event(ben.with_(asha), sent.seq)).flags == 0


@pytest.mark.usefixtures("bystanders")
async def test_not_a_member_and_no_such_group_are_the_same(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await asha.change("CreateGroup", title="secret", members=[ben.user])
    existing, missing = wire.group(asha.device, asha.memory.counter), wire.group(asha.device, 12345)
    between_others, of_nobody = asha.with_(ben), wire.direct(4711, 4712)
    commands: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Send", {"body": HELLO}),
        ("Edit", {"target": 1, "body": HELLO}),
        ("Delete", {"target": 1}),
        ("React", {"target": 1, "emoji": "👍"}),
        ("SetTimer", {"seconds": 5}),
        ("FetchHistory", {}),
        ("Info", {"target": 1}),
        ("Forward", {"source": cleo.with_(ben), "target": 1}),
    )
    of_groups: tuple[tuple[str, dict[str, Any]], ...] = (
        ("AddMembers", {"users": [cleo.user]}),
        ("RemoveMember", {"user": ben.user}),
        ("Leave", {}),
        ("SetRole", {"user": cleo.user, "role": 3}),
        ("SetGroupProfile", {"title": "mine"}),
        ("SetPermissions", {"permissions": [1, 1, 1]}),
        ("CreateInvite", {}),
        ("FetchGroup", {}),
        ("FetchMembers", {}),
        ("FetchGroupAdmin", {}),
    )
    await asha.send(between_others, "secret")
    for kind, fields in (*commands, *of_groups):
        streams = (existing, missing) if kind in dict(of_groups) else (existing, missing, between_others, of_nobody)
        answers = {await cleo.refusal(kind, stream=stream, **fields) for stream in streams}
        assert answers == {"not_allowed"}, kind
    for user in (4711, MAX_INT):
        assert await cleo.refusal("Send", stream=wire.direct(cleo.user, user), body=HELLO) == "not_allowed"


@pytest.mark.usefixtures("bystanders")
async def test_who_is_no_member_has_read_nothing(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await asha.change("CreateGroup", title="secret", members=[ben.user])
    existing, missing = wire.group(asha.device, asha.memory.counter), wire.group(asha.device, 12345)
    await asha.send(asha.with_(ben), "secret")
    streams = (asha.with_(ben), wire.direct(4711, 4712), existing, missing)
    assert [await cleo.refusal("Read", stream=stream, seq=1) for stream in streams] == ["not_allowed"] * 4


async def test_a_block_between_two_members_changes_nothing_in_their_group(world: World) -> None:
    asha, ben, cleo = members = await world.people("asha", "ben", "cleo")
    stream = await group_of(cleo, asha, ben)
    for number in range(20):
        for who in members:
            await who.start_sending(stream, f"{who.label} {number}")
        if number == 10:  # with words of all three under way
            await ben.change("SetBlock", user=asha.user)
    for who in members:
        await who.event(stream, 61)
        await who.until(lambda who=who: not who.memory.commands)  # type: ignore[misc]
        assert [each.seq for each in who.events(stream)] == list(range(1, 62))
        assert who.texts(stream) == cleo.texts(stream)
    for who in members:
        own = [text for text in cleo.texts(stream) if text.startswith(who.label)]
        assert own == [f"{who.label} {number}" for number in range(20)]
    for who, other in ((asha, ben), (ben, asha)):
        last = await who.send(stream, "with nothing behind it that could tell of a gap")
        assert (await other.event(stream, last.seq)).sender == who.user
        await other.close()
        sent = await who.send(stream, f"{other.label}, who is away, reads this later")
        await other.come_back()
        assert (await other.event(stream, sent.seq)).sender == who.user
        assert await who.refusal("Send", stream=who.with_(other), body=HELLO) == "not_allowed", "the block holds"
