"""Groups: members, roles, permissions, and what each of them may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.bystanders import others_talk
from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.tables import row
from tests.e2e.world import World


async def group_of(owner: Client, *members: Client, title: str = "Verona") -> bytes:
    """A new group whose members all know of it."""
    await owner.change("CreateGroup", title=title, members=[each.user for each in members], description="d", picture="p")
    stream = wire.group(owner.device, owner.memory.counter)
    for member in members:
        await member.event(stream, 1)
    return stream


async def roles(client: Client, stream: bytes) -> dict[int, int]:
    """Each member's role, as fetched page by page."""
    found: dict[int, int] = {}
    after, more = 0, True
    while more:
        page = await client.ask("FetchMembers", stream=stream, after=after, limit=2)
        rows = [row("Member", each) for each in page.members]
        found |= {each.user: each.role for each in rows}
        after, more = max(found), page.more
    return found


async def test_a_group_is_made_and_everybody_learns_of_it(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben, cleo)
    created = (await ben.event(stream, 1)).fields
    assert (created["title"], created["description"], created["picture"]) == ("Verona", "d", "p")
    assert sorted(created["members"]) == sorted([ben.user, cleo.user])
    for who, by in ((asha, asha), (ben, asha), (cleo, asha)):
        await who.until(lambda who=who: bool(who.events(who.account, "Joined")))  # type: ignore[misc]
        joined = who.events(who.account, "Joined")[0].event
        assert (joined.stream, joined.seq, joined.by) == (stream, 1, by.user)
    state = await ben.ask("FetchGroup", stream=stream)
    assert (state.title, state.member_count, state.owner, state.role, state.joined) == ("Verona", 3, asha.user, 1, 1)
    assert (state.permissions, state.timer, state.head) == ([1, 2, 2], 0, 1)
    assert await roles(cleo, stream) == {asha.user: wire.OWNER, ben.user: wire.MEMBER, cleo.user: wire.MEMBER}
    sent = await cleo.send(stream, "hello all")
    for who in (asha, ben):
        assert (await who.event(stream, sent.seq)).body[1] == "hello all"


@pytest.mark.usefixtures("bystanders")
async def test_members_are_added_and_read_from_there_on(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben)
    await asha.send(stream, "before")
    assert await ben.refusal("AddMembers", stream=stream, users=[cleo.user]) == "not_allowed"
    added = await asha.change("AddMembers", stream=stream, users=[cleo.user])
    assert (await cleo.event(stream, added.seq)).users == [cleo.user]
    await cleo.until(lambda: bool(cleo.events(cleo.account, "Joined")))
    assert cleo.events(cleo.account, "Joined")[0].event.seq == added.seq
    history = await cleo.pages("FetchHistory", stream=stream)
    assert [each.seq for each in history if each.kind == "HistoryItem"] == [added.seq]
    assert "before" not in str(history)
    after = await asha.send(stream, "after")
    assert (await cleo.event(stream, after.seq)).body[1] == "after"
    assert (await cleo.ask("FetchGroup", stream=stream)).joined == added.seq


@pytest.mark.usefixtures("bystanders")
async def test_a_removed_member_reads_nothing_more_and_can_come_back(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben, cleo)
    assert await ben.refusal("RemoveMember", stream=stream, user=cleo.user) == "not_allowed"
    removed = await asha.change("RemoveMember", stream=stream, user=cleo.user)
    await ben.event(stream, removed.seq)
    await cleo.until(lambda: bool(cleo.events(cleo.account, "Parted")))
    parted = cleo.events(cleo.account, "Parted")[0].event
    assert (parted.stream, parted.seq, parted.by) == (stream, removed.seq, asha.user)
    for kind, fields in (("Send", {"body": wire.text("?")}), ("FetchGroup", {}), ("FetchMembers", {}), ("Leave", {})):
        assert await cleo.refusal(kind, stream=stream, **fields) == "not_allowed"
    secret = await asha.send(stream, "while away")
    back = await asha.change("AddMembers", stream=stream, users=[cleo.user])
    await cleo.event(stream, back.seq)
    assert secret.seq not in [each.seq for each in cleo.events(stream)]
    assert all(jump == (stream, back.seq) for jump in cleo.inbox.jumps)
    history = await cleo.pages("FetchHistory", stream=stream)
    assert "while away" not in str(history)


@pytest.mark.usefixtures("bystanders")
async def test_a_ban_keeps_out_until_unbanned(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben)
    banned = await asha.change("RemoveMember", stream=stream, user=ben.user, ban=True)
    stranger = await asha.change("RemoveMember", stream=stream, user=cleo.user, ban=True)
    assert (banned.seq, stranger.seq) == (2, 3)
    assert sorted((await asha.ask("FetchGroupAdmin", stream=stream)).banned) == sorted([ben.user, cleo.user])
    assert await asha.refusal("AddMembers", stream=stream, users=[ben.user]) == "not_allowed"
    await asha.change("Unban", stream=stream, user=ben.user)
    await asha.change("AddMembers", stream=stream, users=[ben.user])
    assert (await asha.ask("FetchGroupAdmin", stream=stream)).banned == [cleo.user]
    assert await ben.refusal("FetchGroupAdmin", stream=stream) == "not_allowed"


@pytest.mark.usefixtures("bystanders")
async def test_roles_and_who_may_what(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben, cleo)
    theirs = await cleo.send(stream, "cleo's")
    assert await ben.refusal("SetRole", stream=stream, user=cleo.user, role=wire.ADMIN) == "not_allowed"
    assert await ben.refusal("Delete", stream=stream, target=theirs.seq) == "not_allowed"
    assert await ben.refusal("SetGroupProfile", stream=stream, title="mine") == "not_allowed"
    promoted = await asha.change("SetRole", stream=stream, user=ben.user, role=wire.ADMIN)
    assert ((await ben.event(stream, promoted.seq)).user, (await cleo.event(stream, promoted.seq)).role) == (
        ben.user,
        wire.ADMIN,
    )
    await ben.change("SetRole", stream=stream, user=cleo.user, role=wire.ADMIN)
    assert await ben.refusal("SetRole", stream=stream, user=cleo.user, role=wire.MEMBER) == "not_allowed"
    for admin in (asha, cleo):
        assert await ben.refusal("RemoveMember", stream=stream, user=admin.user) == "not_allowed"
    deleted = await ben.change("Delete", stream=stream, target=theirs.seq)
    assert (await cleo.event(stream, deleted.seq)).sender == ben.user
    renamed = await ben.change("SetGroupProfile", stream=stream, title="Mantua", description="", picture="")
    assert (await cleo.event(stream, renamed.seq)).title == "Mantua"
    assert (await cleo.ask("FetchGroup", stream=stream)).title == "Mantua"


async def test_the_group_is_handed_over(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = await group_of(asha, ben)
    handed = await asha.change("SetRole", stream=stream, user=ben.user, role=wire.OWNER)
    await ben.event(stream, handed.seq)
    assert await roles(ben, stream) == {asha.user: wire.ADMIN, ben.user: wire.OWNER}
    assert (await asha.ask("FetchGroup", stream=stream)).owner == ben.user


async def test_who_follows_an_owner_that_leaves(world: World) -> None:
    asha, ben, cleo, dora = await world.people("asha", "ben", "cleo", "dora")
    stream = await group_of(asha, ben)
    await asha.change("AddMembers", stream=stream, users=[cleo.user])
    await asha.change("AddMembers", stream=stream, users=[dora.user])
    promoted = await asha.change("SetRole", stream=stream, user=dora.user, role=wire.ADMIN)
    await dora.event(stream, promoted.seq)
    left = await asha.change("Leave", stream=stream)
    assert (await dora.event(stream, left.seq)).successor == dora.user, "the admin comes first"
    left = await dora.change("Leave", stream=stream)
    assert (await cleo.event(stream, left.seq)).successor == ben.user, "then who is there longest"
    await ben.event(stream, left.seq)
    assert (await ben.ask("FetchGroup", stream=stream)).role == wire.OWNER
    await cleo.change("Leave", stream=stream)
    last = await ben.change("Leave", stream=stream)
    assert last.seq > left.seq
    assert await ben.refusal("FetchGroup", stream=stream) == "not_allowed"


@pytest.mark.usefixtures("bystanders")
async def test_permissions_say_who_may_send_add_and_edit(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = await group_of(asha, ben)
    assert await ben.refusal("SetPermissions", stream=stream, permissions=[1, 1, 1]) == "not_allowed"
    await asha.change("SetPermissions", stream=stream, permissions=[wire.ADMIN, wire.MEMBER, wire.MEMBER])
    assert await ben.refusal("Send", stream=stream, body=wire.text("may I?")) == "not_allowed"
    await ben.change("SetGroupProfile", stream=stream, title="by a member")
    added = await ben.change("AddMembers", stream=stream, users=[cleo.user])
    await cleo.event(stream, added.seq)
    assert (await cleo.ask("FetchGroup", stream=stream)).permissions == [2, 1, 1]
    assert await cleo.refusal("SetPermissions", stream=stream, permissions=[3, 3, 3]) == "not_allowed"


@pytest.mark.usefixtures("bystanders")
async def test_a_group_that_cannot_be_made(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await ben.change("SetBlock", user=asha.user)
    await cleo.change("SetPrivacy", privacy=[1, 1, True, 1, True, wire.CONTACTS])
    for members in ([ben.user], [cleo.user], [4711]):
        assert await asha.refusal("CreateGroup", title="no", members=members) == "not_allowed"
    assert await asha.refusal("CreateGroup", title="", members=[]) == "empty"
    assert await asha.refusal("CreateGroup", title="a" * 101, members=[]) == "too_long"
    await cleo.change("SetContact", user=asha.user)
    assert (await asha.change("CreateGroup", title="yes", members=[cleo.user])).seq == 1


async def test_a_group_has_so_many_members_and_no_more(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    world = await start({"limits.group_members": "3"})
    async with others_talk(world):
        asha, ben, cleo, dora = await world.people("asha", "ben", "cleo", "dora")
        assert asha.limits().group_members == 3
        stream = await group_of(asha, ben, cleo)
        for kind, fields in (
            ("CreateGroup", {"title": "four", "members": [ben.user, cleo.user, dora.user]}),
            ("AddMembers", {"stream": stream, "users": [dora.user]}),
        ):
            assert await asha.refusal(kind, **fields) == "too_many"
            assert asha.all("Error")[-1].text == "a group has at most 3 members"
        await asha.change("RemoveMember", stream=stream, user=cleo.user)
        added = await asha.change("AddMembers", stream=stream, users=[dora.user])
        assert added.seq == 3, "what was refused took no number"
        await dora.event(stream, added.seq)
