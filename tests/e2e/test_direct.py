"""Two people in one conversation: what both see, and what is fetched afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.e2e.independent import wire
from tests.e2e.independent.tables import Record
from tests.e2e.world import World


async def item(client: Any, stream: bytes, seq: int) -> Record:
    """One item of the history, as one device fetches it."""
    found: Record = (await client.pages("FetchHistory", stream=stream, start=seq, limit=1))[0]
    assert (found.kind, found.seq) == ("HistoryItem", seq)
    return found


async def test_a_text_arrives_and_stands_in_the_history_of_both(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    sent = await asha.send(stream, "Good morrow, cousin ☀")
    event = await ben.event(stream, sent.seq)
    assert (sent.seq, sent.n) == (1, 1)
    assert event.fields == {
        "n": 1,
        "time": sent.time,
        "sender": asha.user,
        "device": asha.device,
        "counter": event.counter,
        "body": wire.text("Good morrow, cousin ☀"),
        "reply_to": 0,
        "hops": 0,
        "expires_at": 0,
        "flags": 0,
    }
    for who in (asha, ben):
        found, end = await who.pages("FetchHistory", stream=stream)
        assert (found.seq, found.event.fields, found.fold) == (1, event.fields, None)
        assert not end.more


async def test_numbers_rise_by_one_whoever_writes(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    answers = [await who.send(stream, f"{turn}") for turn in range(5) for who in (asha, ben)]
    assert [(each.seq, each.n) for each in answers] == [(number, number) for number in range(1, 11)]
    for who in (asha, ben):
        await who.event(stream, 10)
        assert [each.seq for each in who.events(stream)] == list(range(1, 11))


async def test_the_note_to_self_reaches_ones_other_device(world: World) -> None:
    asha = await world.person("asha")
    other = await world.device("asha")
    stream = wire.direct(asha.user, asha.user)
    sent = await asha.send(stream, "milk")
    assert (await other.event(stream, sent.seq)).body == wire.text("milk")
    assert not asha.all("Event", stream=stream), "Sent stands for the event on the device that sent"


async def test_reply_flags_and_media_are_relayed(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    first = await asha.send(stream, "Is the day so young?")
    reply = await ben.send(stream, "But new struck nine.", reply_to=first.seq, flags=wire.URGENT | wire.SILENT)
    event = await asha.event(stream, reply.seq)
    assert (event.reply_to, event.flags) == (first.seq, wire.URGENT | wire.SILENT)
    for body in ([2, b"\x00\x01", "a picture"], [3, b"\xff" * 100]):
        sent = await ben.change("Send", stream=stream, body=body)
        assert (await asha.event(stream, sent.seq)).body == body


async def test_an_edit_replaces_the_body_for_everybody(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    first = await asha.send(stream, "Ay me! sad hours seem long.")
    edit = await asha.change("Edit", stream=stream, target=first.seq, body=wire.text("Ay me! sad hours seem short."))
    event = await ben.event(stream, edit.seq)
    assert (edit.seq, edit.n) == (2, 1), "an edit has a seq and is no message"
    assert (event.kind, event.target, event.body[1]) == ("Edited", first.seq, "Ay me! sad hours seem short.")
    again = await asha.change("Edit", stream=stream, target=first.seq, body=wire.text("Was that my father?"))
    found = await item(ben, stream, first.seq)
    assert found.event.body[1] == "Ay me! sad hours seem long." or found.event.body is None
    assert (found.fold.body[1], found.fold.edited_at, found.fold.edits) == ("Was that my father?", again.time, [2, 3])
    assert await ben.refusal("Edit", stream=stream, target=first.seq, body=wire.text("mine")) == "not_allowed"
    assert await asha.refusal("Edit", stream=stream, target=99, body=wire.text("nothing")) == "not_allowed"


async def test_an_edit_comes_too_late(start: Callable[[dict[str, str]], Awaitable[World]]) -> None:
    world = await start({"limits.edit_window_s": "0"})
    asha, ben = await world.people("asha", "ben")
    assert asha.limits().edit_window_s == 0
    first = await asha.send(asha.with_(ben), "for ever")
    refused = await asha.refusal("Edit", stream=asha.with_(ben), target=first.seq, body=wire.text("never"))
    assert refused == "too_late"


async def test_deleted_for_everyone_leaves_seq_sender_and_time(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    first = await asha.send(stream, "Tut, I have lost myself; I am not here.")
    await asha.change("Edit", stream=stream, target=first.seq, body=wire.text("This is not Romeo."))
    await ben.event(stream, 2)
    assert await ben.refusal("Delete", stream=stream, target=first.seq) == "not_allowed"
    deleted = await asha.change("Delete", stream=stream, target=first.seq)
    assert (await ben.event(stream, deleted.seq)).target == first.seq
    for who in (asha, ben):
        frames = await who.pages("FetchHistory", stream=stream)
        assert "Romeo" not in str(frames)
        assert "lost myself" not in str(frames)
        found = frames[0]
        assert (found.seq, found.event.sender, found.event.time) == (1, asha.user, first.time)
        assert (found.event.body, found.fold.deleted) == (None, True)
    assert await asha.refusal("Edit", stream=stream, target=first.seq, body=wire.text("again")) == "gone"
    assert await ben.refusal("React", stream=stream, target=first.seq, emoji="👍") == "gone"


async def test_deleted_for_me_hides_it_from_me_alone(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("ben")
    stream = asha.with_(ben)
    for words in ("one", "two", "three"):
        await asha.send(stream, words)
    await ben.event(stream, 3)
    hidden = await ben.change("Hide", stream=stream, seqs=[2])
    event = await second.event(ben.account, hidden.seq)
    assert (event.kind, event.stream, event.seqs) == ("Hidden", stream, [2])
    mine = await ben.pages("FetchHistory", stream=stream)
    assert [each.seq for each in mine if each.kind == "HistoryItem"] == [3, 1]
    assert [(each.first, each.last) for each in mine if each.kind == "Gone"] == [(2, 2)]
    assert [each.seq for each in (await asha.pages("FetchHistory", stream=stream))[:-1]] == [3, 2, 1]


async def test_a_person_has_one_reaction(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    first = await asha.send(stream, "O brawling love!")
    for who, emoji in ((ben, "👍"), (asha, "🎉"), (ben, "👩‍👩‍👧‍👦")):
        reacted = await who.change("React", stream=stream, target=first.seq, emoji=emoji)
        await (asha if who is ben else ben).event(stream, reacted.seq)
    found = await item(asha, stream, first.seq)
    assert list(found.fold.reactions.items()) == [(ben.user, "👩‍👩‍👧‍👦"), (asha.user, "🎉")]
    await asha.change("React", stream=stream, target=first.seq, emoji="")
    assert (await item(ben, stream, first.seq)).fold.reactions == {ben.user: "👩‍👩‍👧‍👦"}
    assert await ben.refusal("React", stream=stream, target=77, emoji="👍") == "not_allowed"


async def test_a_forward_copies_what_one_can_read(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    source, destination = asha.with_(ben), ben.with_(cleo)
    first = await asha.send(source, "draft")
    await asha.change("Edit", stream=source, target=first.seq, body=wire.text("final"))
    await ben.event(source, 2)
    hop = await ben.change("Forward", stream=destination, source=source, target=first.seq, flags=wire.SILENT)
    event = await cleo.event(destination, hop.seq)
    assert (event.body[1], event.hops, event.sender, event.flags) == ("final", 1, ben.user, wire.SILENT)
    on = await cleo.change("Forward", stream=asha.with_(cleo), source=destination, target=hop.seq)
    assert (await asha.event(asha.with_(cleo), on.seq)).hops == 2
    refused = await cleo.refusal("Forward", stream=destination, source=source, target=first.seq)
    assert refused == "not_allowed", "who cannot read the source cannot forward from it"


@pytest.mark.usefixtures("bystanders")
async def test_mentions_name_members_at_whole_characters(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    stream = asha.with_(ben)
    body = wire.text("☀ @ben, good morrow", (ben.user, "@ben"))
    assert body[2] == [[ben.user, 4, 4]]
    sent = await asha.change("Send", stream=stream, body=body)
    assert (await ben.event(stream, sent.seq)).body == body
    for mention in ([cleo.user, 4, 4], [ben.user, 1, 3], [ben.user, 4, 400], [ben.user, 400, 1]):
        assert await asha.refusal("Send", stream=stream, body=[1, body[1], [mention]]) == "bad_mention"


async def test_what_a_later_client_adds_survives(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    body = [1, "styled", [], {"bold": [[0, 3]]}, "later"]
    sent = await asha.change("Send", stream=stream, body=body)
    assert (await ben.event(stream, sent.seq)).body == body
    edited = await asha.change("Edit", stream=stream, target=sent.seq, body=[*body, 9])
    assert (await ben.event(stream, edited.seq)).body == [*body, 9]
    assert (await item(ben, stream, sent.seq)).fold.body == [*body, 9]
    command, data = asha.command("Send", stream=stream, body=wire.text("later frame"))
    longer = wire.pack([*wire.unpack(data), {"later": True}])
    assert (await asha.answer_to("Send", command.rid, longer))[0].seq == 3


async def test_an_ephemeral_message_is_offered_and_not_kept(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("ben")
    stream = asha.with_(ben)
    await asha.send(stream, "kept")
    done = await asha.change("Send", stream=stream, body=wire.text("a whisper"), flags=wire.EPHEMERAL)
    assert done.kind == "Done"
    for device in (ben, second):
        heard = await device.frame("Ephemeral", stream=stream)
        assert (heard.sender, heard.device, heard.body[1]) == (asha.user, asha.device, "a whisper")
    after = await asha.send(stream, "kept too")
    assert (after.seq, after.n) == (2, 2), "it took no number"
    assert "a whisper" not in str(await ben.pages("FetchHistory", stream=stream))


@pytest.mark.parametrize(
    ("body", "symbol"),
    [
        ([1, ""], "empty"),
        ([1, "a" * 16385], "too_long"),
        ([3, b"a" * 16385], "too_long"),
        ([1], "malformed"),
        ([1, 5], "malformed"),
        ([1, "a", [[1, 0, 1]] * 65], "too_many"),
        ([9, "from a later protocol"], "unsupported_body"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
@pytest.mark.usefixtures("bystanders")
async def test_a_body_that_is_not_accepted(world: World, body: list[Any], symbol: str) -> None:
    asha, ben = await world.people("asha", "ben")
    assert await asha.refusal("Send", stream=asha.with_(ben), body=body) == symbol
    sent = await asha.send(asha.with_(ben), "and on it goes")
    assert sent.seq == 1, "a refused command takes no number"


@pytest.mark.usefixtures("bystanders")
async def test_a_stream_of_no_kind_is_not_allowed(world: World) -> None:
    asha = await world.person("asha")
    for stream in (b"x" * 15, b"d" * 8, b"g" + bytes(14), wire.account(asha.user), wire.direct(4711, 4712)):
        assert await asha.refusal("Send", stream=stream, body=wire.text("hello?")) == "not_allowed"
        assert await asha.refusal("FetchHistory", stream=stream) == "not_allowed"
    assert await asha.refusal("Send", stream=b"d" * 16, body=wire.text("hello?")) == "too_long"
    assert asha.all("Error")[-1].text == "stream: at most 15 bytes"
