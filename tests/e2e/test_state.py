"""State before + events = state fetched after: on every device, after each kind of event."""

from __future__ import annotations

from typing import Any

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.mirror import Account, Conversation, Mirror
from tests.e2e.independent.tables import row
from tests.e2e.world import World


async def history(client: Client, stream: bytes) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """The fetched items, in the form of the mirror."""
    items = {}
    start, more = 0, True
    while more:
        *page, end = await client.pages("FetchHistory", stream=stream, start=start, limit=7, newest_first=False)
        for each in page:
            if each.kind == "HistoryItem":
                fold = each.fold.fields if each.fold is not None else row("Fold", []).fields
                items[each.seq] = (each.event.fields, fold)
        start, more = end.next, end.more
    return items


async def same_direct(client: Client, mirror: Mirror, peer: int) -> None:
    """Hold a direct conversation against what is fetched of it."""
    stream = wire.direct(client.user, peer)
    mine = mirror.conversations[stream]
    opened = await client.ask("Open", user=peer)
    assert (opened.head, opened.n, opened.timer) == (mine.head, mine.n, mine.timer)
    assert await history(client, stream) == mine.items


async def same_group(client: Client, mirror: Mirror, stream: bytes, *, admin: bool = False) -> None:
    """Hold a group against what is fetched of it."""
    mine: Conversation = mirror.conversations[stream]
    state = await client.ask("FetchGroup", stream=stream)
    assert (state.head, state.n, state.timer) == (mine.head, mine.n, mine.timer)
    assert {key: state.fields[key] for key in mine.group} == mine.group
    members = [row("Member", each) for each in (await client.ask("FetchMembers", stream=stream)).members]
    assert {each.user: each.role for each in members} == mine.roles
    assert (state.member_count, state.role) == (len(mine.roles), mine.roles[client.user])
    assert state.owner == next(user for user, role in mine.roles.items() if role == wire.OWNER)
    assert await history(client, stream) == mine.items
    if admin:
        found = await client.ask("FetchGroupAdmin", stream=stream)
        invites = {each.pop("invite"): each for each in (dict(row("Invite", invite).fields) for invite in found.invites)}
        for each in invites.values():
            del each["code"]
        assert (invites, sorted(found.requests), sorted(found.banned)) == (
            mine.invites,
            sorted(mine.requests),
            sorted(mine.banned),
        )


async def same_account(client: Client, mirror: Mirror) -> None:
    """Hold the account, and the settings of each conversation, against what is fetched of them."""
    mine: Account = mirror.account
    state, *others = await client.pages("FetchAccount")
    assert (state.head, state.fields["name"]) == (mine.head, mine.name)
    assert (state.profile, state.privacy, sorted(state.blocked)) == (mine.profile, mine.privacy, sorted(mine.blocked))
    devices = [row("DeviceInfo", each) for each in state.devices]
    assert {each.device: each.fields["name"] for each in devices} == mine.devices
    contacts = [row("Contact", each) for frame in others[:-1] for each in frame.contacts]
    assert {each.user: each.label for each in contacts} == mine.contacts
    for found in (await client.pages("FetchConversations"))[:-1]:
        settings = row("Settings", found.settings).fields
        assert settings == mine.settings.get(found.stream, row("Settings", []).fields)


async def test_a_direct_conversation(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("asha")
    mirrors = {who: Mirror(who) for who in (asha, ben, second)}
    stream = asha.with_(ben)
    note = wire.direct(ben.user, ben.user)
    await ben.send(note, "from elsewhere")
    steps: list[tuple[Client, str, dict[str, Any]]] = [
        (asha, "Send", {"body": wire.text("one")}),
        (ben, "Send", {"body": wire.text("two"), "reply_to": 1, "flags": wire.SILENT}),
        (ben, "React", {"target": 1, "emoji": "👍"}),
        (asha, "Edit", {"target": 1, "body": wire.text("one and a half")}),
        (second, "React", {"target": 1, "emoji": "🎉"}),
        (second, "Edit", {"target": 1, "body": [*wire.text("again"), [], "later"]}),
        (ben, "React", {"target": 1, "emoji": "👎"}),
        (asha, "React", {"target": 1, "emoji": ""}),
        (asha, "SetTimer", {"seconds": 100_000}),
        (second, "Send", {"body": [2, b"media", "caption"]}),
        (ben, "SetTimer", {"seconds": 0}),
        (ben, "Send", {"body": [3, b"sealed"]}),
        (ben, "Delete", {"target": 2}),
        (second, "Delete", {"target": 1}),
    ]
    for who, kind, fields in steps:
        sent = await who.change(kind, stream=stream, **fields)
        for device in (asha, ben, second):
            await device.event(stream, sent.seq)
            await same_direct(device, mirrors[device], ben.user if device is not ben else asha.user)
    forward = await ben.change("Forward", stream=stream, source=note, target=1)
    for device in (asha, second):
        await device.event(stream, forward.seq)
        await same_direct(device, mirrors[device], ben.user)
    assert all(not device.inbox.jumps for device in mirrors)


async def test_a_group(world: World) -> None:
    asha, ben, cleo, dora = await world.people("asha", "ben", "cleo", "dora")
    second = await world.device("asha")
    devices = (asha, ben, second)
    mirrors = {who: Mirror(who) for who in devices}
    await asha.change("CreateGroup", title="Verona", members=[ben.user], description="d", picture="p")
    stream = wire.group(asha.device, asha.memory.counter)

    async def step(who: Client, kind: str, **fields: Any) -> int:
        sent = await who.change(kind, stream=stream, **fields)
        for device in devices:
            await device.event(stream, sent.seq)
            await same_group(device, mirrors[device], stream, admin=device is not ben)
        seq: int = sent.seq
        return seq

    await step(asha, "Send", body=wire.text("@ben", (ben.user, "@ben")))
    await step(asha, "SetGroupProfile", title="Mantua", description="", picture="q")
    await step(second, "SetPermissions", permissions=[1, 2, 3])
    await step(asha, "AddMembers", users=[cleo.user])
    await step(asha, "SetRole", user=cleo.user, role=wire.ADMIN)
    await step(cleo, "RemoveMember", user=dora.user, ban=True)
    await step(asha, "Unban", user=dora.user)
    await step(asha, "RemoveMember", user=cleo.user)
    asks = await step(asha, "CreateInvite", uses=3, approval=True)
    opens = await step(second, "CreateInvite", uses=2)
    invites = [row("Invite", each) for each in (await asha.ask("FetchGroupAdmin", stream=stream)).invites]
    codes = {each.invite: each.code for each in invites}
    await step(cleo, "Join", code=codes[asks])
    await step(asha, "AnswerJoin", user=cleo.user, accept=False)
    await step(cleo, "Join", code=codes[asks])
    await step(second, "AnswerJoin", user=cleo.user, accept=True)
    await step(dora, "Join", code=codes[opens])
    await step(asha, "RevokeInvite", invite=opens)
    await step(asha, "SetTimer", seconds=86400)
    await step(dora, "Send", body=wire.text("hello"))
    await step(asha, "SetTimer", seconds=0)
    await step(cleo, "Leave")
    await step(asha, "SetRole", user=ben.user, role=wire.OWNER)
    await step(ben, "SetRole", user=asha.user, role=wire.OWNER)
    assert all(not device.inbox.jumps for device in mirrors)


async def test_an_account_and_ones_own_view(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    first = Mirror(asha)
    stream = asha.with_(ben)
    for words in ("one", "two", "three"):
        await ben.send(stream, words)
    await asha.event(stream, 3)
    second = await world.device("asha")
    doomed = await world.device("asha")
    steps: list[tuple[str, dict[str, Any]]] = [
        ("SetProfile", {"profile": ["Asha", "about", "pic"]}),
        ("Rename", {"name": "asha2"}),
        ("SetContact", {"user": ben.user, "label": "Benny"}),
        ("SetContact", {"user": ben.user, "label": "Ben"}),
        ("SetBlock", {"user": ben.user}),
        ("SetPrivacy", {"privacy": [2, 3, False, 2, False, 3]}),
        ("RenameDevice", {"device": asha.device, "name": "tablet"}),
        ("RevokeDevice", {"device": doomed.device}),
        ("SetConversation", {"stream": stream, "pinned": True, "muted_until": 5, "archived": True}),
        ("SetDraft", {"stream": stream, "text": "dear ben", "reply_to": 2}),
        ("Keep", {"stream": stream, "seq": 2, "starred": True, "pinned": True}),
        ("Keep", {"stream": stream, "seq": 3, "pinned": True}),
        ("Keep", {"stream": stream, "seq": 2}),
        ("Hide", {"stream": stream, "seqs": [3]}),
        ("Clear", {"stream": stream, "upto": 1}),
        ("Keep", {"stream": stream, "seq": 2, "starred": True}),
        ("Keep", {"stream": stream, "seq": 1, "pinned": True}),
        ("Hide", {"stream": stream, "seqs": [2]}),
        ("Clear", {"stream": stream, "upto": 2}),
        ("Keep", {"stream": stream, "seq": 3, "starred": True, "pinned": True}),
        ("Clear", {"stream": stream, "upto": 1, "delete": True}),
        ("Clear", {"stream": stream, "upto": 99}),
        ("SetContact", {"user": ben.user, "on": False}),
        ("SetBlock", {"user": ben.user, "on": False}),
        ("SetDraft", {"stream": stream, "text": ""}),
    ]
    for kind, fields in steps:
        sent = await second.change(kind, **fields)
        await asha.event(asha.account, sent.seq)
        await same_account(asha, first)
    assert asha.inbox.jumps == []
