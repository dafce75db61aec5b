"""Invite links: joining by them, asking to join, and who answers."""

from __future__ import annotations

import pytest

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.tables import Record, row
from tests.e2e.test_groups import group_of
from tests.e2e.world import World


async def link(owner: Client, stream: bytes, **fields: int | bool) -> Record:
    """A new invite link, as an admin reads it."""
    made = await owner.change("CreateInvite", stream=stream, **fields)
    admin = await owner.ask("FetchGroupAdmin", stream=stream)
    return next(each for each in (row("Invite", invite) for invite in admin.invites) if each.invite == made.seq)


async def test_one_joins_by_the_code_of_a_link(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben)
    await asha.send(stream, "before")
    invite = await link(asha, stream, uses=2)
    assert (invite.uses, invite.used, invite.expires_at, invite.approval) == (2, 0, 0, False)
    created = await ben.event(stream, invite.invite)
    assert (created.kind, created.invite, created.uses) == ("InviteCreated", invite.invite, 2)
    joined = await cleo.change("Join", stream=stream, code=invite.code)
    event = await ben.event(stream, joined.seq)
    assert (event.kind, event.user, event.invite, event.sender) == ("MemberJoined", cleo.user, invite.invite, cleo.user)
    await cleo.until(lambda: bool(cleo.events(cleo.account, "Joined")))
    own = cleo.events(cleo.account, "Joined")[0].event
    assert (own.stream, own.seq, own.by) == (stream, joined.seq, cleo.user)
    sent = await ben.send(stream, "welcome")
    await cleo.event(stream, sent.seq)
    assert "before" not in str(await cleo.pages("FetchHistory", stream=stream))
    assert row("Invite", (await asha.ask("FetchGroupAdmin", stream=stream)).invites[0]).used == 1
    assert cleo.inbox.jumps == []


async def test_a_code_that_does_not_open(world: World) -> None:
    asha, ben, cleo, dora = await world.people("asha", "ben", "cleo", "dora")
    stream = await group_of(asha)
    once = await link(asha, stream, uses=1)
    late = await link(asha, stream, expires_at=asha.welcome.time)
    void = await link(asha, stream)
    await asha.change("RevokeInvite", stream=stream, invite=void.invite)
    await ben.change("Join", stream=stream, code=once.code)
    for code in (once.code, late.code, void.code, b"guessed", once.code[:-1] + bytes([once.code[-1] ^ 1])):
        assert await cleo.refusal("Join", stream=stream, code=code) in ("bad_invitation", "not_allowed")
    await asha.change("RemoveMember", stream=stream, user=dora.user, ban=True)
    open_to_all = await link(asha, stream)
    assert await dora.refusal("Join", stream=stream, code=open_to_all.code) == "not_allowed"
    nowhere = wire.group(cleo.device, 77)
    known = await cleo.refusal("Join", stream=stream, code=b"guessed")
    assert await cleo.refusal("Join", stream=nowhere, code=b"guessed") == known


async def test_where_approval_is_asked_an_admin_answers(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben)
    invite = await link(asha, stream, approval=True)
    asked = await cleo.change("Join", stream=stream, code=invite.code)
    request = await asha.event(stream, asked.seq)
    assert (request.kind, request.sender, request.invite) == ("JoinRequested", cleo.user, invite.invite)
    assert (await asha.ask("FetchGroupAdmin", stream=stream)).requests == [cleo.user]
    assert await cleo.refusal("FetchGroup", stream=stream) == "not_allowed"
    assert await ben.refusal("AnswerJoin", stream=stream, user=cleo.user, accept=True) == "not_allowed"
    answered = await asha.change("AnswerJoin", stream=stream, user=cleo.user, accept=True)
    event = await cleo.event(stream, answered.seq)
    assert (event.kind, event.user, event.sender, event.invite) == ("MemberJoined", cleo.user, asha.user, invite.invite)
    await cleo.until(lambda: bool(cleo.events(cleo.account, "Joined")))
    assert cleo.events(cleo.account, "Joined")[0].event.fields.items() >= {"seq": answered.seq, "by": asha.user}.items()
    assert (await asha.ask("FetchGroupAdmin", stream=stream)).requests == []
    sent = await cleo.send(stream, "thank you")
    assert (await ben.event(stream, sent.seq)).sender == cleo.user


async def test_who_is_refused_is_told(world: World) -> None:
    asha, cleo = await world.people("asha", "cleo")
    stream = await group_of(asha)
    invite = await link(asha, stream, approval=True)
    await cleo.change("Join", stream=stream, code=invite.code)
    refused = await asha.change("AnswerJoin", stream=stream, user=cleo.user, accept=False)
    await cleo.until(lambda: bool(cleo.events(cleo.account, "TurnedDown")))
    assert cleo.events(cleo.account, "TurnedDown")[0].event.stream == stream
    assert await cleo.refusal("FetchGroup", stream=stream) == "not_allowed"
    items = await asha.pages("FetchHistory", stream=stream)
    assert refused.seq not in [each.seq for each in items if each.kind == "HistoryItem"], "a change, no item"
    assert await asha.refusal("AnswerJoin", stream=stream, user=cleo.user, accept=True) in ("not_allowed", "nothing_changed")


@pytest.mark.parametrize("kind", ["CreateInvite", "RevokeInvite", "Unban", "AnswerJoin"])
async def test_a_member_manages_no_links(world: World, kind: str) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = await group_of(asha, ben)
    invite = await link(asha, stream)
    fields = {"RevokeInvite": {"invite": invite.invite}, "Unban": {"user": 5}, "AnswerJoin": {"user": 5, "accept": True}}
    assert await ben.refusal(kind, stream=stream, **fields.get(kind, {})) == "not_allowed"
