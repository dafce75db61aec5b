"""Pairs of people of whom one writes and the other reads, checked as they go: used by `direct`, `latency`, `maximum`, `abuse`.

A message is in flight from its sending (in an open loop: from the moment it was due) until its receiver has it. Each receiver
sees that nothing is missing, twice or out of order, and acknowledges as clients must: cumulatively, every 100 ms, or when half
the window is unacknowledged.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import functools
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from bench import generators, pace, percentiles, result, wire
from protocol import codec, ids, messages

#: docs/protocol.md, Acknowledging: every 100 ms, or at half a window.
ACK_EVERY_S = 0.1
ACK_AT_EVENTS = 128
#: Seconds that what is in flight at the end is waited for.
DRAIN_S = 10.0


class Pair:
    """One conversation. `in_flight` maps the sender's counter to the moment from which it is timed."""

    __slots__ = (
        "delivered",
        "errors",
        "in_flight",
        "latencies",
        "on_delivered",
        "receiver",
        "sender",
        "sent",
        "since",
        "stream",
    )

    def __init__(self, errors: wire.Errors) -> None:
        self.errors = errors
        self.in_flight: dict[int, float] = {}
        self.latencies = array.array("d")
        #: Messages timed from before this moment are warm-up.
        self.since = float("inf")
        self.delivered = 0
        self.sent = 0
        self.stream = b""
        self.sender: Sender
        self.receiver: Receiver
        self.on_delivered = self._nothing

    def _nothing(self) -> None:
        """In an open loop a delivery causes nothing."""

    def opened(self) -> None:
        """Both are connected."""
        self.stream = ids.direct_stream(self.sender.user, self.receiver.user)

    @property
    def is_waiting(self) -> bool:
        """Whether something is in flight or unanswered, and may still come."""
        if self.sender.transport.is_closing() or self.receiver.transport.is_closing():
            return False
        return bool(self.in_flight) or self.sent > self.sender.answered

    def finish(self) -> None:
        """What is still in flight is lost, as far as this run is concerned."""
        if self.in_flight:
            self.errors["not delivered"] += len(self.in_flight)
        if self.sent > self.sender.answered:
            self.errors["not answered"] += self.sent - self.sender.answered


class Sender(wire.Client):
    """Sends, and counts the answers."""

    __slots__ = ("_body", "answered", "pair")

    def __init__(self, host: str, credential: messages.Credential, errors: wire.Errors, pair: Pair, body: msgspec.Raw) -> None:
        super().__init__(host, credential, errors)
        self._body = body
        self.answered = 0
        self.pair = pair
        pair.sender = self

    def send(self, timed_from: float) -> None:
        """One message, timed from a moment of the monotonic clock."""
        pair = self.pair
        self.rid += 1
        self.counter += 1
        pair.in_flight[self.counter] = timed_from
        pair.sent += 1
        self.write(codec.encode(messages.Send(self.rid, self.counter, pair.stream, self._body)))

    def frame(self, number: int, items: list[Any]) -> None:
        if number == wire.SENT:
            self.answered += 1
        elif number == wire.ERROR and items[1] > 1:  # already counted; rid 1 was Hello's
            self.answered += 1
            counter = self.counter - (self.rid - items[1])
            if self.pair.in_flight.pop(counter, None) is not None:
                self.pair.on_delivered()


class Receiver(wire.Client):
    """Takes and acknowledges. `acked` < `seq`: there is something to acknowledge."""

    __slots__ = ("acked", "pair", "seq")

    def __init__(self, host: str, credential: messages.Credential, errors: wire.Errors, pair: Pair) -> None:
        super().__init__(host, credential, errors)
        self.pair = pair
        self.seq = 0
        self.acked = 0
        pair.receiver = self

    def frame(self, number: int, items: list[Any]) -> None:
        pair = self.pair
        if number != wire.EVENT or items[2] != pair.stream:
            return
        seq, event = items[3], items[4]
        if self.seq and seq != self.seq + 1:
            self.errors["event out of order"] += 1
        self.seq = seq
        began = pair.in_flight.pop(event[5], None)
        if began is None:
            self.errors["event not expected"] += 1
            return
        pair.delivered += 1
        if began >= pair.since:
            pair.latencies.append(time.monotonic() - began)
        if seq - self.acked >= ACK_AT_EVENTS:
            self.acknowledge()
        pair.on_delivered()

    def acknowledge(self) -> None:
        """Say up to where everything was taken, if that is news."""
        if self.seq > self.acked:
            self.acked = self.seq
            self.write(codec.encode(messages.Ack(0, ((self.pair.stream, self.seq),))))


async def connect(job: generators.Job, link: generators.Link, errors: wire.Errors) -> list[Pair]:
    """The job's pairs, persons 0 and 1 the first, connected."""
    connector = wire.Connector(job.url, job.accounts, errors)
    body = wire.body(job.params["body_bytes"])
    count = job.params["pairs"]
    link.phase("connect", count)

    async def one(index: int) -> Pair:
        pair = Pair(errors)
        await connector.open(functools.partial(Receiver, pair=pair), 2 * index + 1)
        await connector.open(functools.partial(Sender, pair=pair, body=body), 2 * index)
        pair.opened()
        link.progress(1)
        return pair

    return list(await asyncio.gather(*(one(each) for each in range(count))))


@contextlib.asynccontextmanager
async def talking(job: generators.Job, link: generators.Link, errors: wire.Errors) -> AsyncIterator[list[Pair]]:
    """The job's pairs, connected and acknowledging for as long as this lasts."""
    pairs = await connect(job, link, errors)
    acknowledging = asyncio.create_task(acknowledge(pairs))
    try:
        yield pairs
    finally:
        acknowledging.cancel()
        for pair in pairs:
            pair.sender.end()
            pair.receiver.end()


def in_turn(pairs: list[Pair]) -> pace.Act:
    """Lets one pair after the other send."""
    turn = itertools.cycle(pairs)
    return lambda due: next(turn).sender.send(due)


async def acknowledge(pairs: list[Pair]) -> None:
    """Acknowledge what came, every 100 ms, until cancelled; receivers take turns, as they would by chance."""
    slices = 10
    while True:
        for part in range(slices):
            await asyncio.sleep(ACK_EVERY_S / slices)
            for pair in pairs[part::slices]:
                pair.receiver.acknowledge()


async def drain(pairs: list[Pair]) -> None:
    """Wait until nothing is in flight or unanswered, or for DRAIN_S; then count what is missing."""
    end = time.monotonic() + DRAIN_S
    while any(pair.is_waiting for pair in pairs) and time.monotonic() < end:  # noqa: ASYNC110 (a hot path without events)
        await asyncio.sleep(0.01)
    for pair in pairs:
        pair.finish()


@dataclass(slots=True, frozen=True)
class Counted:
    """What pairs did in a span. `up`, `down`: bytes of WebSocket frames to the server and back."""

    seconds: float
    delivered: int
    up: int
    down: int
    generator_cpu_share: float


class Span:
    """From its making until `end`. Messages that are timed from within it are measured; `taken` has them when all have come."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = pairs
        self._began, self._cpu = time.monotonic(), time.process_time()
        self._delivered, self._up, self._down = self._totals()
        for pair in pairs:
            pair.since = self._began

    def _totals(self) -> tuple[int, int, int]:
        clients: list[wire.Client] = [client for pair in self._pairs for client in (pair.sender, pair.receiver)]
        up, down = sum(client.bytes_out for client in clients), sum(client.bytes_in for client in clients)
        return sum(pair.delivered for pair in self._pairs), up, down

    def end(self) -> Counted:
        """What was delivered until now."""
        delivered, up, down = self._totals()
        seconds, cpu = time.monotonic() - self._began, time.process_time() - self._cpu
        return Counted(seconds, delivered - self._delivered, up - self._up, down - self._down, cpu / seconds)

    def taken(self) -> array.array[float]:
        """How long each message took (s). What comes later is not measured."""
        latencies = array.array("d")
        for pair in self._pairs:
            latencies.extend(pair.latencies)
            pair.latencies = array.array("d")
            pair.since = float("inf")
        return latencies


def figures(
    counted: Counted,
    latencies: array.array[float],
    errors: wire.Errors,
    cpu_s: float | None,
    usage: generators.Usage,
    metrics: dict[str, result.Number | None],
) -> result.Figures:
    """Of a span. `usage`: the server's at its end; `cpu_s`: what it used meanwhile."""
    delivered = max(counted.delivered, 1)
    return result.Figures(
        counted.delivered / counted.seconds,
        counted.seconds,
        *percentiles.tail(latencies),
        cpu_s,
        usage.rss_bytes,
        (counted.up + counted.down) / delivered,
        errors,
        metrics,
    )
