"""What the node counts and what it logs: a leaf that every room may use and that knows none of them.

Counters are plain integers, ``telemetry.frames_in += 1``, because they are touched for every frame: an increment of a
`prometheus_client.Counter` takes a lock and ten times as long. A collector reads them when somebody asks. Each counter
belongs to one thread, the loop's unless its text says otherwise; nothing here locks.

Logs are structured: an event name and fields, never prose with values inside. `REDACTED` words never leave the node.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

import prometheus_client
import structlog
from prometheus_client import metrics_core
from prometheus_client.registry import Collector, CollectorRegistry

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
"""Of what `Telemetry.exposition` returns."""

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds for durations: from a sync of a fast disk (0.3 ms) to an await that counts as a hang (5 s)."""

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Upper bounds for how many share one commit, one write, one page."""

Gauge = Callable[[], float]
LabelledGauge = Callable[[], Mapping[str, float]]


class Tally(dict[str, int]):
    """Counts by label; what was never counted is 0. Labels are symbols of the code, never what a client sent."""

    def __missing__(self, label: str) -> int:
        return 0


class Histogram:
    """Observations sorted into buckets, without a lock: 0.2 µs each."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value, in the unit of the bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, observations up to it), ending with ``+Inf``, as Prometheus wants them."""
        buckets, running = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


def _nothing() -> float:
    return 0.0


def _nothing_labelled() -> Mapping[str, float]:
    return {}


def counter(text: str) -> Any:
    """A number that only grows."""
    return field(default=0, metadata={"text": text})


def tally(text: str, label: str) -> Any:
    """Numbers that only grow, by label."""
    return field(default_factory=Tally, metadata={"text": text, "label": label})


def histogram(text: str, bounds: tuple[float, ...]) -> Any:
    """How observations are spread."""
    return field(default_factory=lambda: Histogram(bounds), metadata={"text": text})


def gauge(text: str) -> Any:
    """A number that goes up and down: whoever knows it assigns a function that is called, on the loop, when asked."""
    return field(default=_nothing, metadata={"text": text})


def labelled_gauge(text: str, label: str) -> Any:
    """Such numbers by label; the function returns all of them."""
    return field(default=_nothing_labelled, metadata={"text": text, "label": label})


@dataclass(slots=True, eq=False)
class Telemetry:
    """Everything one node counts. The attribute's name with ``kith_`` before it is the metric's name."""

    # gateway
    connections: Gauge = gauge("Connections that are open now")
    connections_opened: int = counter("WebSocket connections accepted")
    connections_refused: Tally = tally("Connections refused before they were open", "reason")
    closes: Tally = tally("WebSocket connections closed by the server", "code")
    frames_in: int = counter("Frames received")
    frames_out: int = counter("Frames sent, each counted once per device")
    bytes_in: int = counter("Bytes received on WebSocket connections")
    bytes_out: int = counter("Bytes handed to the sockets of WebSocket connections")
    writes: int = counter("Writes to sockets; frames_out over writes says how well frames are joined")
    errors: Tally = tally("Errors answered to clients", "symbol")
    outbox_bytes: Gauge = gauge("Bytes that wait for devices that read slowly")
    outbox_refusals: int = counter("Durable offers refused because the outbox was full")
    ephemeral_dropped: int = counter("Ephemeral frames dropped for a slow reader")
    requests: Tally = tally("HTTP requests answered", "status")

    # actors
    actors: LabelledGauge = labelled_gauge("Actors that are loaded now", "kind")
    devices_behind: Gauge = gauge("Connected devices that are behind in at least one stream")
    mailbox_refusals: Tally = tally("Client commands refused by a full mailbox", "kind")
    actor_loads: Tally = tally("Actors started or woken", "kind")
    actor_sleeps: Tally = tally("Idle actors put to sleep", "kind")
    restarts: Tally = tally("Actors restarted by their supervisor after a crash", "kind")
    quarantines: Tally = tally("Keys put aside because their actor kept crashing", "kind")
    slow_handlers: Tally = tally("Handlers that were awaited for more than 5 s", "kind")
    loop_stalls: int = counter("Times the loop went without a tick for 1 s; counted by the watchdog's thread")
    resumes: int = counter("Devices that reached caught_up")

    # streams
    events_committed: int = counter("Events stored durably")
    messages_committed: int = counter("Messages among them")
    repeats: int = counter("Repeated commands answered from memory")
    deliveries: int = counter("Events offered to devices")
    appends_failed: int = counter("Appends that were refused by the store")
    appends_unknown: int = counter("Appends whose outcome was unknown; their streams were loaded again")
    stream_reloads: int = counter("Streams loaded again after a failed or unknown append")

    # storage
    commit_seconds: Histogram = histogram("Time of one durable commit, sync included", SECONDS)
    commit_appends: Histogram = histogram("Appends that shared one durable commit", SIZES)
    append_seconds: Histogram = histogram(
        "From the arrival of a commit's oldest append at the writer to its durability", SECONDS
    )
    read_seconds: Histogram = histogram("Time of one read, waiting for a reader included", SECONDS)
    writer_queue: Gauge = gauge("Appends that wait for the writer")
    storage_healthy: Gauge = gauge("1 while the store takes appends, else 0")
    storage_errors: Tally = tally("Errors of the store", "kind")
    checksum_errors: int = counter("Rows not served because their checksum was wrong")

    # accounts
    argon2_queue: Gauge = gauge("Passwords that wait to be hashed")
    argon2_refusals: int = counter("Hashes refused because the queue was full")
    logins: Tally = tally("Attempts to log in", "outcome")
    limited: Tally = tally("Commands and attempts refused by a rate limit", "limit")

    registry: CollectorRegistry = field(init=False)
    """This node's own, so that two nodes in one process (tests) do not mix."""

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Collector(self))
        prometheus_client.ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format, of type `CONTENT_TYPE`. Call it on the loop's thread."""
        return prometheus_client.generate_latest(self.registry)


class _Collector(Collector):
    """Reads the numbers of a `Telemetry` when Prometheus asks."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def collect(self) -> Iterator[metrics_core.Metric]:
        for each in dataclasses.fields(Telemetry):
            if each.metadata:
                value = getattr(self._telemetry, each.name)
                yield _metric(f"kith_{each.name}", each.metadata["text"], each.metadata.get("label"), value)


def _metric(name: str, text: str, label: str | None, value: Any) -> metrics_core.Metric:
    if isinstance(value, int):
        return metrics_core.CounterMetricFamily(name, text, value=value)
    if isinstance(value, Tally):
        counted = metrics_core.CounterMetricFamily(name, text, labels=[cast("str", label)])
        for symbol, count in value.items():
            counted.add_metric([symbol], count)
        return counted
    if isinstance(value, Histogram):
        return metrics_core.HistogramMetricFamily(name, text, buckets=value.cumulative(), sum_value=value.total)
    if label is None:
        return metrics_core.GaugeMetricFamily(name, text, value=value())
    measured = metrics_core.GaugeMetricFamily(name, text, labels=[label])
    for symbol, number in value().items():
        measured.add_metric([symbol], number)
    return measured


# --- logs -------------------------------------------------------------------------------------------------------------

Logger = structlog.typing.FilteringBoundLogger

REDACTED = ("token", "password", "secret", "credential")
"""A field whose name has one of these in it is dropped, at any depth: a log is read by more people than the store."""


def logger(room: str) -> Logger:
    """The logger of a room (``gateway``, ``actors.writer``). Bind what all its lines share: ``.bind(device=...)``."""
    return cast("Logger", structlog.get_logger(room=room))


def drop_secrets(_logger: Any, _method: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A structlog processor: the fields without those that `REDACTED` names, nested mappings and lists included."""
    return {name: _clean(value) for name, value in fields.items() if not _is_secret(name)}


def _is_secret(name: object) -> bool:
    return any(word in str(name).lower() for word in REDACTED)


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _clean(item) for name, item in value.items() if not _is_secret(name)}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return value.hex()  # stream ids
    return value


def start_logging(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send what the node and its libraries log from `level` on to `stream` (standard error).

    `form` is ``json``, one object a line, or ``console``, for people. Only the composition root calls this, once.
    """
    severity = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        drop_secrets,
    ]
    if form == "json":
        # Tracebacks without the values of local variables: a password may be among them.
        last: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        target = stream or sys.stderr
        last = [
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            )
        ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=severity, handlers=[handler], force=True)
