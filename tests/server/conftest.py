"""Nodes as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.program import Program, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    """A running node."""
    with running(folder) as started:
        yield started
