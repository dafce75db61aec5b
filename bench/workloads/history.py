"""`history`: pages of the past, from a store that holds a million messages.

500 conversations of 2,000 messages are written in bulk. The node then starts on them; how long that takes, and how much memory
it has before anybody comes, stands among the metrics. 200 pages of 50 messages a second are asked for at random places
(half the time), each timed from the moment at which it was due until its end has arrived; then everybody asks for the next page
when one has come.

`rate_per_s`: pages in the second phase. Latency: of a page in the first. `bytes_per_message`: a message as it comes in a page.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Iterator
from typing import Any

from bench import archive, generators, pace, people, percentiles, process, result, show, wire, workload
from protocol import codec, messages
from storage.sqlite import bulk

ITEM = messages.number_of(messages.HistoryItem)
PAGE_END = messages.number_of(messages.PageEnd)
#: Asked at the same time in the second phase.
AT_ONCE = 16
#: Of one reader: so few that no page is cut because other answers wait (docs/protocol.md, Limits).
MOST_QUESTIONS = 4
PATIENCE_S = 10.0


class Reader(wire.Client):
    """Asks for pages of one conversation and checks that each is whole and in order."""

    __slots__ = ("_due", "_expects", "_items", "latencies", "on_page", "pages", "stream")

    def __init__(self, host: str, credential: messages.Credential, errors: wire.Errors, stream: bytes) -> None:
        super().__init__(host, credential, errors)
        self.stream = stream
        self.latencies: list[float] = []
        self.pages = 0
        self.on_page = self._nothing
        #: By request id: when it was due, and the seq of the next item.
        self._due: dict[int, float] = {}
        self._expects: dict[int, int] = {}
        self._items: dict[int, int] = {}

    def _nothing(self) -> None:
        """In an open loop a page causes nothing."""

    @property
    def waiting(self) -> int:
        return len(self._due)

    def ask(self, start: int, limit: int, due: float) -> None:
        """A page of `limit` messages from seq `start` on towards the past."""
        self.rid += 1
        self._due[self.rid] = due
        self._expects[self.rid] = start
        self._items[self.rid] = limit
        self.write(codec.encode(messages.FetchHistory(self.rid, self.stream, start, True, limit)))

    def frame(self, number: int, items: list[Any]) -> None:
        rid = items[1]
        if number == ITEM:
            if items[3] != self._expects[rid]:
                self.errors["item out of order"] += 1
            self._expects[rid] = items[3] - 1
            self._items[rid] -= 1
        elif number == PAGE_END or (number == wire.ERROR and rid in self._due):
            if number == PAGE_END and self._items[rid]:
                self.errors["page not whole"] += 1
            self.pages += 1
            self.latencies.append(time.monotonic() - self._due.pop(rid))
            self.on_page()


async def drive(job: generators.Job, link: generators.Link) -> dict[str, Any]:
    """The generator."""
    errors = wire.Errors()
    connector = wire.Connector(job.url, job.accounts, errors)
    pairs, size, limit = job.params["pairs"], job.params["messages"], job.params["page"]
    link.phase("connect", pairs)
    readers = []
    for each in range(pairs):
        stream = people.stream_of(people.Person(2 * each), people.Person(2 * each + 1))
        readers.append(await connector.open(functools.partial(Reader, stream=stream), 2 * each))
        link.progress(1)
    chance = random.Random(1)

    def ask(due: float) -> None:
        reader = chance.choice(readers)
        while reader.waiting >= MOST_QUESTIONS:
            reader = chance.choice(readers)
        reader.ask(chance.randint(limit, size), limit, due)

    watching = asyncio.create_task(link.watch("open loop", job.seconds / 2))
    await pace.busy(job.params["rate"], job.seconds / 2, ask)
    await drain(readers, errors)
    await watching
    latencies = [each for reader in readers for each in reader.latencies]

    running = True

    def next_page() -> None:
        if running:
            ask(time.monotonic())

    for reader in readers:
        reader.on_page = next_page
    for _ in range(min(AT_ONCE, MOST_QUESTIONS * pairs // 2)):
        next_page()
    await asyncio.sleep(min(0.5, job.seconds))
    await link.meet("begin")
    began, before = time.monotonic(), (sum(each.pages for each in readers), sum(each.bytes_in for each in readers))
    await link.watch("closed loop", job.seconds / 2)
    await link.meet("end")
    pages, size_in = sum(each.pages for each in readers) - before[0], sum(each.bytes_in for each in readers) - before[1]
    seconds = time.monotonic() - began
    running = False
    await drain(readers, errors)
    for reader in readers:
        reader.end()
    return {"latencies": latencies, "pages": pages, "bytes": size_in, "seconds": seconds, "errors": errors}


async def drain(readers: list[Reader], errors: wire.Errors) -> None:
    """Wait for the pages that were asked for; what does not come is an error."""
    end = time.monotonic() + PATIENCE_S
    while (waiting := sum(reader.waiting for reader in readers)) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    if waiting:
        errors["page not answered"] += waiting


def population(params: Any) -> Iterator[bulk.Record]:
    """The people, then what they said, ending now."""
    now = time.time_ns() // 1_000_000
    size = params["messages"]
    yield from people.records_of([people.Person(each) for each in range(2 * params["pairs"])], now)
    for each in range(params["pairs"]):
        past = archive.Past(people.Person(2 * each), people.Person(2 * each + 1))
        yield from past.say(size, now - size * archive.PACE_MS, snapshots=True)


def run(run: workload.Run) -> result.Figures:
    """Measure once."""
    pairs = run.params["pairs"]
    appends = 4 * pairs + 2 * pairs * -(-run.params["messages"] // archive.CHUNK)
    with run.server(2 * pairs, lambda: population(run.params), appends) as server:
        idle = server.rss_bytes()
        generated = run.generate(drive, server)
        found = generated.results[0]
        pages = max(found["pages"], 1)
        cpu = generated.cpu_s("begin", "end")
        return result.Figures(
            found["pages"] / found["seconds"],
            found["seconds"],
            *percentiles.tail(found["latencies"]),
            cpu,
            generated.usage["end"].rss_bytes,
            found["bytes"] / pages / run.params["page"],
            found["errors"],
            {
                "start_to_ready_s": server.seconds_to_ready if isinstance(server, process.OwnServer) else None,
                "idle_rss_bytes": idle,
                "server_cpu_us_per_page": None if cpu is None else cpu * 1e6 / pages,
            },
        )


def headline(figures: result.Figures) -> str:
    """What stands in the table."""
    ready, memory = show.short(figures.metrics["start_to_ready_s"]), show.mb(figures.metrics["idle_rss_bytes"])
    rate = show.count(figures.rate_per_s)
    return f"p99 {show.ms(figures.p99_ms)}, {rate} pages/s; ready in {ready} s; an idle node {memory}"


WORKLOAD = workload.Workload(
    "history",
    "pages of the past at random places in a million messages, and a start on them",
    "pages",
    "p99 5 ms; ready in 2 s; an idle node 80 MB",
    headline,
    10.0,
    {"pairs": 500, "messages": 2000, "page": 50, "rate": 200},
    run,
    durable=None,
)
