"""`latency`: how long a message takes, at a load that a node carries easily.

An open loop: 2,000 messages a second are due at equal distances, over 50 pairs in turn, whatever the server does. Each is timed
from the moment at which it was due, so that a stall of the server (or of the generator) counts for every message that it held
up, until the receiver has it. The generator does not sleep in between: a timer's millisecond would be part of every figure.

`rate_per_s`: messages delivered; it should be the rate that was asked for. Latency: from due to received.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench import generators, pairs, percentiles, result, show, wire, workload

WARM_UP_S = 1.0


async def send_at(rate: float, seconds: float, talking: list[pairs.Pair]) -> float:
    """Send `rate` messages a second for so long, the pairs in turn, each when it is due. Keeps the core busy.

    Returns the longest time (s) that the generator itself was late, because it had much to do or had lost its core."""
    began = last = time.monotonic()
    total = int(rate * seconds)
    sent = 0
    late = 0.0
    while sent < total:
        now = time.monotonic()
        late, last = max(late, now - last), now
        while sent < total and (due := began + sent / rate) <= now:
            talking[sent % len(talking)].sender.send(due)
            sent += 1
        await asyncio.sleep(0)
    return late


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    connector = wire.Connector(job.url, job.accounts, errors)
    indexes = [(2 * each, 2 * each + 1) for each in range(job.params["pairs"])]
    link.phase("connect", len(indexes))
    talking = await pairs.connect(connector, indexes, errors, job.params["body_bytes"])
    acknowledging = asyncio.create_task(pairs.acknowledge(talking))
    rate = job.params["rate"]
    await send_at(rate, min(WARM_UP_S, job.seconds), talking)

    await link.meet("begin")
    began = time.monotonic()
    before = sum(pair.delivered for pair in talking)
    up_before, down_before = pairs.wire_bytes(talking)
    for pair in talking:
        pair.since = began
    watching = asyncio.create_task(link.watch("measure", job.seconds))
    late = await send_at(rate, job.seconds, talking)
    seconds = time.monotonic() - began
    await link.meet("end")
    await pairs.drain(talking)
    delivered = sum(pair.delivered for pair in talking) - before
    up, down = pairs.wire_bytes(talking)

    await watching
    acknowledging.cancel()
    pairs.disconnect(talking)
    return {
        "delivered": delivered,
        "seconds": seconds,
        "latencies": [each for pair in talking for each in pair.latencies],
        "bytes": up + down - up_before - down_before,
        "late": late,
        "errors": errors,
    }


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    with run.server(2 * run.params["pairs"]) as server:
        generated = run.generate(drive, server)
        found = generated.results[0]
        delivered = max(found["delivered"], 1)
        cpu = generated.cpu_s("begin", "end")
        return result.Figures(
            found["delivered"] / found["seconds"],
            found["seconds"],
            *percentiles.tail(found["latencies"]),
            cpu,
            generated.usage["end"].rss_bytes,
            found["bytes"] / delivered,
            found["errors"],
            {
                "max_ms": max(found["latencies"], default=0.0) * 1000,
                "generator_late_ms": found["late"] * 1000,
                "server_cpu_share": None if cpu is None else cpu / found["seconds"],
            },
        )


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
