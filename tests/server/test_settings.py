"""Every setting is honoured: what nobody reads is not offered."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import config
import settings
import telemetry

pytestmark = pytest.mark.source

ROOT = Path(__file__).resolve().parents[2]
DECLARING = {"config.py", "settings.py"}
CALCULATING = {"connection_limit"}
"""What `config` makes of settings for others, beyond checking that they are possible."""
KEYS = [*config.describe(), *settings.declared(config.JwtIssuer, "jwt")]
NAMES = {"limits": {"limits", "limit"}, "jwt": {"each"}}
"""Names under which the code holds a section, where it is not the section's own."""


def read() -> Iterator[tuple[str, str]]:
    """(name of the object, attribute) of every attribute that the product reads."""
    # Checking a value is not honouring it, so what declares settings does not count.
    for room in ("*.py", "actors/*.py", "auth/*.py", "gateway/*.py"):
        for path in ROOT.glob(room):
            tree = ast.parse(path.read_text("utf-8"))
            if path.name in DECLARING:
                tree = ast.Module([each for each in tree.body if getattr(each, "name", "") in CALCULATING], [])
            for found in ast.walk(tree):
                if isinstance(found, ast.Attribute) and isinstance(found.ctx, ast.Load):
                    yield ast.unparse(found.value).rpartition(".")[2].lstrip("_"), found.attr


READ = set(read())


@pytest.mark.parametrize("each", KEYS, ids=[each.key for each in KEYS])
def test_a_setting_is_read_by_something(each: settings.Setting) -> None:
    names = NAMES.get(each.section, set()) | {each.section}
    assert any((name, each.name) in READ for name in names)


def test_a_setting_that_nobody_reads_would_be_found() -> None:
    assert ("limits", "heartbeat_ms") not in READ


def test_every_metric_that_the_manual_alerts_on_exists() -> None:
    named = set(re.findall(r"\bkith_[a-z0-9_]+", (ROOT / "docs" / "operations.md").read_text("utf-8")))
    counts = telemetry.Telemetry()
    counts.connections_refused["full"] = counts.limited["attempts"] = 1
    there = set(re.findall(r"^# TYPE (\S+)", counts.exposition().decode(), re.MULTILINE))
    assert named
    assert {each.removesuffix("_bucket") for each in named} <= there
