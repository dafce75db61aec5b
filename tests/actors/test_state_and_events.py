"""K10 (`tests/checker/checks.py`) for every kind of event: what was fetched before, with the events received since, is what is
fetched after."""

from __future__ import annotations

from typing import Any

from actors.state import account, group, rules
from protocol import events, ids, messages
from protocol.events import Audience, Permissions, Privacy, Profile, Role
from tests.actors.world import ASHA, BEN, CARA, DEV, PASSWORD, Phone, World, direct, text

S = direct(ASHA, BEN)


async def items(phone: Phone, stream: bytes) -> dict[int, tuple[events.AnyEvent, events.Fold]]:
    phone.frames = [each for each in phone.frames if not isinstance(each, messages.HistoryItem)]
    await phone.ask(messages.FetchHistory, stream, 0, False, 256)
    return {
        each.seq: (events.decode(each.event), events.decode_fold(each.fold) if each.fold != events.NIL else events.Fold())
        for each in phone.all(messages.HistoryItem)
    }


def folded(found: dict[int, tuple[events.AnyEvent, events.Fold]], received: list[tuple[int, events.AnyEvent]]) -> None:
    """As a client does: from the reference alone."""
    for seq, event in received:
        match event:
            case events.Edited():
                fold = found[event.target][1]
                fold.body, fold.edited_at, fold.edits = event.body, event.time, (*fold.edits, seq)
                fold.changed = seq
            case events.Deleted():
                message, fold = found[event.target]
                assert isinstance(message, events.Message)
                message.body = events.NIL
                found[event.target] = (message, events.Fold(edits=fold.edits, deleted=True, changed=seq))
            case events.Reacted():
                fold = found[event.target][1]
                fold.changed, reactions = seq, fold.reactions
                if event.emoji:
                    reactions[event.sender] = event.emoji
                else:
                    reactions.pop(event.sender, None)
            case _ if events.kind_of(event) < 32:
                found[seq] = (event, events.Fold())


async def test_history_before_and_events_since_make_history_after(world: World) -> None:
    asha, ben, witness = await world.known(ASHA), await world.known(BEN), await world.known(BEN)
    first = await asha.done(messages.Send, S, text("one"))
    second = await ben.done(messages.Send, S, text("two"))
    await asha.done(messages.React, S, second.seq, "+")
    await world.quiet()
    found = await items(witness, S)
    already = len(witness.events(S))
    await asha.done(messages.Edit, S, first.seq, text("one, edited"))
    await asha.done(messages.Edit, S, first.seq, text("one, edited again"))
    await ben.done(messages.React, S, first.seq, "!")
    await asha.done(messages.React, S, second.seq, "")
    await asha.done(messages.Send, S, text("three"), first.seq)
    await ben.done(messages.Forward, S, S, first.seq)
    await asha.done(messages.SetTimer, S, 60)
    await ben.done(messages.Delete, S, second.seq)
    await world.quiet()
    folded(found, witness.events(S)[already:])
    after = await items(witness, S)
    # The answer to a page leaves out what a client shows as gone, and bodies that were replaced.
    gone = {seq for each in witness.all(messages.Gone) for seq in range(each.first, each.last + 1)}
    for seq in after:
        assert after[seq][1] == found[seq][1], seq
        assert after[seq][0] == found[seq][0], seq
    assert set(found) - set(after) <= gone


async def test_a_group_before_and_events_since_make_the_group_after(world: World) -> None:
    asha, ben, dev = await world.known(ASHA), await world.known(BEN), await world.known(DEV)
    await asha.done(messages.CreateGroup, "g", (BEN,))
    stream = ids.group_stream(asha.device, asha.counter)
    await world.quiet()
    state = group.Group(stream, rules.Rules())
    for seq, event in [(1, (await world.whole(stream))[0])]:
        state.applied(seq, event)
    changes: list[tuple[Phone, Any, tuple[Any, ...]]] = [
        (asha, messages.AddMembers, ((CARA,),)),
        (asha, messages.SetRole, (BEN, Role.ADMIN)),
        (ben, messages.SetGroupProfile, ("new", "about", "pic")),
        (asha, messages.SetPermissions, (Permissions(Role.MEMBER, Role.MEMBER, Role.OWNER),)),
        (asha, messages.SetTimer, (30,)),
        (asha, messages.CreateInvite, (5, 0, True)),
        (ben, messages.RemoveMember, (CARA, True)),
        (asha, messages.Unban, (CARA,)),
        (asha, messages.SetRole, (BEN, Role.OWNER)),
    ]
    for phone, kind, fields in changes:
        await phone.done(kind, stream, *fields)
    admin = await asha.ask(messages.FetchGroupAdmin, stream)
    assert isinstance(admin, messages.GroupAdmin)
    await dev.done(messages.Join, stream, admin.invites[0].code)
    await ben.done(messages.AnswerJoin, stream, DEV, False)
    await dev.done(messages.Join, stream, admin.invites[0].code)
    await ben.done(messages.AnswerJoin, stream, DEV, True)
    await asha.done(messages.RevokeInvite, stream, admin.invites[0].invite)
    await asha.done(messages.Leave, stream)
    await world.quiet()
    mine = dict(enumerate(await world.whole(stream), start=1))
    got = dict(ben.events(stream))
    for seq in range(2, len(mine) + 1):
        # Sent stands for one's own; everything else was received as it is stored.
        event = got.get(seq, mine[seq])
        assert seq in got or mine[seq].device == ben.device
        assert event == mine[seq]
        state.applied(seq, event)
    after = await ben.ask(messages.FetchGroup, stream)
    members = await ben.ask(messages.FetchMembers, stream)
    assert isinstance(after, messages.GroupState)
    assert isinstance(members, messages.MembersPage)
    assert after.head == len(mine)
    assert (after.title, after.description, after.picture) == (state.title, state.description, state.picture)
    assert (after.permissions, after.timer, after.owner) == (state.permissions, state.timer, state.owner)
    assert {each.user: (each.role, each.joined) for each in members.members} == {
        user: (standing.role, standing.joined) for user, standing in state.standing.items()
    }


async def test_an_account_before_and_events_since_make_the_account_after(world: World) -> None:
    asha, witness, ben = await world.known(ASHA), await world.known(ASHA), await world.known(BEN)
    third = await world.known(ASHA)
    await ben.done(messages.Send, S, text("hi"))
    mine = ids.account_stream(ASHA)
    changes: list[tuple[Any, tuple[Any, ...]]] = [
        (messages.SetProfile, (Profile("Asha", "about", "pic"),)),
        (messages.Rename, ("asha-two",)),
        (messages.SetContact, (BEN, True, "b")),
        (messages.SetContact, (CARA, True, "c")),
        (messages.SetContact, (CARA, False)),
        (messages.SetBlock, (DEV, True)),
        (messages.SetPrivacy, (Privacy(write=Audience.CONTACTS),)),
        (messages.RenameDevice, (third.device, "named")),
        (messages.SetConversation, (S, True, 5, True)),
        (messages.SetDraft, (S, "draft", 1)),
        (messages.Keep, (S, 1, True, True)),
        (messages.Clear, (S, 1)),
        (messages.RevokeDevice, (third.device,)),
        (messages.ChangePassword, (PASSWORD, "another good one", False)),
        (messages.CreateGroup, ("g", ())),
    ]
    for kind, fields in changes:
        await asha.done(kind, *fields)
    await world.quiet()
    state = account.Account(mine, rules.Rules(), ASHA, "asha")
    received = witness.events(mine)
    assert [seq for seq, _ in received] == list(range(1, len(await world.whole(mine)) + 1))
    for seq, event in received:
        state.applied(seq, event)
    await witness.ask(messages.FetchAccount)
    (after,) = witness.all(messages.AccountState)
    facts = state.facts
    assert (after.head, after.name, after.profile, after.privacy) == (len(received), facts.name, facts.profile, facts.privacy)
    assert set(after.blocked) == facts.blocked
    labels = {event.user: event.label for _, event in received if isinstance(event, events.ContactSet)}
    contacts = {each.user: each.label for page in witness.all(messages.Contacts) for each in page.contacts}
    assert contacts == {user: labels[user] for user in facts.contacts}
    assert {each.device for each in after.devices} >= state.devices
    await witness.ask(messages.FetchConversations)
    rows = {each.stream: each.settings for each in witness.all(messages.Conversation)}
    assert rows[S] == state.view(S)
    assert set(state.groups) == {stream for stream in rows if stream[:1] == b"g"}
