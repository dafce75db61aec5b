"""Fixtures of the tests of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.sqlite import store
from tests.auth import world


@pytest.fixture
async def inner(tmp_path: Path) -> AsyncIterator[store.SQLiteStore]:
    opened = await store.open_store(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def door(inner: store.SQLiteStore) -> AsyncIterator[world.Door]:
    made = world.Door(inner)
    yield made
    made.passwords.close()
