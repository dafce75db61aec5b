"""A living tree for each test."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest

from tests.actors.world import World, living


@pytest.fixture
async def world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    async with living(tmp_path / "data") as found:
        yield found
