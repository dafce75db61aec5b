"""A node without sockets: the real tree, runtime, store and passwords; sinks that take down what they are given; time in the
test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import msgspec

from actors import account, directory, services, sweeper, tree
from actors.commands import Attach, Command, Detach
from actors.messages import CutOff
from actors.people import People
from actors.runtime import pipes
from actors.runtime.errors import ActorDeadError
from actors.runtime.ref import ActorRef
from actors.runtime.runtime import Runtime
from actors.runtime.supervisor import WhichChildren
from actors.state import reader, rules
from auth import accounts, admission, attempts, jwt, passwords, tokens
from auth.identity import Admission
from protocol import codec, codes, events, ids, messages
from storage import interfaces, records
from storage.sqlite import store as sqlite
from telemetry import Telemetry
from tests.storage.faults import FaultyStore

NOW = 1_800_000_000_000
"""A moment in 2027, ms."""
PASSWORD = "correct horse"

ASHA, BEN, CARA, DEV = 11, 12, 13, 14
PEOPLE = {ASHA: "asha", BEN: "ben", CARA: "cara", DEV: "dev"}

F = TypeVar("F", bound=messages.Frame)


def text(words: str, *mentions: int) -> msgspec.Raw:
    """A body of plain text that names these users."""
    body = events.Text(words, tuple(events.Mention(user, 0, 1) for user in mentions))
    return msgspec.Raw(msgspec.msgpack.encode(body))


class Phone:
    """One device of a user, and its sink: what it was given, in order. It acknowledges when told to, or at once (`acks`).

    `room`: bytes that may be offered until `drain` is called (None: any number)."""

    def __init__(self, world: World, user: int, device: int, acks: bool = True) -> None:
        self.world = world
        self.user = user
        self.device = device
        self.acks = acks
        self.frames: list[messages.ServerFrame] = []
        self.latest: dict[object, messages.ServerFrame] = {}
        self.closed: tuple[int, str, int] | None = None
        self.on_drained: Callable[[], None] | None = None
        self.room: int | None = None
        self.counter = 0
        self.rid = 1  # that of Hello

    # --- the sink -----------------------------------------------------------------------------------------------------

    spare = 1 << 30

    def offer(self, frames: bytes, count: int) -> bool:
        if self.closed is not None:
            return False
        if self.room is not None:
            if len(frames) > self.room:
                return False
            self.room -= len(frames)
        found = list(codec.decode_server_message(codec.array_header(count) + frames if count > 1 else frames))
        assert len(found) == count
        self.frames += found
        if self.acks:
            self.ack(found)
        return True

    def reply(self, frame: bytes) -> None:
        if self.closed is None:
            self.frames.append(codec.decode_server(frame))

    def offer_latest(self, key: object, frame: bytes) -> None:
        if self.closed is None:
            self.latest[key] = codec.decode_server(frame)
            self.frames.append(self.latest[key])

    def offer_ephemeral(self, frame: bytes) -> None:
        self.reply(frame)

    def close(self, code: int, reason: str, retry_after_ms: int = 0) -> None:
        if self.closed is None:
            self.closed = (code, reason, retry_after_ms)
            self.leave()

    # --- the device ---------------------------------------------------------------------------------------------------

    def ack(self, found: list[messages.ServerFrame]) -> None:
        for frame in found:
            if isinstance(frame, messages.Event):
                self.tell(messages.Ack(0, ((frame.stream, frame.seq),)))
            elif isinstance(frame, messages.Gone):
                self.tell(messages.Ack(0, ((frame.stream, frame.last),)))

    def drain(self, room: int | None = None) -> None:
        self.room = room
        if self.on_drained is not None:
            self.on_drained()

    def attach(self) -> None:
        admitted = Admission(self.user, self.device, PEOPLE.get(self.user, "x"))
        self.world.directory.tell(("session", self.user), Attach(admitted, self, 1, 1))

    def leave(self) -> None:
        with contextlib.suppress(ActorDeadError):
            self.world.directory.tell(("session", self.user), Detach(self.device, self))

    def tell(self, frame: messages.ClientFrame) -> None:
        """As the gateway does. A session that is gone closes the connection."""
        digest = tokens.Digest(bytes(32)).digest(codec.encode(frame)) if isinstance(frame, messages.Change) else 0
        if not self.world.directory.tell(("session", self.user), Command(self.device, frame, digest)):
            self.closed = self.closed or (codes.SESSION_LOST.code, "", 0)

    def say(self, kind: type[messages.ClientFrame], *fields: Any, **named: Any) -> int:
        """Send a command with the next rid (and counter); the rid."""
        self.rid += 1
        if issubclass(kind, messages.Change):
            self.counter += 1
            fields = (self.counter, *fields)
        self.tell(kind(self.rid, *fields, **named))
        return self.rid

    async def ask(self, kind: type[messages.ClientFrame], *fields: Any, **named: Any) -> messages.ServerFrame:
        """Send a command and wait for its answer (the last frame of one of several)."""
        rid = self.say(kind, *fields, **named)
        return await self.answer(rid)

    async def answer(self, rid: int) -> messages.ServerFrame:
        part_of_many = (
            messages.Conversation | messages.HistoryItem | messages.Gone | messages.ExportPart | messages.AccountState
        )

        def found() -> Iterator[messages.ServerFrame]:
            return (each for each in self.frames if each.rid == rid and not isinstance(each, part_of_many | messages.Contacts))

        await self.world.until(lambda: any(True for _ in found()) or self.closed)
        return next(found())

    async def done(self, kind: type[messages.ClientFrame], *fields: Any, **named: Any) -> messages.Sent:
        """A state-changing command that must be accepted."""
        answer = await self.ask(kind, *fields, **named)
        assert isinstance(answer, messages.Sent), answer
        return answer

    async def refused(self, kind: type[messages.ClientFrame], *fields: Any, **named: Any) -> codes.Error:
        answer = await self.ask(kind, *fields, **named)
        assert isinstance(answer, messages.Error), answer
        return codes.BY_NUMBER[answer.number]

    async def caught_up(self) -> None:
        await self.world.until(lambda: self.all(messages.CaughtUp) or self.closed)

    def all(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def events(self, stream: bytes) -> list[tuple[int, events.AnyEvent]]:
        """(seq, event) of a stream, as given to this device."""
        return [(each.seq, events.decode(each.event)) for each in self.all(messages.Event) if each.stream == stream]

    def seqs(self, stream: bytes) -> list[int]:
        return [seq for seq, _ in self.events(stream)]

    def texts(self, stream: bytes) -> list[str]:
        found = [event.body for _, event in self.events(stream) if isinstance(event, events.Message)]
        return [decoded.text for decoded in map(events.decode_body, found) if isinstance(decoded, events.Text)]


class Seconds:
    """The runtime's clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class World:
    """`store` can be made to fail; `disk` is the one beneath it."""

    disk: interfaces.Store
    store: FaultyStore
    runtime: Runtime
    seconds: Seconds
    tree: tree.Tree
    services: services.Services
    top: ActorRef[Any]
    devices: int = 100

    @property
    def directory(self) -> directory.Directory:
        return self.tree.directory

    def phone(self, user: int, device: int = 0, **options: Any) -> Phone:
        """A connected device, new unless named."""
        if not device:
            self.devices += 1
        phone = Phone(self, user, device or self.devices, **options)
        phone.attach()
        return phone

    async def device(self, user: int) -> int:
        """A device that the store knows; not connected."""
        self.devices += 1
        token = records.Token(self.devices.to_bytes(32, "big"), user, self.devices, NOW)
        await self.disk.add_device(records.Device(self.devices, user, "d", NOW, NOW), token)
        return self.devices

    async def known(self, user: int, **options: Any) -> Phone:
        """A connected device that the store knows, caught up."""
        phone = self.phone(user, await self.device(user), **options)
        await phone.caught_up()
        return phone

    def actor(self, key: bytes | tuple[str, int]) -> Any:
        """The living actor of a key."""
        ref = self.directory.sessions[key[1]] if isinstance(key, tuple) else self.directory.awake(key)
        assert ref is not None
        return ref._actor

    def permanent(self, name: str) -> Any:
        ref = self.runtime.registry.whereis(name)
        assert ref is not None
        return ref._actor

    async def until(self, condition: Callable[[], object]) -> None:
        """Turn the loop until the condition holds; the test's timeout ends it. Most things come within a few turns; for what
        the store's threads have to do, a loop that turns without rest would only stand in their way."""
        turns = 0
        while not condition():
            turns += 1
            await asyncio.sleep(0 if turns < 50 else 0.0005)

    async def quiet(self) -> None:
        """Until no actor has anything to do, and none waits for the store."""
        calm = 0
        while calm < 5:
            await asyncio.sleep(0)
            everyone = self.runtime.registry.get_all()
            busy = self.runtime.ready or any(ref.backlog() or pipes.running(ref) for ref in everyone)
            calm = 0 if busy else calm + 1

    async def advance(self, seconds: float) -> None:
        """Let time pass, and everything that is due then happen."""
        self.seconds.now += seconds
        self.runtime.timers.run_due()
        await self.quiet()

    async def sleep(self) -> int:
        """Two sweeps: owners that nobody touches between them sleep. How many did."""
        await self.quiet()
        slept = self.directory.sweep(sweeper._is_tired)
        return slept + self.directory.sweep(sweeper._is_tired)

    async def whole(self, stream: bytes) -> list[events.AnyEvent]:
        """The stream as stored."""
        rows = await self.disk.range(stream, 1, records.OPEN_END, 2**31, 2**62)
        assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
        return [events.decode(row.data) for row in rows]


LIMITS = messages.Limits(65536, codec.MAX_BODY, reader.WINDOW_EVENTS, reader.WINDOW_BYTES, 200, 800, 63, 1024, 256, 900)


@contextlib.asynccontextmanager
async def living(folder: pathlib.Path, **limits: Any) -> AsyncIterator[World]:
    """A started node with four people who have a password."""
    disk = await sqlite.open_store(folder)
    seconds, telemetry = Seconds(), Telemetry()
    store = FaultyStore(disk)

    def clock() -> int:
        return NOW + int((seconds.now - 1000.0) * 1000)

    runtime = Runtime(asyncio.get_running_loop(), clock=seconds).start()
    hasher = passwords.Passwords(passwords.Cost(8, 1), 1, 64)
    made = tokens.Tokens(bytes(32))
    planted = tree.Tree(seconds, telemetry)

    def revoked(user: int, device: int, close: codes.Close = codes.REVOKED) -> None:
        planted.directory.tell_committed(("session", user), CutOff(device, close))

    admitter = admission.Admitter(
        store.store,
        hasher,
        made,
        jwt.Issuers([]),
        attempts.Attempts(1000, 1000, 60_000),
        accounts.Settings(),
        clock,
        lambda count: bytes(count),
        revoked,
        announce=lambda user, device, name: account.announce(planted.directory, user, device, name),
    )

    def whereis(name: str) -> ActorRef[Any]:
        found = runtime.registry.whereis(name)
        if found is None:
            raise LookupError(name)
        return found

    planted.services = services.Services(
        store=store.store,
        directory=planted.directory,
        people=People(store.store),
        admitter=admitter,
        telemetry=telemetry,
        rules=rules.Rules(**limits),
        limits=LIMITS,
        clock=clock,
        whereis=whereis,
        invite_code=made.invite_code,
        check_invite=made.check_invite,
        heartbeat_s=25,
        commands_per_s=1e6,
        page_items=256,
        page_bytes=256 * 1024,
    )
    hashed = await hasher.hash(PASSWORD)
    for user, name in PEOPLE.items():
        await disk.create_user(records.User(user, name, name, hashed, None, None, NOW))
    top = planted.start(sweeper.Retention(90, 30), revoked)
    await top.ask(WhichChildren())
    world = World(disk, store, runtime, seconds, planted, planted.services, top)
    try:
        yield world
    finally:
        top.unwatch()
        await top.stop()
        await runtime.stop()
        hasher.close()
        await disk.close()


def direct(one: int, other: int) -> bytes:
    return ids.direct_stream(one, other)
