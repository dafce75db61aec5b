"""`latency`: how long a message takes, at a load that a node carries easily.

An open loop: 2,000 messages a second are due at equal distances, over 50 pairs in turn, whatever the server does. Each is timed
from the moment at which it was due, so that a stall of the server (or of the generator) counts for every message that it held
up, until the receiver has it. The generator does not sleep in between: a timer's millisecond would be part of every figure.

`rate_per_s`: messages delivered; it should be the rate that was asked for. Latency: from due to received.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench import generators, pace, pairs, result, show, wire, workload

WARM_UP_S = 1.0


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    rate = job.params["rate"]
    async with pairs.talking(job, link, errors) as talking:
        await pace.busy(rate, min(WARM_UP_S, job.seconds), pairs.in_turn(talking))
        await link.meet("begin")
        span = pairs.Span(talking)
        watching = asyncio.create_task(link.watch("measure", job.seconds))
        late = await pace.busy(rate, job.seconds, pairs.in_turn(talking))
        counted = span.end()
        await link.meet("end")
        await pairs.drain(talking)
        await watching
        return {"counted": counted, "latencies": span.taken(), "late": late, "errors": errors}


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    with run.server(2 * run.params["pairs"]) as server:
        generated = run.generate(drive, server)
        found = generated.results[0]
        counted: pairs.Counted = found["counted"]
        cpu = generated.cpu_s("begin", "end")
        metrics: dict[str, result.Number | None] = {
            "max_ms": max(found["latencies"], default=0.0) * 1000,
            "generator_late_ms": found["late"] * 1000,
            "server_cpu_share": None if cpu is None else cpu / counted.seconds,
        }
        return pairs.figures(counted, found["latencies"], found["errors"], cpu, generated.usage["end"], metrics)


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    return f"p50 {show.ms(figures.p50_ms)}, p99 {show.ms(figures.p99_ms)}, p99.9 {show.ms(figures.p999_ms)}"


WORKLOAD = workload.Workload(
    "latency",
    "open loop: messages due at a fixed rate, timed from when they were due",
    "messages delivered",
    "p50 3, p99 15, p99.9 50 ms",
    headline,
    10.0,
    {"rate": 2000, "pairs": 50, "body_bytes": 128},
    run,
)
