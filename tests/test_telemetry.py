"""Telemetry: what a scrape shows, and what a log never does."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser

import telemetry


@pytest.fixture
def logs() -> Iterator[None]:
    """Puts logging back as it was: both libraries keep it per process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def scrape(node: telemetry.Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    families = parser.text_string_to_metric_families(node.exposition().decode())
    return {(sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples}


def test_a_scrape_shows_what_was_counted() -> None:
    node = telemetry.Telemetry()
    node.frames_in += 3
    node.errors["not_allowed"] += 2
    node.connections = lambda: 7
    node.actors = lambda: {"session": 4, "group": 1}
    seen = scrape(node)
    assert seen["kith_frames_in_total", ()] == 3
    assert seen["kith_errors_total", ("not_allowed",)] == 2
    assert seen["kith_connections", ()] == 7
    assert seen["kith_actors", ("session",)] == 4
    assert seen["kith_actors", ("group",)] == 1


def test_a_gauge_is_read_at_each_scrape() -> None:
    node, waiting = telemetry.Telemetry(), [1]
    node.writer_queue = lambda: len(waiting)
    assert scrape(node)["kith_writer_queue", ()] == 1
    waiting.append(2)
    assert scrape(node)["kith_writer_queue", ()] == 2


def test_what_was_never_counted_is_zero_and_asking_does_not_add_it() -> None:
    counts = telemetry.Tally()
    assert counts["never"] == 0
    assert counts == {}


def test_nodes_of_one_process_count_apart() -> None:
    one, other = telemetry.Telemetry(), telemetry.Telemetry()
    one.frames_in += 1
    one.closes["4000"] += 1
    one.commit_seconds.observe(0.1)
    assert other.frames_in == 0
    assert not other.closes
    assert other.commit_seconds.total == 0


def test_a_scrape_tells_the_memory_and_files_of_the_process() -> None:
    seen = scrape(telemetry.Telemetry())
    assert seen["process_resident_memory_bytes", ()] > 0
    assert seen["process_open_fds", ()] > 0


@given(st.lists(st.floats(0, 10, allow_nan=False), max_size=50))
def test_every_observation_stands_in_each_bucket_at_or_above_it(values: list[float]) -> None:
    histogram = telemetry.Histogram(telemetry.SECONDS)
    for value in values:
        histogram.observe(value)
    buckets = dict(histogram.cumulative())
    assert buckets.pop("+Inf") == len(values)
    for bound, count in buckets.items():
        assert count == sum(value <= float(bound) for value in values)
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.parametrize("name", ["token", "password", "secret", "credential", "new_password", "token_hash", "Secret"])
def test_a_field_with_a_secret_name_never_leaves_whatever_is_around_it(name: str) -> None:
    kept = telemetry.drop_secrets(None, "info", {"event": "x", name: "s3cr3t", "deep": {"list": [{name: "s3cr3t", "ok": 1}]}})
    assert kept == {"event": "x", "deep": {"list": [{"ok": 1}]}}


def test_json_logs_are_one_object_a_line_with_level_time_and_fields(logs: None) -> None:
    stream = io.StringIO()
    telemetry.start_logging("info", "json", stream)
    log = telemetry.logger("gateway").bind(device=7)
    log.info("connection_opened", stream=b"d\x01", password="s3cr3t")
    log.debug("not_shown")
    logging.getLogger("aiohttp.server").warning("said by a %s", "library")
    mine, foreign = map(json.loads, stream.getvalue().splitlines())
    assert mine.pop("timestamp").endswith("Z")
    assert mine == {"event": "connection_opened", "level": "info", "room": "gateway", "device": 7, "stream": "6401"}
    assert foreign["event"] == "said by a library"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_crash_shows_where_it_was_and_no_local_variable(logs: None, form: str) -> None:
    stream = io.StringIO()
    telemetry.start_logging("info", form, stream)
    log = telemetry.logger("auth")

    def crash(given: str) -> None:
        raise ValueError(len(given))

    try:
        crash("s3cr" + "3t")
    except ValueError:
        log.exception("hashing_failed")
    text = stream.getvalue()
    assert "hashing_failed" in text
    assert "in crash" in text
    assert "s3cr3t" not in text
