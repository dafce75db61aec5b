"""`group`: one writes, a thousand read, all of it stored before anybody sees it.

Two phases of equal length. First one message a second: how long until the last of 1,000 online members has it, and until each.
Then as much as goes, with 8 messages of the sender unanswered: deliveries a second. Every member acknowledges once a second, or
when half the window is unacknowledged, as clients in large groups do.

Members are light: they find event frames in the bytes by what every one of them begins with, and count. One in 25 decodes
everything and holds order and seqs to docs/protocol.md; at the end each must have had every event of the group.

`rate_per_s`: deliveries in the second phase. Latency: from sending to the last member's receiving, in the first.
"""

from __future__ import annotations

import array
import asyncio
import functools
import time
from typing import Any

from bench import generators, percentiles, result, show, wire, workload
from protocol import codec, ids, messages

#: docs/protocol.md, Acknowledging: in groups of more than 32 members once a second, or at half a window.
ACK_EVERY_S = 1.0
ACK_AT_EVENTS = 128
#: One member in so many decodes what it reads.
CHECKED = 25
#: Seconds that anything outstanding is waited for.
PATIENCE_S = 30.0
WARM_UP_S = 1.0


class Crowd:
    """All members of one group, as far as this process plays them. `missing`: how many have yet to get the timed message."""

    __slots__ = ("arrivals", "deliveries", "done", "members", "missing", "stream", "timed_from")

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.stream = b""
        self.deliveries = 0
        self.missing = 0
        self.timed_from = 0.0
        self.arrivals = array.array("d")
        self.done = asyncio.Event()

    def arrived(self, count: int) -> None:
        """A member got so many events."""
        self.deliveries += count
        if self.missing:
            self.arrivals.append(time.monotonic() - self.timed_from)
            self.missing -= 1
            if not self.missing:
                self.done.set()


class Member(wire.Client):
    """Reads. `seq` is the seq of the newest event; light once `_marker` is known."""

    __slots__ = ("_marker", "_tail", "acked", "checks", "crowd", "seq")

    def __init__(self, host: str, credential: messages.Credential, errors: wire.Errors, crowd: Crowd, checks: bool) -> None:
        super().__init__(host, credential, errors)
        self.crowd = crowd
        self.checks = checks
        self.seq = 0
        self.acked = 0
        self._marker = b""
        self._tail = b""
        crowd.members.append(self)

    def lighten(self) -> None:
        """From now on only count: the head of an event frame of this stream is the same in every one, and in nothing else."""
        if not self.checks:
            stream = self.crowd.stream
            self._marker = b"\x95" + bytes((wire.EVENT, 0, 0xC4, len(stream))) + stream
            self._tail, self._rest = self._rest, b""

    def data_received(self, data: bytes) -> None:
        marker = self._marker
        if not marker:
            super().data_received(data)
            return
        self.bytes_in += len(data)
        data = self._tail + data
        count = data.count(marker)
        self._tail = data[1 - len(marker) :]  # a head may be cut in two, and none fits into so little
        if count:
            self._took(count)

    def frame(self, number: int, items: list[Any]) -> None:
        if number == wire.EVENT and items[2] == self.crowd.stream:
            if self.seq and items[3] != self.seq + 1:
                self.errors["event out of order"] += 1
            self.seq = items[3] - 1
            self._took(1)

    def _took(self, count: int) -> None:
        self.seq += count
        self.crowd.arrived(count)
        if self.seq - self.acked >= ACK_AT_EVENTS:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Say up to where everything was taken, if that is news."""
        if self.seq > self.acked:
            self.acked = self.seq
            self.write(codec.encode(messages.Ack(0, ((self.crowd.stream, self.seq),))))


class Sender(wire.Client):
    """The one who writes. `head` is the seq of its newest event."""

    __slots__ = ("_body", "_waiting", "created", "crowd", "head", "sent", "unanswered", "wants")

    def __init__(self, host: str, credential: messages.Credential, errors: wire.Errors, crowd: Crowd, size: int) -> None:
        super().__init__(host, credential, errors)
        self.crowd = crowd
        self._body = wire.body(size)
        self.head = 0
        self.sent = 0
        #: Keep so many unanswered; 0: send nothing unasked.
        self.wants = 0
        self.unanswered = 0
        self.created: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def create(self, users: list[int]) -> None:
        """Make the group; `created` tells when it is there."""
        self.rid += 1
        self.counter += 1
        self.crowd.stream = ids.group_stream(self.device, self.counter)
        self.write(codec.encode(messages.CreateGroup(self.rid, self.counter, "bench", tuple(users))))

    def send(self) -> None:
        self.rid += 1
        self.counter += 1
        self.sent += 1
        self.unanswered += 1
        self.write(codec.encode(messages.Send(self.rid, self.counter, self.crowd.stream, self._body)))

    def resize(self, size: int) -> None:
        """From now on send so many bytes."""
        self._body = wire.body(size)

    async def answered(self) -> None:
        """Until everything sent is answered."""
        while self.unanswered:  # noqa: ASYNC110 (a hot path without events)
            await asyncio.sleep(0.01)

    def saturate(self, in_flight: int) -> None:
        self.wants = in_flight
        while self.unanswered < self.wants:
            self.send()

    def frame(self, number: int, items: list[Any]) -> None:
        if number == wire.SENT:
            self.head = items[2]
            if not self.created.done():
                self.created.set_result(None)
                return
            self.unanswered -= 1
        elif number == wire.ERROR:
            if not self.created.done():
                self.created.set_exception(RuntimeError(f"no group: {items[4]}"))
            self.unanswered -= 1
        else:
            return
        if self.unanswered < self.wants:
            self.send()


async def acknowledge(members: list[Member]) -> None:
    """Each member once a second; they take turns, as they would by chance."""
    slices = 50
    while True:
        for part in range(slices):
            await asyncio.sleep(ACK_EVERY_S / slices)
            for member in members[part::slices]:
                member.acknowledge()


async def all_have(crowd: Crowd, seq: int) -> int:
    """Wait until every member has everything up to `seq`; how many events are missing when patience ends."""
    end = time.monotonic() + PATIENCE_S
    while (missing := sum(max(seq - each.seq, 0) for each in crowd.members)) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    return missing


async def trickle(sender: Sender, crowd: Crowd, seconds: float, link: generators.Link) -> list[float]:
    """One message a second; for each, how long until the last member had it."""
    last = []
    count = max(round(seconds), 1)
    link.phase("one message a second", count)
    for _ in range(count):
        began = time.monotonic()
        crowd.missing = len(crowd.members)
        crowd.timed_from = began
        crowd.done.clear()
        sender.send()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await crowd.done.wait()
        except TimeoutError:
            sender.errors["not delivered"] += crowd.missing
            crowd.missing = 0
            continue
        last.append(time.monotonic() - began)
        link.progress(1)
        await asyncio.sleep(max(0.0, began + 1.0 - time.monotonic()))
    return last


async def gather(job: generators.Job, link: generators.Link, errors: wire.Errors, crowd: Crowd) -> Sender:
    """Connect everybody, and make the group."""
    connector = wire.Connector(job.url, job.accounts, errors)
    count, size = job.params["members"], job.params["body_bytes"]
    link.phase("connect", count)
    await connector.open_all(
        lambda host, credential, counts: Member(host, credential, counts, crowd, len(crowd.members) % CHECKED == 0),
        range(1, count + 1),
        lambda: link.progress(1),
    )
    sender = await connector.open(functools.partial(Sender, crowd=crowd, size=size), 0)
    sender.create([member.user for member in crowd.members])
    async with asyncio.timeout(PATIENCE_S):
        await sender.created
    if missing := await all_have(crowd, 1):
        errors["not told of the group"] += missing
    for member in crowd.members:
        member.lighten()
    return sender


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    crowd = Crowd()
    sender = await gather(job, link, errors, crowd)
    acknowledging = asyncio.create_task(acknowledge(crowd.members))
    last = await trickle(sender, crowd, job.seconds, link)

    sender.saturate(job.params["in_flight"])
    await asyncio.sleep(min(WARM_UP_S, job.seconds))
    await link.meet("begin")
    began, cpu = time.monotonic(), time.process_time()
    before, bytes_before = crowd.deliveries, sum(each.bytes_in + each.bytes_out for each in crowd.members)
    await link.watch("saturated", job.seconds)
    await link.meet("end")
    deliveries = crowd.deliveries - before
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    size = sum(each.bytes_in + each.bytes_out for each in crowd.members) - bytes_before

    sender.wants = 0
    await sender.answered()
    if missing := await all_have(crowd, sender.head):
        errors["not delivered"] += missing
    if extra := sum(each.seq > sender.head for each in crowd.members):
        errors["members with too many events"] += extra
    acknowledging.cancel()
    for client in (sender, *crowd.members):
        client.end()
    return {
        "last": last,
        "each": crowd.arrivals,
        "deliveries": deliveries,
        "seconds": seconds,
        "bytes": size,
        "generator_cpu": cpu / seconds,
        "errors": errors,
    }


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    with run.server(run.params["members"] + 1) as server:
        generated = run.generate(drive, server)
        found = generated.results[0]
        deliveries = max(found["deliveries"], 1)
        cpu = generated.cpu_s("begin", "end")
        member_p50, member_p99, _ = percentiles.tail(found["each"])
        return result.Figures(
            found["deliveries"] / found["seconds"],
            found["seconds"],
            *percentiles.tail(found["last"]),
            cpu,
            generated.usage["end"].rss_bytes,
            found["bytes"] / deliveries,
            found["errors"],
            {
                "each_member_p50_ms": member_p50,
                "each_member_p99_ms": member_p99,
                "messages_per_s": found["deliveries"] / found["seconds"] / run.params["members"],
                "server_cpu_us_per_delivery": None if cpu is None else cpu * 1e6 / deliveries,
                "generator_cpu_share": found["generator_cpu"],
            },
        )


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    return f"last member p50 {show.ms(figures.p50_ms)}; {show.count(figures.rate_per_s)} deliveries/s"


WORKLOAD = workload.Workload(
    "group",
    "one writes to online members: the last one's wait at one message a second, then saturated",
    "deliveries",
    "last member p50 20 ms; 150,000 deliveries/s, goal 300,000/s",
    headline,
    15.0,
    {"members": 1000, "in_flight": 8, "body_bytes": 128},
    run,
)
