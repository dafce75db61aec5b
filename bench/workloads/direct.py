"""`direct`: how many messages one node carries between pairs of people, each stored before it is seen.

A closed loop: 50 pairs, each with 8 messages of 128 bytes in flight; when the receiver has one, the next is sent. Every message
is a WebSocket message of its own. Receivers acknowledge every 100 ms.

`rate_per_s`: messages delivered. Latency: from sending to receiving, at that load.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench import generators, pairs, result, show, wire, workload

#: Seconds before anything counts: conversations load, caches fill.
WARM_UP_S = 1.0


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    running = True

    def next_of(pair: pairs.Pair) -> None:
        if running:
            pair.sender.send(time.monotonic())

    async with pairs.talking(job, link, errors) as talking:
        for pair in talking:
            pair.on_delivered = lambda pair=pair: next_of(pair)  # type: ignore[misc]
            for _ in range(job.params["in_flight"]):
                next_of(pair)
        await asyncio.sleep(min(WARM_UP_S, job.seconds))
        await link.meet("begin")
        span = pairs.Span(talking)
        await link.watch("measure", job.seconds)
        await link.meet("end")
        counted = span.end()
        running = False
        await pairs.drain(talking)
        return {"counted": counted, "latencies": span.taken(), "errors": errors}


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    with run.server(2 * run.params["pairs"]) as server:
        generated = run.generate(drive, server)
        found = generated.results[0]
        counted: pairs.Counted = found["counted"]
        delivered = max(counted.delivered, 1)
        cpu = generated.cpu_s("begin", "end")
        metrics: dict[str, result.Number | None] = {
            "server_cpu_us_per_message": None if cpu is None else cpu * 1e6 / delivered,
            "bytes_up_per_message": counted.up / delivered,
            "bytes_down_per_message": counted.down / delivered,
            "generator_cpu_share": counted.generator_cpu_share,
        }
        return pairs.figures(counted, found["latencies"], found["errors"], cpu, generated.usage["end"], metrics)


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    return f"{show.count(figures.rate_per_s)}/s"


WORKLOAD = workload.Workload(
    "direct",
    "closed loop: pairs of people, messages in flight in each",
    "messages delivered",
    "15,000/s, goal 20,000/s",
    headline,
    10.0,
    {"pairs": 50, "in_flight": 8, "body_bytes": 128},
    run,
)
