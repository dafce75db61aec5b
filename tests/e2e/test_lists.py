"""History page by page, the conversation list, and one's own view of a conversation."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.tables import MAX_INT, Record, row
from tests.e2e.world import World


async def conversation(client: Client, stream: bytes) -> Record:
    """One row of the list, which is fetched in small pages."""
    after = b""
    while True:
        *rows, end = await client.pages("FetchConversations", after=after, limit=2)
        for each in rows:
            if each.stream == stream:
                return each
        assert end.more, "the row is not in the list"
        after = end.next


def _is_off(found: Record) -> bool:
    settings = row("Settings", found.settings)
    return bool(settings.deleted and found.head <= settings.cleared)


async def walk(client: Client, stream: bytes, *, newest_first: bool, limit: int) -> list[Record]:
    """The whole history, page by page."""
    frames: list[Record] = []
    start = 0
    while True:
        *page, end = await client.pages("FetchHistory", stream=stream, start=start, newest_first=newest_first, limit=limit)
        assert len(page) <= limit
        frames += page
        if not end.more:
            return frames
        start = end.next


async def test_history_both_ways_is_the_same_history(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for number in range(1, 21):
        await asha.send(stream, f"{number}")
    for target in (3, 7):
        await asha.change("Edit", stream=stream, target=target, body=wire.text("edited"))
    await asha.change("Delete", stream=stream, target=10)
    await ben.event(stream, 23)
    await ben.change("React", stream=stream, target=12, emoji="👍")
    back = await walk(ben, stream, newest_first=True, limit=4)
    forth = await walk(ben, stream, newest_first=False, limit=3)
    items = [(each.seq, str(each.fold)) for each in back if each.kind == "HistoryItem"]
    assert items == [(each.seq, str(each.fold)) for each in reversed(forth) if each.kind == "HistoryItem"]
    assert [seq for seq, _ in items] == list(range(20, 0, -1))
    assert [each.seq for each in back if each.kind == "HistoryItem" and each.fold and each.fold.deleted] == [10]
    from_7 = (await ben.pages("FetchHistory", stream=stream, start=7, limit=3))[:-1]
    assert [each.seq for each in from_7] == [7, 6, 5]
    from_7 = (await ben.pages("FetchHistory", stream=stream, start=7, newest_first=False, limit=3))[:-1]
    assert [each.seq for each in from_7] == [7, 8, 9]


async def test_a_page_is_bounded_in_bytes(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for number in range(30):
        await asha.change("Send", stream=stream, body=wire.text(f"{number:05}" * 3200))
    frames = await asha.pages("FetchHistory", stream=stream, limit=256)
    assert frames[-1].more
    assert len(await walk(asha, stream, newest_first=True, limit=256)) == 30


async def test_counts_of_unread_messages_and_mentions(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await asha.send(stream, "one")
    await asha.change("Send", stream=stream, body=wire.text("@ben!", (ben.user, "@ben")))
    await asha.change("React", stream=stream, target=1, emoji="👍")
    await asha.send(stream, "three")
    await ben.event(stream, 4)
    mine = await conversation(ben, stream)
    assert (mine.head, mine.n, mine.unread, mine.mentions, mine.read, mine.member) == (4, 3, 3, 1, 0, True)
    assert (mine.last_seq, mine.last.body[1], mine.last_fold) == (4, "three", None)
    assert (await conversation(asha, stream)).unread == 0
    await ben.send(stream, "four")
    assert (await conversation(ben, stream)).unread == 0
    await asha.event(stream, 5)
    assert (await conversation(asha, stream)).unread == 1


async def test_what_was_read_is_read_in_the_list(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for number in range(20):
        body = wire.text("@ben!", (ben.user, "@ben"))
        last = await asha.change("Send", stream=stream, body=body)
        await asha.change("Send", stream=stream, body=body)
        await ben.event(stream, last.seq + 1)
        await ben.ask("Read", stream=stream, seq=last.seq)
        found = await conversation(ben, stream)
        assert (found.unread, found.mentions, found.read) == (1, 1, last.seq), f"after Done number {number + 1}"


async def test_the_list_names_every_conversation_once_in_order(world: World) -> None:
    asha, *others = await world.people("asha", *(f"user{number}" for number in range(7)))
    for other in others:
        await other.send(asha.with_(other), "hello")
    await asha.change("CreateGroup", title="all", members=[])
    group = wire.group(asha.device, asha.memory.counter)
    rows: list[Record] = []
    after, more = b"", True
    while more:
        *page, end = await asha.pages("FetchConversations", after=after, limit=3)
        rows += page
        after, more = end.next, end.more
    streams = [each.stream for each in rows]
    assert streams == sorted(streams)
    assert set(streams) == {group, *(asha.with_(other) for other in others)}


async def test_ones_own_settings_reach_ones_other_devices(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("asha")
    stream = asha.with_(ben)
    for words in ("one", "two", "three"):
        await ben.send(stream, words)
    await asha.event(stream, 3)
    steps: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
        ("SetConversation", {"pinned": True, "muted_until": MAX_INT}, "ConversationSet", {"pinned": True, "archived": False}),
        ("SetConversation", {"archived": True}, "ConversationSet", {"pinned": False, "muted_until": 0, "archived": True}),
        ("SetDraft", {"text": "dear ben", "reply_to": 2}, "DraftSet", {"text": "dear ben", "reply_to": 2}),
        ("Keep", {"seq": 2, "starred": True, "pinned": True}, "Kept", {"seq": 2, "starred": True, "pinned": True}),
        ("Keep", {"seq": 3, "starred": True}, "Kept", {"seq": 3, "starred": True, "pinned": False}),
        ("Hide", {"seqs": [1]}, "Hidden", {"seqs": [1]}),
    ]
    for kind, fields, event_kind, event_fields in steps:
        done = await asha.change(kind, stream=stream, **fields)
        event = await second.event(asha.account, done.seq)
        assert event.kind == event_kind
        assert event.fields.items() >= (event_fields | {"stream": stream}).items()
    settings = row("Settings", (await conversation(second, stream)).settings)
    assert (settings.pinned, settings.muted_until, settings.archived) == (False, 0, True)
    assert (settings.draft, settings.draft_reply_to, settings.kept, settings.hidden) == ("dear ben", 2, {2: 3, 3: 1}, [1])
    await asha.change("SetDraft", stream=stream, text="")
    await asha.change("Keep", stream=stream, seq=2)
    settings = row("Settings", (await conversation(second, stream)).settings)
    assert (settings.draft, settings.kept) == ("", {3: 1})
    theirs = row("Settings", (await conversation(ben, stream)).settings)
    assert theirs.fields == row("Settings", []).fields, "nobody else sees any of it"


async def test_clearing_hides_and_deleting_takes_off_the_list(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for words in ("one", "two", "three"):
        await ben.send(stream, words)
    await asha.event(stream, 3)
    await asha.change("Clear", stream=stream, upto=2)
    mine = await asha.pages("FetchHistory", stream=stream)
    assert [each.seq for each in mine if each.kind == "HistoryItem"] == [3]
    await asha.change("Clear", stream=stream, upto=3, delete=True)
    mine = await asha.pages("FetchHistory", stream=stream)
    assert not [each for each in mine if each.kind == "HistoryItem"]
    rows = [each for each in await asha.pages("FetchConversations") if each.kind == "Conversation"]
    shown = [each for each in rows if not _is_off(each)]
    assert shown == []
    assert len((await ben.pages("FetchHistory", stream=stream))[:-1]) == 3
    sent = await ben.send(stream, "four")
    await asha.event(stream, sent.seq)
    found = await conversation(asha, stream)
    assert not _is_off(found), "it is on the list again"
    assert found.last_seq == sent.seq


async def _stands(client: Client, stream: bytes, seq: int) -> bool:
    return any(each.kind == "HistoryItem" and each.seq == seq for each in await client.pages("FetchHistory", stream=stream))


async def gone_by(client: Client, stream: bytes, seq: int) -> None:
    """Return when the server's clock has passed the time of message `seq`."""
    while await _stands(client, stream, seq):  # noqa: ASYNC110  # no frame tells of it
        await asyncio.sleep(0.05)


async def test_messages_disappear(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await asha.send(stream, "stays")
    timer = await asha.change("SetTimer", stream=stream, seconds=1)
    assert (await ben.event(stream, timer.seq)).seconds == 1
    sent = await asha.send(stream, "goes")
    event = await ben.event(stream, sent.seq)
    assert event.expires_at == sent.time + 1000
    assert (await ben.ask("Open", user=asha.user)).timer == 1
    await gone_by(ben, stream, sent.seq)
    history = await ben.pages("FetchHistory", stream=stream)
    assert "goes" not in str(history)
    assert [(each.first, each.last) for each in history if each.kind == "Gone"] == [(sent.seq, sent.seq)]
    assert await ben.refusal("React", stream=stream, target=sent.seq, emoji="👍") == "gone"
    await asha.change("SetTimer", stream=stream, seconds=0)
    later = await asha.send(stream, "stays too")
    assert (await ben.event(stream, later.seq)).expires_at == 0
    late = await world.device("ben")
    assert "goes" not in str(await late.pages("FetchHistory", stream=stream))


async def test_what_disappeared_while_one_was_away_comes_as_gone(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await asha.change("SetTimer", stream=stream, seconds=1)
    await ben.event(stream, 1)
    await ben.close()
    for number in range(3):
        await asha.send(stream, f"{number}")
    await gone_by(asha, stream, 4)
    await asha.change("SetTimer", stream=stream, seconds=0)
    await ben.come_back()
    await ben.event(stream, 5)
    assert (stream, 2, 4) in ben.removed or [each.event.body for each in ben.events(stream, "Message")] == [None] * 3
    assert ben.inbox.jumps == []
