"""What the store answers: pages that meet, lists that count right, and nothing of others."""

from __future__ import annotations

import msgspec
import pytest

from actors.state import account
from auth.policy import Facts
from protocol import codec, codes, events, ids, messages
from protocol.events import Audience, Privacy, Profile
from storage import records
from tests.actors.world import ASHA, BEN, CARA, Phone, World, direct, text
from tests.storage import make

S = direct(ASHA, BEN)


@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_meet_and_show_every_item_once(world: World, newest_first: bool) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    for number in range(25):
        await asha.done(messages.Send, S, text(str(number)))
        await asha.done(messages.React, S, 1, f"{number}")
    start, pages = 0, 0
    while True:
        end = await ben.ask(messages.FetchHistory, S, start, newest_first, 7)
        pages += 1
        assert isinstance(end, messages.PageEnd)
        if not end.more:
            break
        assert isinstance(end.next, int)
        start = end.next
    seqs = [item.seq for item in ben.all(messages.HistoryItem)]
    assert len(seqs) == len(set(seqs)) == 25
    assert seqs == sorted(seqs, reverse=newest_first)
    assert pages == 4


async def test_hidden_cleared_and_expired_are_neither_shown_nor_forwarded(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    for number in range(3):
        await asha.done(messages.Send, S, text(str(number)))
    await ben.done(messages.Clear, S, 1)
    await ben.done(messages.Hide, S, (2,))
    await asha.done(messages.SetTimer, S, 10)
    expires = await asha.done(messages.Send, S, text("soon gone"))
    await world.advance(11)
    own = direct(BEN, BEN)
    for seq in (1, 2, expires.seq):
        assert await ben.refused(messages.Forward, own, S, seq) is codes.GONE
    await ben.done(messages.Forward, own, S, 3)
    await ben.ask(messages.FetchHistory, S)
    shown = [events.decode(item.event) for item in ben.all(messages.HistoryItem) if item.stream == S]
    assert [event.counter for event in shown if isinstance(event, events.Message)] == [3]


async def test_unread_and_mentions_are_counted_from_the_own_mark(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    for number in range(4):
        await asha.done(messages.Send, S, text(f"{number} ben", BEN))
    await ben.ask(messages.Read, S, 2)
    await world.quiet()

    async def row() -> messages.Conversation:
        ben.frames = [each for each in ben.frames if not isinstance(each, messages.Conversation)]
        await ben.ask(messages.FetchConversations)
        (found,) = ben.all(messages.Conversation)
        return found

    found = await row()
    assert (found.unread, found.mentions, found.read, found.n) == (2, 2, 2, 4)
    await ben.done(messages.Send, S, text("I have read it all"))
    await world.quiet()
    found = await row()
    assert (found.unread, found.mentions) == (0, 0)


async def test_profiles_are_shown_as_privacy_and_blocks_say(world: World) -> None:
    asha, ben, cara = [await world.known(user) for user in (ASHA, BEN, CARA)]
    await ben.done(messages.SetProfile, Profile("Benny"))
    await ben.done(messages.SetPrivacy, Privacy(profile=Audience.CONTACTS))
    await cara.done(messages.SetBlock, ASHA, True)
    await world.quiet()
    found = await asha.ask(messages.FetchProfiles, (BEN, CARA, 999, BEN))
    assert isinstance(found, messages.Profiles)
    assert [(each.user, each.profile) for each in found.profiles] == [(BEN, Profile())]
    await ben.done(messages.SetContact, ASHA, True)
    await world.quiet()
    found = await asha.ask(messages.FindUsers, "b")
    assert isinstance(found, messages.Profiles)
    assert [(each.name, each.profile.display) for each in found.profiles] == [("ben", "Benny")]


async def test_an_export_has_all_of_ones_own_and_nothing_of_others(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("mine"))
    await ben.done(messages.Send, S, text("not mine"))
    await asha.done(messages.CreateGroup, "g", (BEN,))
    group = ids.group_stream(asha.device, asha.counter)
    await asha.done(messages.Send, group, text("also mine"))
    cursor = b""
    while True:
        end = await asha.ask(messages.Export, cursor)
        assert isinstance(end, messages.PageEnd)
        if not end.more:
            break
        assert isinstance(end.next, bytes)
        cursor = end.next
    parts = asha.all(messages.ExportPart)
    items = [msgspec.msgpack.decode(part.data, type=messages.HistoryItem) for part in parts if part.name == "message"]
    decoded = [events.decode(item.event) for item in items]
    assert {event.sender for event in decoded} == {ASHA}
    assert len([event for event in decoded if isinstance(event, events.Message)]) == 2
    assert [part.name for part in parts].count("account") >= 1


async def test_who_was_removed_sees_nothing_of_what_was_done_later(world: World) -> None:
    asha, ben, cara = [await world.known(user) for user in (ASHA, BEN, CARA)]
    await asha.done(messages.CreateGroup, "g", (BEN, CARA))
    group = ids.group_stream(asha.device, asha.counter)
    own = direct(BEN, BEN)
    first = (await asha.done(messages.Send, group, text("one"))).seq
    other = (await asha.done(messages.Send, group, text("other"))).seq
    await asha.done(messages.Edit, group, first, text("two"))
    await cara.done(messages.React, group, other, "!")
    await asha.done(messages.RemoveMember, group, BEN)
    await asha.done(messages.Edit, group, first, text("secret"))
    await cara.done(messages.React, group, first, "?")
    await ben.ask(messages.FetchHistory, group)
    folds = {item.seq: events.decode_fold(item.fold) for item in ben.all(messages.HistoryItem) if item.fold != events.NIL}
    assert events.decode_body(folds[first].body) == events.Text("two")
    assert not folds[first].reactions
    assert folds[other].reactions == {CARA: "!"}
    await ben.done(messages.Forward, own, group, first)
    await ben.ask(messages.FetchHistory, own)
    (copied,) = [events.decode(item.event) for item in ben.all(messages.HistoryItem) if item.stream == own]
    assert isinstance(copied, events.Message)
    assert events.decode_body(copied.body) == events.Text("two")


async def _head(phone: Phone, kind: type[messages.ClientFrame], *fields: object) -> int:
    """Up to where the answer to a question contains everything."""
    end = await phone.ask(kind, *fields)
    assert isinstance(end, messages.PageEnd | messages.MembersPage | messages.GroupAdmin)
    return end.head


async def test_an_answer_says_up_to_where_it_contains_everything(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    for number in range(3):
        await asha.done(messages.Send, S, text(str(number)))
    assert await _head(ben, messages.FetchHistory, S) == 3
    draft = await asha.done(messages.SetDraft, S, "half a thought")
    assert await _head(asha, messages.FetchConversations) == draft.seq

    await asha.done(messages.CreateGroup, "Verona", (BEN,))
    group = ids.group_stream(asha.device, asha.counter)
    added = await asha.done(messages.AddMembers, group, (CARA,))
    assert await _head(asha, messages.FetchMembers, group) == added.seq
    assert await _head(asha, messages.FetchGroupAdmin, group) == added.seq
    removed = await asha.done(messages.RemoveMember, group, BEN)
    await asha.done(messages.Send, group, text("he is gone"))
    assert await _head(ben, messages.FetchHistory, group) == removed.seq, "of what came after, not even the number is told"


async def test_what_is_committed_while_an_answer_is_read_may_be_in_it_and_is_beyond_its_head(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asha = await world.known(ASHA)
    await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    first = await asha.done(messages.SetDraft, S, "half")
    read = world.services.store.head

    async def slow(stream: bytes) -> int:
        head = await read(stream)
        monkeypatch.undo()
        await asha.done(messages.SetDraft, S, "half a thought")
        return head

    monkeypatch.setattr(world.services.store, "head", slow)
    head = await _head(asha, messages.FetchConversations)
    row = asha.all(messages.Conversation)[-1]
    assert (row.settings.draft, head) == ("half a thought", first.seq)


async def test_answers_that_are_looked_up_at_once_fit_into_what_the_outlet_takes_and_pages_still_meet(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    for _ in range(40):
        await asha.done(messages.Send, S, text("x" * 4000))
    await world.quiet()
    ben.spare = 100_000
    asked = [ben.say(messages.FetchHistory, S) for _ in range(8)]
    ends = [await ben.answer(rid) for rid in asked]
    assert all(isinstance(end, messages.PageEnd) and end.more for end in ends)
    sizes = [sum(len(item.event) for item in ben.all(messages.HistoryItem) if item.rid == rid) for rid in asked]
    one = len(ben.all(messages.HistoryItem)[0].event)
    assert sizes[0] <= ben.spare // 2 + one
    assert sum(sizes) <= ben.spare + 8 * one
    ben.spare = 0
    end = await ben.ask(messages.FetchHistory, S)
    assert isinstance(end, messages.PageEnd)
    assert end.more
    assert isinstance(end.next, int)
    (item,) = [item for item in ben.all(messages.HistoryItem) if item.rid == end.rid]
    assert end.next == item.seq - 1


async def test_a_list_of_conversations_is_cut_by_bytes_too_and_its_parts_meet(world: World) -> None:
    asha, _ = await world.known(ASHA), await world.known(BEN)
    streams = {direct(ASHA, user) for user in (ASHA, BEN, CARA)}
    for stream in streams:
        await asha.done(messages.Send, stream, text("x" * 4000))
    asha.spare = 2 * 5000
    after, pages = b"", 0
    while True:
        end = await asha.ask(messages.FetchConversations, after, 100)
        pages += 1
        assert isinstance(end, messages.PageEnd)
        if not end.more:
            break
        assert isinstance(end.next, bytes)
        after = end.next
    assert [row.stream for row in asha.all(messages.Conversation)] == sorted(streams)
    assert pages == 2


async def test_a_list_reads_the_settings_of_the_conversations_that_it_shows_and_no_others(world: World) -> None:
    asha = await world.known(ASHA)
    for _ in range(3):
        await asha.done(messages.CreateGroup, "g", ())
        await asha.done(messages.SetDraft, ids.group_stream(asha.device, asha.counter), "x" * 4096)
    read = world.services.store.parts
    got: list[bytes] = []

    async def counted(stream: bytes, prefix: bytes) -> dict[bytes, bytes]:
        found = await read(stream, prefix)
        got.extend(found)
        return found

    world.store.parts = counted  # type: ignore[attr-defined]
    await asha.ask(messages.FetchConversations, b"", 1)
    assert len(got) == 1


async def test_a_conversation_that_was_deleted_stays_away_whatever_is_done_to_its_last_message(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await asha.done(messages.Send, S, text("one"))
    await ben.done(messages.React, S, 1, "!")
    await ben.done(messages.Clear, S, 2**53 - 1, True)
    await asha.done(messages.Edit, S, 1, text("two"))
    await ben.ask(messages.FetchConversations)
    assert ben.all(messages.Conversation) == []
    await asha.done(messages.Send, S, text("three"))
    await ben.ask(messages.FetchConversations)
    (row,) = ben.all(messages.Conversation)
    assert row.last_seq == 4


async def test_what_was_cleared_is_not_unread(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    for number in range(4):
        await asha.done(messages.Send, S, text(f"{number} ben", BEN))
    await ben.done(messages.Clear, S, 3)
    await ben.ask(messages.FetchConversations)
    (row,) = ben.all(messages.Conversation)
    assert (row.unread, row.mentions, row.read) == (1, 1, 0)


async def test_no_frame_of_contacts_or_found_users_exceeds_the_limit(world: World) -> None:
    asha = await world.known(ASHA)
    long = Profile("名" * 64, "名" * 256, "名" * 128)
    users = tuple(range(1000, 1050))
    for user in users:
        await world.disk.create_user(records.User(user, f"u{user}", f"u{user}", "x", None, None, 1))
        world.services.people.put(user, Facts(f"u{user}", long))
    contacts = range(1000, 1400)
    label = ("名" * 64).encode()
    parts = [(account.LABEL_PREFIX + contact.to_bytes(7, "big"), label) for contact in contacts]
    parts.append((account.FACTS, msgspec.msgpack.encode(Facts("asha", contacts=frozenset(contacts)))))
    await make.stored(world.disk, records.Append(ids.account_stream(ASHA), 1, 1, 0, 1, parts=parts))
    rid = asha.say(messages.FetchAccount)
    await asha.answer(rid)
    frames = [each for each in asha.all(messages.Contacts) if each.rid == rid]
    assert [(row.user, row.label) for frame in frames for row in frame.contacts] == [
        (each, label.decode()) for each in contacts
    ]
    found = await asha.ask(messages.FindUsers, "u", 50)
    assert isinstance(found, messages.Profiles)
    assert 30 <= len(found.profiles) < 50
    assert all(len(codec.encode(frame)) <= codec.MAX_MESSAGE for frame in [*frames, found])
    assert await asha.refused(messages.FetchProfiles, users) is codes.TOO_MANY
    assert isinstance(await asha.ask(messages.FetchProfiles, users[:20]), messages.Profiles)


async def test_a_row_of_the_list_fits_into_a_frame_with_the_longest_of_everything(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    long = msgspec.Raw(msgspec.msgpack.encode(events.Text("x" * 16_000)))
    await asha.done(messages.Send, S, long)
    await asha.done(messages.Edit, S, 1, long)
    await world.quiet()
    item = await world.disk.item(S, 1)
    assert item is not None
    assert item.fold is not None
    given = {2**53 - number: "👩‍👩‍👧‍👦" for number in range(1, 800)}
    fold = msgspec.structs.replace(events.decode_fold(item.fold), reactions=given)
    seqs = range(2**50, 2**50 + 1000)
    view = messages.Settings(draft="名" * 4096, kept=dict.fromkeys(seqs, 3), hidden=tuple(seqs))
    mine = ids.account_stream(BEN)
    at = await world.disk.load(S), await world.disk.load(mine)
    parts = (records.fold_key(1), events.encode_fold(fold)), (account.SETTINGS_PREFIX + S, msgspec.msgpack.encode(view))
    for loaded, part in zip(at, parts, strict=True):
        await make.stored(world.disk, records.Append(loaded.stream, 1, loaded.head + 1, loaded.n, loaded.time, parts=[part]))
    await ben.ask(messages.FetchConversations)
    (row,) = ben.all(messages.Conversation)
    assert len(codec.encode(row)) <= codec.MAX_MESSAGE
    assert events.decode_fold(row.last_fold).body == long
