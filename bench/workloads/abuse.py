"""`abuse`: what honest people notice of those who misbehave.

50 honest pairs exchange 500 messages a second (open loop, timed from when each was due) while one thing after the other goes
on, each for the same time, on a node with its usual limits:

    alone    nothing else
    reading  1,000 people are written to, 200 messages of 1 KiB a second, one after the other; all are in a group where
             something is said every other second; they read all of it
    slow     the same 1,000 have stopped reading, were sent in the group all that a node gives a device that does not
             acknowledge, and are written to further
    flood    20 connections from another address send messages as fast as they can; refused, they go on; closed, they return

`rate_per_s`: honest messages delivered, over all four. Latency: of honest messages beside slow readers. `slow_p99_ratio`
compares slow with reading: what not reading adds to the same traffic; `flood_p99_ratio` compares flood with alone.
`rss_bytes_per_slow_reader` is what the node's memory grew by for each, kernel buffers apart. What floods are answered and what
happens to slow readers is no error, and stands among the metrics; what happens to the honest is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import struct
import time
from collections.abc import Mapping
from typing import Any

from bench import generators, pairs, percentiles, result, show, wire, workload
from bench.workloads import group, latency
from protocol import codec, ids, messages

#: Addresses of this machine, so that limits per address hit those who deserve it.
FLOODERS = "127.0.0.2"
READERS = "127.0.0.3"
#: Bytes of a slow reader's receive buffer, so that not reading is felt at the server and not kept by the kernel.
RECEIVE_BUFFER = 4096
#: What the readers are written: bytes, messages a second to one after the other, seconds between two in their group. (A message
#: to a thousand at once holds up everybody for a moment, also in the generator; that is what `group` measures. Here it falls
#: on so few honest messages that p99 does not see it.)
SPEECH_BYTES = 1024
LETTERS_S = 200
SPEECH_EVERY_S = 2.0
#: Sent to those who do not read, at first: twice what a device is given without acknowledging it (256 KiB).
FILL_BYTES = 8192
FILL = 64
#: Frames of one flooder in one write, and seconds between two: 20,000 frames a second of each flooder, a hundred times what it
#: may. Seconds until it comes back when it was closed.
VOLLEY = 100
VOLLEY_EVERY_S = 0.005
BACK_AFTER_S = 0.2
_COUNTER = struct.Struct(">Q")
PHASES = ("alone", "reading", "slow", "flood")


class Flooder(wire.Client):
    """Sends without end to the note to itself. A volley is one buffer in which only the counters change: making messages must
    not take the generator's time."""

    __slots__ = ("_counters_at", "_volley", "over")

    _volley: bytearray
    _counters_at: range
    over: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.over = asyncio.get_running_loop().create_future()
        super().connection_made(transport)

    def closed(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def load(self) -> None:
        """Make the volley. A counter of today's clock is a uint 64 of msgpack: 8 bytes, big-endian."""
        stream = ids.direct_stream(self.user, self.user)
        message = wire.masked(codec.encode(messages.Send(1, self.counter, stream, wire.body())))
        self._volley = bytearray(message * VOLLEY)
        at = message.index(_COUNTER.pack(self.counter))
        self._counters_at = range(at, len(self._volley), len(message))

    def shoot(self) -> bool:
        """One volley, unless the socket takes no more: a flooder's own memory is not what is measured."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size() > 1 << 16:
            return False
        for at in self._counters_at:
            self.counter += 1
            _COUNTER.pack_into(self._volley, at, self.counter)
        self.transport.write(bytes(self._volley))
        return True


async def flood(connector: wire.Connector, index: int, sent: list[int]) -> None:
    """One flooder, until cancelled."""
    while True:
        try:
            flooder = await connector.open(Flooder, index)
        except (OSError, TimeoutError):
            await asyncio.sleep(BACK_AFTER_S)
            continue
        try:
            flooder.load()
            while not flooder.over.done():
                if flooder.shoot():
                    sent[0] += VOLLEY
                await asyncio.sleep(VOLLEY_EVERY_S)
        finally:
            flooder.end()
        await asyncio.sleep(BACK_AFTER_S)


class Writer(group.Sender):
    """Speaks to the group, and writes to its members one after the other."""

    async def speak(self) -> None:
        """Until cancelled."""
        while True:
            self.send()
            await asyncio.sleep(SPEECH_EVERY_S)

    async def write_letters(self) -> None:
        """Until cancelled."""
        turn = itertools.cycle(self.crowd.members)
        body = wire.body(SPEECH_BYTES)
        began = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / LETTERS_S - time.monotonic()))
            self.rid += 1
            self.counter += 1
            self.unanswered += 1
            stream = ids.direct_stream(self.user, next(turn).user)
            self.write(codec.encode(messages.Send(self.rid, self.counter, stream, body)))


class Scene:
    """The honest pairs, and a phase of theirs."""

    def __init__(self, job: generators.Job, link: generators.Link, talking: list[pairs.Pair]) -> None:
        self._job = job
        self._link = link
        self.talking = talking
        self.latencies: dict[str, list[float]] = {}
        self.late: dict[str, float] = {}

    async def phase(self, name: str) -> None:
        """Let the honest talk, and note what it was like."""
        rate = self._job.params["rate"]
        await latency.send_at(rate, min(0.5, self._job.seconds), self.talking)
        await self._link.meet(f"begin {name}")
        began = time.monotonic()
        for pair in self.talking:
            pair.since = began
        watching = asyncio.create_task(self._link.watch(name, self._job.seconds))
        self.late[name] = await latency.send_at(rate, self._job.seconds, self.talking)
        await pairs.drain(self.talking)
        await self._link.meet(f"end {name}")
        await watching
        self.latencies[name] = [each for pair in self.talking for each in pair.latencies]
        for pair in self.talking:
            pair.since = float("inf")
            del pair.latencies[:]


async def beside_readers(job: generators.Job, link: generators.Link, scene: Scene, errors: wire.Errors) -> wire.Errors:
    """The phases with the group; what happened to slow readers."""
    count, first = job.params["slow_readers"], 2 * job.params["pairs"]
    of_readers = wire.Errors()
    crowd = group.Crowd()
    connector = wire.Connector(job.url, job.accounts, of_readers, source=READERS, receive_buffer=RECEIVE_BUFFER)
    link.phase("connect readers", count)
    make = functools.partial(group.Member, crowd=crowd, checks=False)
    await connector.open_all(make, range(first, first + count), lambda: link.progress(1))
    sender = await wire.Connector(job.url, job.accounts, errors).open(
        functools.partial(Writer, crowd=crowd, size=SPEECH_BYTES), first + count
    )
    sender.create([member.user for member in crowd.members])
    await sender.created
    await group.all_have(crowd, 1)
    for member in crowd.members:
        member.lighten()
    speaking = [asyncio.create_task(sender.speak()), asyncio.create_task(sender.write_letters())]
    acknowledging = asyncio.create_task(group.acknowledge(crowd.members))
    await scene.phase("reading")
    acknowledging.cancel()
    errors.update(of_readers)
    of_readers.clear()

    for member in crowd.members:
        member.transport.pause_reading()
    link.phase("fill", FILL)
    sender.resize(FILL_BYTES)
    for _ in range(FILL):
        sender.send()
        await asyncio.sleep(0.02)
        link.progress(1)
    sender.resize(SPEECH_BYTES)
    await scene.phase("slow")
    for each in speaking:
        each.cancel()
    await sender.answered()
    sender.end()
    for member in crowd.members:
        member.end()
    return of_readers


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    count = job.params["pairs"]
    indexes = [(2 * each, 2 * each + 1) for each in range(count)]
    connector = wire.Connector(job.url, job.accounts, errors)
    talking = await pairs.connect(connector, indexes, errors, 128)
    acknowledging = asyncio.create_task(pairs.acknowledge(talking))
    scene = Scene(job, link, talking)
    began = time.monotonic()
    await scene.phase("alone")
    of_readers = await beside_readers(job, link, scene, errors)

    of_flooders = wire.Errors()
    sent = [0]
    at_flood = wire.Connector(job.url, job.accounts, of_flooders, source=FLOODERS)
    first = 2 * count + job.params["slow_readers"] + 1
    floods = [asyncio.create_task(flood(at_flood, first + each, sent)) for each in range(job.params["flooders"])]
    await scene.phase("flood")
    for each in floods:
        each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await each
    acknowledging.cancel()
    pairs.disconnect(talking)
    return {
        "latencies": scene.latencies,
        "late": scene.late,
        "seconds": time.monotonic() - began,
        "readers": of_readers,
        "flooders": of_flooders,
        "flood_sent": sent[0],
        "errors": errors,
    }


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    params = run.params
    with run.server(2 * params["pairs"] + params["slow_readers"] + 1 + params["flooders"], settings={}) as server:
        generated = run.generate(drive, server)
        found, usage = generated.results[0], generated.usage
        tails = {name: percentiles.tail(found["latencies"][name]) for name in PHASES}
        before, after = usage["end reading"].rss_bytes, usage["end slow"].rss_bytes
        metrics: dict[str, result.Number | None] = {
            "slow_p99_ratio": _ratio(tails["slow"][1], tails["reading"][1]),
            "flood_p99_ratio": _ratio(tails["flood"][1], tails["alone"][1]),
            "rss_bytes_per_slow_reader": None
            if before is None or after is None
            else (after - before) / max(params["slow_readers"], 1),
            "flood_frames_sent": found["flood_sent"],
        }
        for name, tail in tails.items():
            metrics |= {f"{name}_p50_ms": tail[0], f"{name}_p99_ms": tail[1], f"{name}_p999_ms": tail[2]}
            metrics[f"{name}_generator_late_ms"] = found["late"][name] * 1000
            metrics[f"{name}_server_cpu_s"] = generated.cpu_s(f"begin {name}", f"end {name}")
        metrics |= _counted("slow readers", found["readers"]) | _counted("flooders", found["flooders"])
        total = sum(len(found["latencies"][name]) for name in PHASES)
        seconds = sum(usage[f"end {name}"].at - usage[f"begin {name}"].at for name in PHASES)
        return result.Figures(
            total / seconds,
            seconds,
            *tails["slow"],
            generated.cpu_s("begin alone", "end flood"),
            after,
            None,
            found["errors"],
            metrics,
        )


def _ratio(of: float | None, to: float | None) -> float | None:
    return None if of is None or not to else of / to


def _counted(who: str, what: Mapping[str, int]) -> dict[str, result.Number | None]:
    return {f"{who}: {kind}": count for kind, count in sorted(what.items())}


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    slow, flood = (show.short(figures.metrics[f"{who}_p99_ratio"]) for who in ("slow", "flood"))
    return f"p99 {slow} times beside slow readers, {flood} times beside a flood"


WORKLOAD = workload.Workload(
    "abuse",
    "honest pairs beside slow readers, then beside a flood",
    "honest messages delivered",
    "p99 at most 1.5 times beside slow readers, 2 times beside a flood",
    headline,
    8.0,
    {"pairs": 50, "rate": 500, "slow_readers": 1000, "flooders": 20},
    run,
)
