"""People who use a node in every way at once, random by seed, and the history of what they saw.

async with Traffic(url, seed) as traffic:
    await traffic.gather()          # everybody registers; groups are made
    traffic.begin(commands=200)
    await traffic.answered(300)     # ... faults ...
    await traffic.converge()
...                                 # the node stops
await stored(folder, traffic.seen)
traffic.check()
"""

from __future__ import annotations

import asyncio
import itertools
import pathlib
import random
from collections import deque
from types import TracebackType
from typing import Any

from client.api import text_body
from client.client import Client
from client.updates import StreamEvent
from protocol import codes, events, ids, messages
from storage.sqlite import doctor
from storage.sqlite import store as sqlite
from tests.checker import checks, history
from tests.faults import tape
from tests.faults.waiting import until, until_true

PASSWORD = "a good password"
#: Commands of one device that wait for their answers at once.
IN_FLIGHT = 8
#: Part of the client's back-off that is waited here: clients of a test come back sooner than a crowd would.
HURRY = 0.05
EMOJI = ("", "👍", "🎉", "❤️")


class Person:
    """One device and what its user knows: messages (own and others') per stream, and where the user is a member."""

    def __init__(self, name: str, url: str, credential: messages.Credential, chance: random.Random, traffic: Traffic) -> None:
        self.name = name
        self.chance = chance
        self.client = Client(
            url,
            credential,
            strict=True,
            random_float=lambda: chance.random() * HURRY,
            clock_us=lambda: chance.randrange(1, 1000),
        )
        self.tape = tape.Tape(self.client, traffic.seen)
        self.messages: dict[bytes, deque[tuple[int, int]]] = {}
        self.groups: set[bytes] = set()
        self.failure: BaseException | None = None
        self._taken: set[tuple[bytes, int]] = set()
        self._traffic = traffic

    @property
    def user(self) -> int:
        return self.client.identity.user

    async def listen(self) -> None:
        """Take every update, as an application would."""
        try:
            async for update in self.client.updates():
                if isinstance(update, StreamEvent):
                    place = (update.stream, update.seq)
                    assert place not in self._taken, f"{self.name} was given {update} again"
                    self._taken.add(place)
                    self._learn(update)
        except BaseException as error:
            self.failure = error
            raise

    def _learn(self, update: StreamEvent) -> None:
        event = update.event
        if isinstance(event, events.Message):
            self.messages.setdefault(update.stream, deque(maxlen=20)).append((update.seq, event.sender))
        elif isinstance(event, events.Joined):
            self.groups.add(event.stream)
        elif isinstance(event, events.Parted):
            self.groups.discard(event.stream)

    async def act(self, count: int) -> None:
        """Give `count` commands, IN_FLIGHT at a time, and wait for all answers."""
        waiting: set[asyncio.Future[Any]] = set()
        for number in range(count):
            waiting.add(self.client.submit(self._next(number)))
            if len(waiting) >= IN_FLIGHT:
                _, waiting = await self._some(waiting)
            await asyncio.sleep(0)
        while waiting:
            _, waiting = await self._some(waiting)

    async def _some(self, waiting: set[asyncio.Future[Any]]) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            error = each.exception()
            if error is not None and not (isinstance(error, codes.Refused) and 300 <= error.error.number < 400):
                raise error
        return done, left

    def _next(self, number: int) -> messages.Frame:
        traffic, chance = self._traffic, self.chance
        peer = chance.choice(traffic.users)
        stream = chance.choice([ids.direct_stream(self.user, peer), *sorted(self.groups)])
        known = self.messages.get(stream)
        target, sender = chance.choice(known) if known else (0, 0)
        body = text_body(f"{self.name} {number} " + "x" * chance.choice([0, 10, 100, 1000]))
        group = chance.choice(sorted(self.groups)) if self.groups else b""
        match chance.randrange(24):
            case 0 | 1 if target:
                return messages.React(0, 0, stream, target, chance.choice(EMOJI))
            case 2 | 3 if sender == self.user:
                return messages.Edit(0, 0, stream, target, body)
            case 4 if sender == self.user:
                return messages.Delete(0, 0, stream, target)
            case 5 if target:
                return messages.Read(0, stream, target)
            case 6 if group:
                return messages.AddMembers(0, 0, group, (peer,))
            case 7 if group:
                return messages.RemoveMember(0, 0, group, peer)
            case 8 if group and chance.randrange(3) == 0:
                return messages.SetGroupProfile(0, 0, group, f"Group {chance.randrange(100)}")
            case 9 if traffic.invites and (outside := sorted(set(traffic.invites) - self.groups)):
                joined = chance.choice(outside)
                return messages.Join(0, 0, joined, traffic.invites[joined])
            case 10 if group and chance.randrange(4) == 0 and len(self.groups) > 1:
                return messages.Leave(0, 0, group)
            case 11:
                return messages.SetDraft(0, 0, stream, f"draft {number}")
            case 12 if target:
                return messages.Send(0, 0, stream, body, target)
            case _:
                return messages.Send(0, 0, stream, body)


class Traffic:
    """`seen`: the history so far. `people`: one for each device; the first of the users has two."""

    def __init__(self, url: str, seed: int = 0, users: int = 4) -> None:
        self.seen = history.History()
        self.people: list[Person] = []
        self.users: list[int] = []
        self.invites: dict[bytes, bytes] = {}
        self._url = url
        self._chance = random.Random(seed)
        self._count = users
        self._listening: list[asyncio.Task[None]] = []
        self._acting: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Traffic:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for task in self._acting:
            task.cancel()
        await asyncio.gather(*self._acting, return_exceptions=True)
        await asyncio.gather(*(person.client.close() for person in self.people))
        await asyncio.gather(*self._listening, return_exceptions=True)

    # --- beginning ----------------------------------------------------------------------------------------------------

    async def _arrive(self, name: str, credential: messages.Credential) -> Person:
        person = Person(name, self._url, credential, random.Random(self._chance.random()), self)
        self.people.append(person)
        await person.client.start()
        self._listening.append(asyncio.create_task(person.listen(), name=f"listen {name}"))
        return person

    async def gather(self) -> None:
        """Everybody registers, the first user on two devices; two groups are made, with links to join them."""
        for number in range(self._count):
            name = f"person{number}"
            credential = messages.RegisterCredential(name, PASSWORD, name.ljust(16, "-").encode(), "phone")
            person = await self._arrive(name, credential)
            self.users.append(person.user)
            await self._settled(person, 1)
        first = self.people[0]
        head = (await first.client.account()).state.head
        credential2 = messages.PasswordCredential("person0", PASSWORD, b"second device 16", "laptop")
        second = await self._arrive("person0 laptop", credential2)
        second.tape.device.since[ids.account_stream(first.user)] = head
        await self._settled(first, head + 1)
        for maker, members in ((first, self.users[1:]), (self.people[1], self.users[2:])):
            group = await maker.client.create_group("Verona", members)
            invite = await maker.client.create_invite(group.stream)
            self.invites[group.stream] = invite.code
        await until(lambda: all(person.groups for person in self.people), "everybody hears of the groups")

    async def _settled(self, person: Person, head: int) -> None:
        """The account's own event of the new device is there."""
        stream = ids.account_stream(person.user)
        await until(lambda: person.tape.reached.get(stream, 0) >= head, "the event of the new device")

    def begin(self, commands: int) -> None:
        """Everybody begins to act: so many commands each."""
        for person in self.people:
            self.begin_one(person, commands)

    def begin_one(self, person: Person, commands: int) -> None:
        """One of them begins to act."""
        self._acting.append(asyncio.create_task(person.act(commands), name=f"act {person.name}"))

    # --- while it lasts -----------------------------------------------------------------------------------------------

    @property
    def answers(self) -> int:
        return sum(person.tape.answers for person in self.people)

    def seen_stored(self) -> int:
        """How many commands were answered as stored."""
        tapes = [entry for device in self.seen.devices.values() for entry in device.entries]
        return sum(isinstance(entry, history.Stored) for entry in tapes)

    @property
    def refusals(self) -> dict[int, int]:
        """How often each error was answered, to all."""
        numbers = itertools.chain(*(person.tape.refusals.items() for person in self.people))
        total: dict[int, int] = {}
        for number, count in numbers:
            total[number] = total.get(number, 0) + count
        return total

    @property
    def done(self) -> bool:
        return all(task.done() for task in self._acting)

    def fail_fast(self) -> None:
        """Raise what ended a person's part before its time."""
        for person in self.people:
            if person.failure is not None:
                raise person.failure
        for task in self._acting:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def answered(self, more: int) -> None:
        """Wait until so many more answers came, or everybody is done."""
        goal = self.answers + more

        def reached() -> bool:
            self.fail_fast()
            return self.answers >= goal or self.done

        await until(reached, f"{more} more answers")

    # --- the end ------------------------------------------------------------------------------------------------------

    async def converge(self) -> None:
        """All faults are over: wait until everything is answered and everybody has everything, then fetch it."""
        self.seen.healed = tape.now()

        def done() -> bool:
            self.fail_fast()
            return self.done

        await until(done, "all commands are answered")
        await until_true(self._all_reached, "everybody has everything")
        self.seen.converged = tape.now()
        for person in self.people[: self._count]:
            await self._fetch(person)

    async def _all_reached(self) -> bool:
        self.fail_fast()
        for person in self.people:
            heads = {row.stream: row.head for row in await person.client.all_conversations()}
            heads[ids.account_stream(person.user)] = (await person.client.account()).state.head
            if any(person.tape.reached.get(stream, 0) < head for stream, head in heads.items()):
                return False
            self.seen.due |= {stream: max(head, self.seen.due.get(stream, 0)) for stream, head in heads.items()}
        return True

    async def _fetch(self, person: Person) -> None:
        account, rows = await person.client.account(), await person.client.all_conversations()
        self.seen.accounts.append(history.Account(person.user, account.state, tuple(account.contacts), tuple(rows)))
        for row in rows:
            if not row.member:
                continue
            items: list[tuple[int, bytes, bytes]] = []
            start, more = 0, True
            while more:
                page = await person.client.history(row.stream, start, newest_first=False, limit=200)
                items += [(item.seq, bytes(item.event), bytes(item.fold)) for item in page.items]
                start, more = page.next, page.more
            folded = tuple((seq, event, b"\x90" if fold == b"\xc0" else fold) for seq, event, fold in items)
            group = None
            members: tuple[messages.Member, ...] = ()
            if ids.kind(row.stream) is ids.Kind.GROUP:
                group = await person.client.group(row.stream)
                members = tuple(await person.client.members(row.stream))
            self.seen.views.append(history.View(person.user, row.stream, row.head, folded, group, members))

    def check(self) -> None:
        """Every promise was kept; call it when `stored` has completed the history."""
        findings = checks.check(self.seen)
        assert not findings, checks.report(findings)


async def stored(folder: pathlib.Path, seen: history.History) -> None:
    """Add to a history what stands in the files of a stopped node, which are sound."""
    found = doctor.doctor(folder)
    assert found == [], found
    store = await sqlite.open_store(folder)
    try:
        position = b""
        streams: set[bytes] = set()
        while changes := await store.changes(position, 1000):
            position = changes[-1].position
            streams |= {change.stream for change in changes}
        users = {device.user for device in seen.devices.values()}
        for stream in sorted(streams):
            rows = await store.range(stream, 1, 2**53 - 1, 2**31, 2**62)
            seen.rows[stream] = [history.Row(row.seq, row.epoch, row.data) for row in rows]
            for mark in await store.marks(stream):
                seen.marks[stream, mark.user] = (mark.delivered, mark.read)
            for user in users:
                intervals = await store.memberships(user, stream)
                if intervals:
                    seen.intervals[stream, user] = intervals
    finally:
        await store.close()
