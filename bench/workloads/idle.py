"""`idle`: what a user costs who is connected and says nothing.

10,000 users are connected, let in and caught up. Then nothing happens for two heartbeats (50 s) but those: the server speaks to
a silent connection every 25 s, and the client answers. Without TLS.

`rate_per_s`: users let in a second while they came, which counts for nothing else. `bytes_per_message`: of a heartbeat and its
answer. Memory of a user (metric `bytes_per_user`): the server's resident memory at the end less that before the first came,
divided; CPU of a user (`cpu_us_per_user_s`): of these 50 s alone.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench import generators, result, show, wire, workload

#: Users that come in at the same time.
AT_ONCE = 128
PATIENCE_S = 60.0
#: Seconds after the last one came in, for what their coming has left to be done.
SETTLE_S = 2.0


class Silent(wire.Client):
    """Answers heartbeats."""

    __slots__ = ("caught_up", "heartbeats")

    heartbeats: int
    caught_up: asyncio.Future[None]

    def frame(self, number: int, items: list[Any]) -> None:
        if number == wire.CAUGHT_UP:
            self.caught_up.set_result(None)
        elif number == wire.HEARTBEAT:
            self.heartbeats += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.heartbeats = 0
        self.caught_up = asyncio.get_running_loop().create_future()
        super().connection_made(transport)


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    connector = wire.Connector(job.url, job.accounts, errors, AT_ONCE)
    await link.meet("empty")
    indexes = range(job.part, job.params["users"], job.parts)
    link.phase("connect", len(indexes))
    began = time.monotonic()
    users = await connector.open_all(Silent, indexes, lambda: link.progress(1))
    async with asyncio.timeout(PATIENCE_S):
        for user in users:
            await user.caught_up
    seconds = time.monotonic() - began
    await asyncio.sleep(min(SETTLE_S, job.seconds))

    await link.meet("begin")
    size, heartbeats = sum(user.bytes_in + user.bytes_out for user in users), sum(user.heartbeats for user in users)
    await link.watch("silence", job.seconds)
    await link.meet("end")
    size = sum(user.bytes_in + user.bytes_out for user in users) - size
    heartbeats = sum(user.heartbeats for user in users) - heartbeats
    for user in users:
        user.end()
    return {"seconds": seconds, "bytes": size, "heartbeats": heartbeats, "errors": errors}


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    count = run.params["users"]
    with run.server(count) as server:
        generated = run.generate(drive, server)
        found, usage = generated.results, generated.usage
        seconds = usage["end"].at - usage["begin"].at
        cpu = generated.cpu_s("begin", "end")
        before, after = usage["empty"].rss_bytes, usage["end"].rss_bytes
        heartbeats = sum(each["heartbeats"] for each in found)
        return result.Figures(
            count / max(each["seconds"] for each in found),
            seconds,
            server_cpu_s=cpu,
            server_rss_bytes=after,
            bytes_per_message=sum(each["bytes"] for each in found) / heartbeats if heartbeats else None,
            errors=sum((each["errors"] for each in found), wire.Errors()),
            metrics={
                "bytes_per_user": None if before is None or after is None else (after - before) / count,
                "cpu_us_per_user_s": None if cpu is None else cpu * 1e6 / count / seconds,
                "heartbeats_per_user": heartbeats / count,
            },
        )


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    memory, cpu = show.kib(figures.metrics["bytes_per_user"]), show.short(figures.metrics["cpu_us_per_user_s"])
    return f"{memory} and {cpu} µs of CPU a second for a user"


WORKLOAD = workload.Workload(
    "idle",
    "users connected and silent for two heartbeats",
    "users let in",
    "8 KiB and 2.2 µs of CPU a second for a user",
    headline,
    50.0,
    {"users": 10000},
    run,
    durable=None,
)
