"""`direct`: how many messages one node carries between pairs of people, each stored before it is seen.

A closed loop: 50 pairs, each with 8 messages of 128 bytes in flight; when the receiver has one, the next is sent. Every message
is a WebSocket message of its own. Receivers acknowledge every 100 ms.

`rate_per_s`: messages delivered. Latency: from sending to receiving, at that load.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench import generators, pairs, percentiles, result, show, wire, workload

#: Seconds before anything counts: conversations load, caches fill.
WARM_UP_S = 1.0


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    connector = wire.Connector(job.url, job.accounts, errors)
    indexes = [(2 * each, 2 * each + 1) for each in range(job.params["pairs"])]
    link.phase("connect", len(indexes))
    talking = await pairs.connect(connector, indexes, errors, job.params["body_bytes"])
    acknowledging = asyncio.create_task(pairs.acknowledge(talking))
    running = True

    def next_of(pair: pairs.Pair) -> None:
        if running:
            pair.sender.send(time.monotonic())

    for pair in talking:
        pair.on_delivered = lambda pair=pair: next_of(pair)  # type: ignore[misc]
        for _ in range(job.params["in_flight"]):
            next_of(pair)
    await asyncio.sleep(min(WARM_UP_S, job.seconds))

    await link.meet("begin")
    began, cpu = time.monotonic(), time.process_time()
    before = sum(pair.delivered for pair in talking)
    up_before, down_before = pairs.wire_bytes(talking)
    for pair in talking:
        pair.since = began
    await link.watch("measure", job.seconds)
    await link.meet("end")
    delivered = sum(pair.delivered for pair in talking) - before
    up, down = pairs.wire_bytes(talking)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu

    running = False
    await pairs.drain(talking)
    acknowledging.cancel()
    pairs.disconnect(talking)
    return {
        "delivered": delivered,
        "seconds": seconds,
        "latencies": [each for pair in talking for each in pair.latencies],
        "up": up - up_before,
        "down": down - down_before,
        "generator_cpu": cpu / seconds,
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
            (found["up"] + found["down"]) / delivered,
            found["errors"],
            {
                "server_cpu_us_per_message": None if cpu is None else cpu * 1e6 / delivered,
                "bytes_up_per_message": found["up"] / delivered,
                "bytes_down_per_message": found["down"] / delivered,
                "generator_cpu_share": found["generator_cpu"],
            },
        )


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
