"""The people of a scene and their devices: real clients, each on a line of its own that can be cut."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping

from bench.demo_compare import Marks
from bench.demo_record import Came, Record
from bench.demo_relay import Relay
from client import store, updates
from client.client import Client
from protocol import events, ids, messages

#: Seconds for anything that is waited for. On loopback it takes milliseconds; a scene that waits so long has failed.
PATIENCE_S = 10.0
#: Seconds between two Read commands of a device (docs/protocol.md, Receipts: a few a second).
READ_S = 0.25
AGENT = "kith-demo/1"


class SceneFailed(Exception):
    """The scene cannot go on; says what was waited for."""


class Device:
    """One device of one person. What it was sent is kept in `records` from one connection to the next, as an application
    would; `kept` is the client's own memory. `read`: stream -> seq up to which the node confirmed that it was read."""

    def __init__(self, label: str, relay: Relay, names: Mapping[int, str], *, reads: bool, new: bool) -> None:
        self.label = label
        self.relay = relay
        self.records: dict[bytes, Record] = {}
        self.read: dict[bytes, int] = {}
        self.marks: dict[bytes, dict[str, Marks]] = {}
        self.typed: Counter[str] = Counter()
        self.faults: list[str] = []
        self.returns = 0
        self._kept = store.MemoryStore()
        self._names = names
        self._reads = reads
        self._new = new
        self._client: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._caught_up = False
        self._came = Came.CAUGHT_UP

    @property
    def client(self) -> Client:
        if self._client is None:
            raise SceneFailed(f"{self.label} is offline")
        return self._client

    @property
    def online(self) -> bool:
        return self._client is not None

    async def enter(self, credential: messages.Credential | None = None) -> None:
        """Connect, and catch up with everything. `credential`: for the first time; later it has a token."""
        self._client = client = Client(self.relay.url, credential, kept=self._kept, agent=AGENT)
        self._caught_up = False
        await client.start(PATIENCE_S)
        if self._new:
            await self._begin()
            self._new = False
        self._tasks = [asyncio.create_task(self._follow(client), name=f"{self.label} follows")]
        if self._reads:
            self._tasks.append(asyncio.create_task(self._read_on(), name=f"{self.label} reads"))
        await self.until(lambda: self._caught_up, "to have caught up")

    async def leave(self) -> None:
        """Read what there is to read, say goodbye. Idempotent."""
        client = self._client
        if client is None:
            return
        follower, *readers = self._tasks
        for reader in readers:
            reader.cancel()
            await asyncio.wait([reader])
        if self._reads and not follower.done():
            await self._read_all()
        await client.close()
        self._client = None
        self.faults += client.violations
        await asyncio.gather(follower)

    async def end(self) -> None:
        """Stop whatever is under way; for the end of a scene that failed as well."""
        for task in self._tasks:
            task.cancel()
        if self._client is not None:
            await self._client.close()
            self._client = None
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def shows_only(self) -> None:
        """From now on what comes is kept, but nobody is there to read it."""
        self._reads = False

    def record(self, stream: bytes) -> Record:
        return self.records.setdefault(stream, Record(self._names))

    async def has(self, stream: bytes, seq: int) -> None:
        """Wait until event `seq` of `stream` is here."""
        await self.until(lambda: self.record(stream).head >= seq, f"event {seq}")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """SceneFailed when it does not come true."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    for task in self._tasks:
                        if task.done():
                            await task
                            raise SceneFailed(f"{self.label} went offline")
                    await self._news.wait()
        except TimeoutError:
            raise SceneFailed(f"{self.label} waited {PATIENCE_S:.0f} s for {what}") from None

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # --- what comes -------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """A new device is sent what happens from now on; what is older it fetches."""
        for row in await self.client.all_conversations():
            self.record(row.stream).begin(*await self.history(row.stream), row.head)

    async def history(self, stream: bytes) -> tuple[list[messages.HistoryItem], list[messages.Gone]]:
        """The whole history of a stream, oldest first, and what of it is gone."""
        page = await self.client.history(stream, newest_first=False)
        items, gone = page.items, page.gone
        while page.more:
            page = await self.client.history(stream, page.next, newest_first=False)
            items += page.items
            gone += page.gone
        return items, gone

    async def _follow(self, client: Client) -> None:
        try:
            async for update in client.updates():
                match update:
                    case updates.StreamEvent(stream=stream, seq=seq, event=event, own=own):
                        self._event(stream, seq, event, Came.OWN if own else self._came)
                    case updates.StreamGone(stream=stream, first=first, seq=seq):
                        self.faults.append(f"events {first} to {seq} of {stream.hex()} are gone")
                    case updates.Connected():
                        self._came = Came.CAUGHT_UP
                        self.returns += 1
                    case messages.CaughtUp():
                        for stream in self.records:
                            self._merge(stream, await self.fetch_marks(stream))
                        self._came = Came.LIVE
                        self._caught_up = True
                    case messages.Receipt(stream=stream, user=user, delivered=delivered, read=read):
                        self._merge(stream, {self._names[user]: Marks(delivered, read)})
                    case messages.MemberTyping(user=user, on=True):
                        self.typed[self._names[user]] += 1
                self._tell()
        finally:
            self._tell()

    def _event(self, stream: bytes, seq: int, event: events.AnyEvent | None, came: Came) -> None:
        if ids.kind(stream) is ids.Kind.ACCOUNT:
            return  # one's own settings and read marks; the scene has no use for them
        self.record(stream).apply(seq, event, came)

    def _merge(self, stream: bytes, found: Mapping[str, Marks]) -> None:
        """Marks only grow, so what comes late changes nothing."""
        known = self.marks.setdefault(stream, {})
        for name, marks in found.items():
            old = known.get(name, Marks(0, 0))
            known[name] = Marks(max(old.delivered, marks.delivered), max(old.read, marks.read))

    async def fetch_marks(self, stream: bytes) -> dict[str, Marks]:
        """The marks of the other members, as the node has them now."""
        me = self.client.identity.user
        if ids.kind(stream) is ids.Kind.GROUP:
            rows = (await self.client.group(stream)).marks
        else:
            other = next(user for user in ids.parties(stream) if user != me)
            rows = (await self.client.open(other)).marks
        return {self._names[row.user]: Marks(row.delivered, row.read) for row in rows if row.user != me}

    # --- what is read -----------------------------------------------------------------------------------------------

    async def _read_on(self) -> None:
        """Read what comes, a few times a second."""
        while True:
            news = self._news
            await self._read_all()
            await asyncio.sleep(READ_S)
            if news is self._news:
                await news.wait()

    async def _read_all(self) -> None:
        for stream, record in list(self.records.items()):
            seq = record.head
            if seq > self.read.get(stream, 0):
                await self.client.read(stream, seq)
                self.read[stream] = seq


class Person:
    """`name` as in the play. `devices`: the last one is the one they use."""

    def __init__(self, name: str, target: str, names: Mapping[int, str], *, reads: bool) -> None:
        self.name = name
        self.user = 0
        self.devices: list[Device] = []
        self._target = target
        self._names = names
        self._reads = reads
        self._password = secrets.token_urlsafe()

    @property
    def device(self) -> Device:
        return self.devices[-1]

    async def register(self) -> None:
        """Make the account; the first device then goes offline."""
        device = await self._add("phone", new=False)
        request = secrets.token_bytes(16)
        await device.enter(messages.RegisterCredential(self.name.lower(), self._password, request, device.label))
        self.user = device.client.identity.user
        await device.leave()

    async def log_in(self) -> None:
        """Come online on one more device."""
        device = await self._add("laptop", new=True)
        request = secrets.token_bytes(16)
        await device.enter(messages.PasswordCredential(self.name.lower(), self._password, request, device.label))

    async def _add(self, kind: str, *, new: bool) -> Device:
        relay = Relay(self._target)
        await relay.start()
        self.devices.append(Device(f"{self.name}'s {kind}", relay, self._names, reads=self._reads, new=new))
        return self.device

    async def end(self) -> None:
        for device in self.devices:
            try:
                await device.end()
            finally:
                await device.relay.stop()
