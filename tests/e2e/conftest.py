"""A running node: inside the test's loop, which is quick, or as a process of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import config
import node
import server
from tests.e2e.bystanders import others_talk
from tests.e2e.process import Server
from tests.e2e.world import QUICK, World


@asynccontextmanager
async def running(folder: Path, flags: dict[str, str]) -> AsyncIterator[World]:
    """A node in this process, on any free port."""
    loaded = config.load(None, {}, QUICK | {"node.folder": str(folder)} | flags)
    world = World("")
    started = node.Node(loaded, server.open_store, lambda: time.time_ns() // 1_000_000 + world.ahead_ms)
    await started.start()
    host, port = started.gateway.addresses[0][:2]
    world.url = f"ws://{host}:{port}/ws"
    try:
        yield world
    finally:
        print(world.logs())  # shown for a test that failed
        await world.close()
        await started.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A node with quick settings."""
    async with running(tmp_path, {}) as started:
        yield started


@pytest.fixture
async def bystanders(world: World) -> AsyncIterator[None]:
    """Two who talk during the whole test, and have to notice nothing of it."""
    async with others_talk(world):
        yield


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, str]], Awaitable[World]]]:
    """Starts a node with more settings; it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def starter(flags: dict[str, str]) -> World:
            return await stack.enter_async_context(running(tmp_path, flags))

        yield starter


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, str]], Awaitable[Server]]]:
    """Starts a server as a process of its own, with more settings; it is stopped after the test."""
    async with AsyncExitStack() as stack:

        async def starter(flags: dict[str, str]) -> Server:
            server = Server(tmp_path, flags)
            stack.push_async_callback(server.close)
            await server.start()
            return server

        yield starter
