"""A store per back end, empty at the start of each test."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from storage import interfaces
from tests.storage import backends


@pytest.fixture(params=backends.BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> backends.Backend:
    found: backends.Backend = request.param
    return found


@pytest_asyncio.fixture
async def store(backend: backends.Backend, tmp_path: pathlib.Path) -> AsyncIterator[interfaces.Store]:
    opened = await backend.open(tmp_path / "data")
    yield opened
    await opened.close()
