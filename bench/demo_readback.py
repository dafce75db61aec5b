"""The morning after: every device comes back, and everybody is asked what was said, who had it and who read it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench import demo_compare, demo_record
from bench.demo_cast import PATIENCE_S, Device, Person
from bench.demo_compare import Difference, Marks, Reading
from bench.demo_record import Came
from bench.demo_stage import Conversation, Stage

#: Seconds between two looks at receipts that are still on their way.
LOOK_S = 0.05


@dataclass(slots=True, frozen=True)
class Version:
    """`who` tells `conversation`: the lines as history has them, as the records of the devices have them, how each came to the
    device in use, the receipts of the others as fetched, and how many messages are unread."""

    who: str
    conversation: Conversation
    history: Reading
    records: tuple[Reading, ...]
    came: Mapping[int, Came]
    marks: Mapping[str, Marks]
    unread: int


@dataclass(slots=True, frozen=True)
class Finding:
    """`receipts`: pairs of a message and another member that were looked at."""

    versions: list[Version]
    receipts: int
    differences: list[Difference]


async def read_back(stage: Stage) -> Finding:
    """Bring everybody back, read everything, compare everything."""
    for device in _devices(stage):
        device.shows_only()
        await device.enter()
    conversations = [each for each in stage.conversations.values() if each.said]
    for conversation in conversations:
        for name in conversation.members:
            for device in stage.people[name].devices:
                await device.has(conversation.stream, conversation.head)
    differences = await _settled(stage, conversations)
    versions = [await _version(stage.people[name], each) for each in conversations for name in each.members]
    for version in versions:
        for reading in (version.history, *version.records):
            differences += demo_compare.transcripts(version.conversation.said, reading)
        differences += _unread(version, _expected(stage, version.conversation)[version.who])
    receipts = 0
    for conversation in conversations:
        looked, wrong = await _infos(stage, conversation)
        receipts += looked
        differences += wrong
    for device in _devices(stage):
        await device.leave()
    return Finding(versions, receipts, differences + _faults(stage))


def _devices(stage: Stage) -> Iterable[Device]:
    return (device for person in stage.people.values() for device in person.devices)


def _expected(stage: Stage, conversation: Conversation) -> dict[str, Marks]:
    """What each member has and has read, as their devices did it: all of them have been back by now, so all is delivered. One's
    own messages count as read, and so does the event that made one a member."""
    found = {}
    for name in conversation.members:
        read = [device.read.get(conversation.stream, 0) for device in stage.people[name].devices]
        own = [line.seq for line in conversation.said if line.who == name or line.notice]
        found[name] = Marks(conversation.head, max(read + own))
    return found


async def _settled(stage: Stage, conversations: list[Conversation]) -> list[Difference]:
    """Receipts travel after the messages: wait until they are right, and tell what is still wrong when patience ends."""
    end = time.monotonic() + PATIENCE_S
    while True:
        differences = []
        for conversation in conversations:
            expected = _expected(stage, conversation)
            for name in conversation.members:
                others = {other: marks for other, marks in expected.items() if other != name}
                newest = max((line.seq for line in conversation.said if line.who == name and not line.notice), default=0)
                for device in stage.people[name].devices:
                    where = (device.label, conversation.title)
                    fetched = await device.fetch_marks(conversation.stream)
                    differences += demo_compare.receipts(*where, "receipts, fetched", others, fetched)
                    # What comes by itself is what one's own messages need to know.
                    live = demo_compare.upto(newest, device.marks[conversation.stream])
                    differences += demo_compare.receipts(*where, "receipts, live", demo_compare.upto(newest, others), live)
        if not differences or time.monotonic() > end:
            return differences
        await asyncio.sleep(LOOK_S)


async def _version(person: Person, conversation: Conversation) -> Version:
    stream, title = conversation.stream, conversation.title
    device = person.device
    record = device.record(stream)
    items, gone = await device.history(stream)
    lines = tuple(record.of_history(item) for item in items)
    records = [(each.label, each.record(stream)) for each in person.devices]
    rows = {row.stream: row for row in await device.client.all_conversations()}
    return Version(
        person.name,
        conversation,
        Reading(person.name, "history", title, lines, demo_record.runs(gone)),
        tuple(Reading(label, "record", title, tuple(each.lines), each.gone) for label, each in records),
        record.came,
        await device.fetch_marks(stream),
        rows[stream].unread if stream in rows else -1,
    )


def _unread(version: Version, own: Marks) -> list[Difference]:
    """Messages behind one's own read mark. The making of a group is none."""
    said = [line for line in version.conversation.said if line.seq > own.read and not line.notice]
    if version.unread == len(said):
        return []
    title = version.conversation.title
    return [Difference(version.who, "list", title, "unread", own.read, str(len(said)), str(version.unread))]


async def _infos(stage: Stage, conversation: Conversation) -> tuple[int, list[Difference]]:
    """Each message's own account of who has it and who read it."""
    looked, differences = 0, []
    marks = _expected(stage, conversation)
    for line in conversation.said:
        if line.deleted or line.notice:
            continue
        info = await stage.people[line.who].device.client.info(conversation.stream, line.seq)
        for name in conversation.members:
            if name == line.who:
                continue
            looked += 1
            user = stage.people[name].user
            right = "read" if marks[name].read >= line.seq else "delivered"
            found = "read" if user in info.read else "delivered" if user in info.delivered else "not delivered"
            if right != found:
                who, title = line.who, conversation.title
                differences.append(Difference(who, "info", title, "receipt", line.seq, f"{name}: {right}", f"{name}: {found}"))
    return looked, differences


def _faults(stage: Stage) -> list[Difference]:
    """What the devices met that the protocol excludes."""
    found = []
    for device in _devices(stage):
        found += [Difference(device.label, "client", "", "fault", 0, "nothing", text) for text in device.faults]
        for stream, record in device.records.items():
            title = stage.conversations[stream].title if stream in stage.conversations else stream.hex()
            found += [Difference(device.label, "record", title, "fault", 0, "nothing", text) for text in record.faults]
    return found
