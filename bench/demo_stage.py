"""Plays a scene: each step of the text is what a person does with a client, and is waited for where it must have arrived.

What was said is written down here from the node's confirmations (`Sent`), and nowhere else: the truth that all readings are
held against.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import demo_record, demo_script
from bench.demo_cast import Device, Person
from bench.demo_record import Line
from protocol import events, ids, messages

#: Verses of a speech that take so long to write that others see somebody typing.
LONG = 3


@dataclass(slots=True)
class Conversation:
    """`said`: every line in its final state, in order of seq. `head`: the highest seq confirmed."""

    stream: bytes
    title: str
    members: tuple[str, ...]
    said: list[Line] = field(default_factory=list)
    head: int = 0

    def last(self, who: str, words: str = "") -> int:
        """The seq of the last line of `who` with `words` in it."""
        return max(line.seq for line in self.said if line.who == who and words in line.text and not line.deleted)

    def line(self, seq: int) -> Line:
        return next(line for line in self.said if line.seq == seq)

    def replace(self, line: Line) -> None:
        self.said = [line if each.seq == line.seq else each for each in self.said]


class Stage:
    """`target`: the node. `pace_s`: seconds between two steps, for who watches. `show` is told each step when it is played."""

    def __init__(self, play: demo_script.Play, target: str, pace_s: float, show: Callable[[demo_script.Step], None]) -> None:
        self.play = play
        self.names: dict[int, str] = {}
        self.people = {name: Person(name, target, self.names, reads=name not in play.silent) for name in play.cast}
        self.conversations: dict[bytes, Conversation] = {}
        self.lost_answers = 0
        self._pace_s = pace_s
        self._show = show
        self._here: set[str] = set()
        self._cut: set[str] = set()
        self._moving: set[str] = set()
        self._unanswered = ""
        self._place: Conversation | None = None

    async def gather(self) -> None:
        """Everybody makes an account, and goes offline until the first entrance."""
        for person in self.people.values():
            await person.register()
            self.names[person.user] = person.name

    async def perform(self) -> None:
        """Play every step. SceneFailed, codes.Refused or a ClientError when it cannot go on."""
        for step in self.play.steps:
            await self._perform(step)
            self._show(step)
            await asyncio.sleep(self._pace_s)

    async def end(self) -> None:
        for person in self.people.values():
            await person.end()

    @property
    def place(self) -> Conversation:
        """The conversation in which things are said now."""
        assert self._place is not None
        return self._place

    async def _perform(self, step: demo_script.Step) -> None:
        match step:
            case demo_script.Direction(enter=enter, leave=leave):
                for name in enter:
                    await self._enter(name)
                for name in leave:
                    await self.people[name].device.leave()
                    self._here.discard(name)
            case demo_script.AnotherDevice(who=who):
                self._moving.add(who)
            case demo_script.Apart(people=people):
                self._move_to(self._direct(*people))
            case demo_script.Together(who=who, title=title):
                await self._together(who, title)
            case demo_script.LineBreaks(who=who):
                self.people[who].device.relay.cut(down=True)
                self._cut.add(who)
            case demo_script.LineMended(who=who):
                self.people[who].device.relay.mend()
                self._cut.discard(who)
                await self.people[who].device.has(self.place.stream, self.place.head)
            case demo_script.AnswerLost(who=who):
                self._unanswered = who
            case demo_script.Types(who=who):
                await self._type(who)
            case _:
                await self._say(step)

    async def _enter(self, name: str) -> None:
        person = self.people[name]
        if name in self._moving:
            self._moving.discard(name)
            await person.log_in()
        elif not person.device.online:
            await person.device.enter()
        self._here.add(name)
        if self._place is not None and name in self._place.members:
            person.device.client.look(self._place.stream)

    def _direct(self, one: str, other: str) -> Conversation:
        stream = ids.direct_stream(self.people[one].user, self.people[other].user)
        members = tuple(name for name in self.people if name in (one, other))
        return self.conversations.setdefault(stream, Conversation(stream, f"{one} and {other}", members))

    async def _together(self, who: str, title: str) -> None:
        client = self.people[who].device.client
        others = [person.user for name, person in self.people.items() if name != who]
        made = await client.create_group(title, others)
        group = Conversation(made.stream, title, tuple(self.people))
        self.conversations[made.stream] = group
        group.said.append(Line(made.sent.seq, who, demo_record.created(title), notice=True))
        group.head = made.sent.seq
        self._move_to(group)
        await self._arrived()

    def _move_to(self, place: Conversation) -> None:
        self._place = place
        for name in self._here & set(place.members):
            self.people[name].device.client.look(place.stream)

    def _listening(self) -> list[Device]:
        """The devices of those who are there and whose line is whole."""
        return [self.people[name].device for name in self._here - self._cut if name in self.place.members]

    async def _arrived(self) -> None:
        """Wait until everybody who is there has everything."""
        for device in self._listening():
            await device.has(self.place.stream, self.place.head)

    async def _type(self, who: str) -> None:
        client = self.people[who].device.client
        client.typing(self.place.stream)
        await asyncio.sleep(self._pace_s)
        client.typing(self.place.stream, False)

    async def _say(self, step: demo_script.Step) -> None:
        """What becomes an event of the conversation."""
        place = self.place
        match step:
            case demo_script.Speech():
                sent, line = await self._speak(step)
                place.said.append(line)
            case demo_script.Reaction(who=who, emoji=emoji, to=to):
                target = place.last(to)
                sent = await self.people[who].device.client.react(place.stream, target, emoji)
                place.replace(place.line(target).reacted(who, emoji))
            case demo_script.Change(who=who, old=old, new=new):
                target = place.last(who, old)
                text = place.line(target).text.replace(old, new)
                mentions = self._mentions(who, text)
                sent = await self.people[who].device.client.edit(place.stream, target, text, mentions=mentions)
                place.replace(place.line(target).changed(text, self._named(mentions)))
            case demo_script.TakeBack(who=who, text=text):
                target = place.last(who, text)
                sent = await self.people[who].device.client.delete(place.stream, target)
                place.replace(place.line(target).erased())
            case _:
                raise AssertionError(step)
        place.head = max(place.head, sent.seq)
        await self._arrived()

    async def _speak(self, speech: demo_script.Speech) -> tuple[messages.Sent, Line]:
        place, device = self.place, self.people[speech.who].device
        if speech.text.count("\n") + 1 >= LONG:
            await self._type(speech.who)
        mentions = self._mentions(speech.who, speech.text)
        reply_to = place.last(speech.answers) if speech.answers else 0
        if self._unanswered == speech.who:
            device.relay.hold_answers()
        sending = device.client.send_text(place.stream, speech.text, mentions=mentions, reply_to=reply_to)
        if self._unanswered == speech.who:
            self._unanswered = ""
            sent = await self._without_answer(device, asyncio.create_task(sending))
        else:
            sent = await sending
        return sent, Line(sent.seq, speech.who, speech.text, reply_to, self._named(mentions))

    async def _without_answer(self, device: Device, sending: asyncio.Task[messages.Sent]) -> messages.Sent:
        """Cut the line when the message is stored, which the others show, and before its sender can know: the client has to
        send it again, and the node has to recognise it."""
        try:
            for other in self._listening():
                if other is not device:
                    await other.has(self.place.stream, self.place.head + 1)
            assert not sending.done()
            device.relay.cut(down=False)
            self.lost_answers += 1
            return await sending
        finally:
            sending.cancel()

    def _mentions(self, who: str, text: str) -> list[events.Mention]:
        """Everybody else of the conversation whose name stands in the text, wherever it does."""
        found = []
        for name in self.place.members:
            for match in re.finditer(rf"\b{name.title()}\b", text) if name != who else ():
                offset = len(text[: match.start()].encode())
                found.append(events.Mention(self.people[name].user, offset, len(name.encode())))
        return found

    def _named(self, mentions: list[events.Mention]) -> tuple[str, ...]:
        return tuple(self.names[mention.user] for mention in mentions)
