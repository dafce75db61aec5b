"""`storm`: everybody comes back at once, and has missed something.

5,000 users have 50 conversations each; in 5 of them 10 messages wait. All are connected, have been sent what waits but not
acknowledged it, and are cut off in one moment. Then they return, all within one second whatever the server makes of it, as
after a link that broke: connection, upgrade, token, the missed events, `caught_up`, acknowledgement.

`rate_per_s`: users, divided by the time from the first one's return until the last one has caught up. Latency: from a user's
connecting to `caught_up`, most of it waiting for a turn. `bytes_per_message`: all bytes of the return for each missed event.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bench import archive, generators, people, percentiles, result, show, wire, workload
from protocol import codec, messages
from storage.sqlite import bulk

#: Users that come in at the same time on the first visit, which is not measured.
AT_ONCE = 200
PATIENCE_S = 60.0
#: Seconds between the cut and the return: the server has to see 5,000 ends first.
APART_S = 1.0


class User(wire.Client):
    """Comes back. `caught_up` is done when it is; `events` counts what came."""

    __slots__ = ("_seqs", "_stays_silent", "caught_up", "events")

    def __init__(self, host: str, credential: messages.Credential, errors: wire.Errors, stays_silent: bool) -> None:
        super().__init__(host, credential, errors)
        self._stays_silent = stays_silent
        self._seqs: dict[bytes, int] = {}
        self.events = 0
        self.caught_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def frame(self, number: int, items: list[Any]) -> None:
        if number == wire.EVENT:
            stream, seq = items[2], items[3]
            if self._seqs.get(stream, seq - 1) != seq - 1:
                self.errors["event out of order"] += 1
            self._seqs[stream] = seq
            self.events += 1
        elif number == wire.CAUGHT_UP and not self.caught_up.done():
            if self._seqs and not self._stays_silent:
                self.write(codec.encode(messages.Ack(0, tuple(self._seqs.items()))))
            self.caught_up.set_result(None)

    def closed(self) -> None:
        if not self.caught_up.done():
            self.caught_up.set_exception(ConnectionError("closed before it caught up"))
            self.caught_up.exception()


async def come(
    job: generators.Job, link: generators.Link, errors: wire.Errors, within_s: float | None
) -> tuple[list[User], list[float]]:
    """Everybody of this process connects and catches up; how long each took. `within_s`: they return, all in this time,
    whatever the server makes of it; None: they come for the first time, AT_ONCE, and do not acknowledge."""
    is_first = within_s is None
    indexes = range(job.part, job.params["users"], job.parts)
    places = asyncio.Semaphore(max(AT_ONCE // job.parts, 1) if is_first else len(indexes))
    connector = wire.Connector(job.url, job.accounts, errors, len(indexes))
    expected = job.params["behind"] * job.params["events"]
    latencies = []

    async def one(index: int) -> User:
        await asyncio.sleep((within_s or 0.0) * index / job.params["users"])
        async with places:
            began = time.monotonic()
            user = await connector.open(functools.partial(User, stays_silent=is_first), index)
            async with asyncio.timeout(PATIENCE_S):
                await user.caught_up
            latencies.append(time.monotonic() - began)
        if user.events != expected:
            errors["events missing or twice"] += abs(expected - user.events)
        link.progress(1)
        return user

    link.phase("first visit" if is_first else "return", len(indexes))
    return list(await asyncio.gather(*(one(index) for index in indexes))), latencies


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    users, _ = await come(job, link, errors, None)
    await link.meet("connected")
    for user in users:
        user.end()
    await asyncio.sleep(APART_S)

    await link.meet("begin")
    began, cpu = time.monotonic(), time.process_time()
    users, latencies = await come(job, link, errors, job.params["within_ms"] / 1000)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    await link.meet("end")
    size = sum(user.bytes_in + user.bytes_out for user in users)
    events = sum(user.events for user in users)
    for user in users:
        user.end()
    return {
        "latencies": latencies,
        "generator_cpu": cpu / seconds,
        "bytes": size,
        "events": events,
        "errors": errors,
    }


def population(params: Mapping[str, int]) -> Iterator[bulk.Record]:
    """User i talks with i + 1 .. i + half (in a ring); of the first few of those something waits for i."""
    now = time.time_ns() // 1_000_000
    count, half, behind = params["users"], params["conversations"] // 2, params["behind"]
    everybody = [people.Person(each) for each in range(count)]
    for record in people.records_of(everybody, now):
        if not isinstance(record, bulk.Login):
            yield record
    waiting = []
    for index, person in enumerate(everybody):
        for distance in range(1, half + 1):
            past = archive.Past(person, everybody[(index + distance) % count])
            yield from past.say(1, now - 3_600_000)
            if distance <= behind:
                waiting.append(past)
    for person in everybody:
        yield people.login_of(person, now)
    for past in waiting:
        yield from past.say(params["events"], now - 60_000, sender=1)
        yield past.acknowledged(by=1)


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    params = run.params
    half = params["conversations"] // 2
    if not (params["behind"] <= half and params["users"] > 2 * half):
        raise workload.NotPossible("storm: behind in at most half of the conversations, and more users than conversations")
    total = params["users"] * (2 + half + 2 * params["behind"])
    with run.server(params["users"], lambda: population(params), total) as server:
        generated = run.generate(drive, server)
        found = generated.results
        seconds = generated.usage["end"].at - generated.usage["begin"].at
        events = max(sum(each["events"] for each in found), 1)
        cpu = generated.cpu_s("begin", "end")
        return result.Figures(
            params["users"] / seconds,
            seconds,
            *percentiles.tail([one for each in found for one in each["latencies"]]),
            cpu,
            generated.usage["end"].rss_bytes,
            sum(each["bytes"] for each in found) / events,
            sum((each["errors"] for each in found), wire.Errors()),
            {
                "events_per_s": events / seconds,
                "server_cpu_us_per_user": None if cpu is None else cpu * 1e6 / params["users"],
                "generator_cpu_share": sum(each["generator_cpu"] for each in found),
            },
        )


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    return f"{show.count(figures.rate_per_s)} users/s, the last one after {show.short(figures.seconds)} s"


WORKLOAD = workload.Workload(
    "storm",
    "users who are behind are cut off, and all return within one second",
    "users caught up",
    "1,000 users/s",
    headline,
    0.0,
    {"users": 5000, "conversations": 50, "behind": 5, "events": 10, "within_ms": 1000},
    run,
)
