"""`abuse`: what honest people notice of those who misbehave.

50 honest pairs exchange 500 messages a second (open loop, timed from when each was due) while one thing after the other goes
on, each for the same time and measured from half a second after it began, on a node with its usual limits:

    alone    nothing else
    reading  1,000 people are written to, 200 messages of 1 KiB a second, one after the other; all are in a group where
             something is said every four seconds; they read all of it
    slow     the same 1,000 have stopped reading, were sent in the group all that a node gives a device that does not
             acknowledge, and are written to further
    flood    20 connections from another address send messages as fast as they can; refused, they go on; closed, they return

Everybody else lives in a process of their own. It shares the generator's core and gives way whenever one of the honest has
something to do, so that what the honest wait for is the server. Where that failed (messages sent later, in 1 of 100, than all
that they take alone), the metric `generator_too_late` counts the phases, and the table says so.

`rate_per_s`: honest messages delivered, over all four. Latency: of honest messages beside slow readers. Metrics: p99 of each
phase; `slow_p99_ratio_to_reading`, what *not* reading adds to the same traffic; `slow_p99_ratio_to_alone`, what both add;
`flood_p99_ratio_to_alone`; `rss_bytes_per_slow_reader`, what the node's memory grew by for each, kernel buffers apart. What
floods are answered and what happens to slow readers is no error, and stands there too; what happens to the honest is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import itertools
import time
from collections.abc import Mapping
from typing import Any

from bench import flooder, generators, machine, pace, pairs, percentiles, result, show, wire, workload
from bench.workloads import group
from protocol import codec, ids, messages

#: Addresses of this machine, so that limits per address hit those who deserve it.
FLOODERS = "127.0.0.2"
READERS = "127.0.0.3"
#: Bytes of a slow reader's receive buffer, so that not reading is felt at the server and not kept by the kernel.
RECEIVE_BUFFER = 4096
#: What the readers are written: bytes, messages a second to one after the other, seconds between two in their group. (A message
#: to a thousand at once holds up everybody for a moment; that is what `group` measures. Here it falls on so few honest messages
#: that p99 does not see it.)
SPEECH_BYTES = 1024
LETTERS_S = 200
SPEECH_EVERY_S = 4.0
#: Sent to those who do not read, at first: twice what a device is given without acknowledging it (256 KiB).
FILL_BYTES = 8192
FILL = 64
PHASES = ("alone", "reading", "slow", "flood")
#: Seconds of a phase before anything counts.
WARM_UP_S = 0.5
#: Processes: the honest, everybody else.
PARTS = 2


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


async def around(link: generators.Link, phase: str, seconds: float) -> None:
    """Everybody else's side of a phase: it goes on while the honest are measured."""
    await link.meet(f"ready {phase}")
    await link.meet(f"begin {phase}")
    await link.watch(phase, seconds)
    await link.meet(f"end {phase}")


async def honest(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator of the honest pairs: how long messages took, and how late they were sent, by phase."""
    errors = wire.Errors()
    rate = job.params["rate"]
    latencies, late = {}, {}
    async with pairs.talking(job, link, errors) as talking:
        for phase in PHASES:
            await link.meet(f"ready {phase}")
            await pace.woken(rate, min(WARM_UP_S, job.seconds), pairs.in_turn(talking))
            await link.meet(f"begin {phase}")
            span = pairs.Span(talking)
            watching = asyncio.create_task(link.watch(phase, job.seconds))
            late[phase] = await pace.woken(rate, job.seconds, pairs.in_turn(talking))
            await pairs.drain(talking)
            await link.meet(f"end {phase}")
            latencies[phase] = span.taken()
            await watching
    return {"latencies": latencies, "late": late, "errors": errors}


async def readers(job: generators.Job, link: generators.Link, errors: wire.Errors) -> wire.Errors:
    """Those who read and then do not, and who writes to them; what happened to them when they did not."""
    count, first = job.params["slow_readers"], 2 * job.params["pairs"]
    of_readers = wire.Errors()
    crowd = group.Crowd()
    connector = wire.Connector(job.url, job.accounts, of_readers, source=READERS, receive_buffer=RECEIVE_BUFFER)
    link.phase("connect readers", count / job.parts)  # the other part has nothing to do
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
    await around(link, "reading", job.seconds)
    acknowledging.cancel()
    errors.update(of_readers)
    of_readers.clear()

    for member in crowd.members:
        member.transport.pause_reading()
    link.phase("fill", FILL / job.parts)
    sender.resize(FILL_BYTES)
    for _ in range(FILL):
        sender.send()
        await asyncio.sleep(0.02)
        link.progress(1)
    sender.resize(SPEECH_BYTES)
    await around(link, "slow", job.seconds)
    for each in speaking:
        each.cancel()
    await sender.answered()
    sender.end()
    for member in crowd.members:
        member.end()
    return of_readers


async def others(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator of everybody else."""
    machine.give_way()
    errors = wire.Errors()
    await around(link, "alone", job.seconds)
    of_readers = await readers(job, link, errors)
    of_flooders = wire.Errors()
    sent = [0]
    connector = wire.Connector(job.url, job.accounts, of_flooders, source=FLOODERS)
    first = 2 * job.params["pairs"] + job.params["slow_readers"] + 1
    floods = [asyncio.create_task(flooder.flood(connector, first + each, sent)) for each in range(job.params["flooders"])]
    await around(link, "flood", job.seconds)
    for each in floods:
        each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await each
    return {"readers": of_readers, "flooders": of_flooders, "flood_sent": sent[0], "errors": errors}


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """One of the two generators."""
    return await (others(job, link) if job.part else honest(job, link))


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    params = run.params
    remote = run.around.remote
    if remote is not None and not _is_loopback(wire.endpoint(remote.url).host):
        raise workload.NotPossible("abuse: those who misbehave need addresses of their own, so a server on 127.0.0.1")
    with run.server(2 * params["pairs"] + params["slow_readers"] + 1 + params["flooders"], settings={}) as server:
        generated = run.generate(drive, server, PARTS)
        (found, other), usage = generated.results, generated.usage
        tails = {phase: percentiles.tail(found["latencies"][phase]) for phase in PHASES}
        late = {phase: percentiles.tail(found["late"][phase]) for phase in PHASES}
        before, after = usage["end reading"].rss_bytes, usage["end slow"].rss_bytes
        p99 = {phase: tail[1] for phase, tail in tails.items()}
        metrics: dict[str, result.Number | None] = {
            "slow_p99_ratio_to_reading": _ratio(p99["slow"], p99["reading"]),
            "slow_p99_ratio_to_alone": _ratio(p99["slow"], p99["alone"]),
            "flood_p99_ratio_to_alone": _ratio(p99["flood"], p99["alone"]),
            "generator_too_late": sum(not _is_in_time(late[phase][1], p99["alone"]) for phase in PHASES),
            "rss_bytes_per_slow_reader": None
            if before is None or after is None
            else (after - before) / max(params["slow_readers"], 1),
            "flood_frames_sent": other["flood_sent"],
        }
        for phase, tail in tails.items():
            metrics |= {f"{phase}_p50_ms": tail[0], f"{phase}_p99_ms": tail[1], f"{phase}_p999_ms": tail[2]}
            metrics[f"{phase}_generator_late_p99_ms"] = late[phase][1]
            metrics[f"{phase}_generator_late_max_ms"] = max(found["late"][phase]) * 1000
            metrics[f"{phase}_server_cpu_s"] = generated.cpu_s(f"begin {phase}", f"end {phase}")
        metrics |= _counted("slow readers", other["readers"]) | _counted("flooders", other["flooders"])
        total = sum(len(found["latencies"][phase]) for phase in PHASES)
        seconds = sum(usage[f"end {phase}"].at - usage[f"begin {phase}"].at for phase in PHASES)
        return result.Figures(
            total / seconds,
            seconds,
            *tails["slow"],
            generated.cpu_s("begin alone", "end flood"),
            after,
            None,
            found["errors"] + other["errors"],
            metrics,
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network("127.0.0.0/8")
    except ValueError:
        return host == "localhost"


def _is_in_time(late_p99_ms: float | None, alone_p99_ms: float | None) -> bool:
    return late_p99_ms is None or alone_p99_ms is None or late_p99_ms <= alone_p99_ms


def _ratio(of: float | None, to: float | None) -> float | None:
    return None if of is None or not to else of / to


def _counted(who: str, what: Mapping[str, int]) -> dict[str, result.Number | None]:
    return {f"{who}: {kind}": count for kind, count in sorted(what.items())}


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    metrics = figures.metrics
    p99 = {phase: show.ms(metrics[f"{phase}_p99_ms"]) for phase in PHASES}
    to_reading, to_alone, of_flood = (
        show.short(metrics[ratio])
        for ratio in ("slow_p99_ratio_to_reading", "slow_p99_ratio_to_alone", "flood_p99_ratio_to_alone")
    )
    late = "; the generator was late: NOT A RESULT" if metrics["generator_too_late"] else ""
    return (
        f"p99 {p99['alone']} alone; beside slow readers {p99['slow']}, {to_reading} times that beside reading ones"
        f" and {to_alone} times alone; beside a flood {p99['flood']}, {of_flood} times alone{late}"
    )


WORKLOAD = workload.Workload(
    "abuse",
    "honest pairs beside slow readers, then beside a flood",
    "honest messages delivered",
    "p99 at most 1.5 times beside slow readers, 2 times beside a flood",
    headline,
    8.0,
    {"pairs": 50, "rate": 500, "body_bytes": 128, "slow_readers": 1000, "flooders": 20},
    run,
)
