"""Nodes as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.program import Program, people, running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder that is not there yet."""
    return tmp_path / "data"


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    """A running node."""
    with running(folder) as started:
        yield started


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A running node for all tests of a file that leave it as they find it. It has the user asha."""
    with running(tmp_path_factory.mktemp("shared") / "data") as started:
        people(started, "asha")
        yield started
