"""A node inside the test: how it drains, how it gives up, and what a failed start leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import arguments
import config
import node
import server
from actors.runtime import errors
from actors.runtime.supervisor import WhichChildren
from storage import errors as storage_errors
from tests.server.program import BY_REGISTRATION, GOING_AWAY, HELLO, PASSWORD, QUICK, SEND, SENT, SUBPROTOCOL, WELCOME


def loaded(folder: Path, **more: str) -> config.Config:
    flags: dict[str, Any] = dict(each.split("=", 1) for each in QUICK)
    return config.load(None, {}, flags | {"node.folder": folder} | more)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[node.Node]:
    """A node, stopped at the end unless the test did it."""
    started = node.Node(loaded(tmp_path), server.open_store)
    await started.start()
    yield started
    if not started.ended.is_set() or started.failure is not None:
        await started.stop()


async def frames(client: ClientConnection) -> AsyncIterator[list[Any]]:
    """Until the server closes."""
    try:
        async for message in client:
            data = msgpack.unpackb(message)
            for frame in data if isinstance(data[0], list) else [data]:
                yield frame
    except ConnectionClosed:
        pass


async def entered(running: node.Node) -> tuple[ClientConnection, int]:
    """A connected device, and its user."""
    client = await connect(running.url, subprotocols=[SUBPROTOCOL], compression=None)  # type: ignore[list-item]
    credential = [BY_REGISTRATION, "asha", PASSWORD, bytes(16), "phone"]
    await client.send(msgpack.packb([HELLO, 1, 1, 1, credential, "test"]))
    async for frame in frames(client):
        if frame[0] == WELCOME:
            return client, frame[4]
    raise AssertionError("not let in")


async def test_a_stop_waits_for_what_was_taken_to_be_durable_and_answers_it_before_it_closes(running: node.Node) -> None:
    client, user = await entered(running)
    taken, durable = asyncio.Event(), asyncio.Event()
    commit = running.store.commit

    async def held_up(batch: Any) -> Any:
        taken.set()
        await durable.wait()
        return await commit(batch)

    running.store.commit = held_up  # type: ignore[method-assign]
    stream = b"d" + 2 * user.to_bytes(7, "big")
    await client.send(msgpack.packb([SEND, 7, 1, stream, [1, "hi"]]))
    await taken.wait()
    stopping = asyncio.create_task(running.stop())
    await asyncio.sleep(0)  # its first step
    assert running.gateway.hub.is_stopping
    assert list(running.problems()) == ["the node is starting or stopping"]
    durable.set()
    await stopping
    numbers = [frame[0] async for frame in frames(client)]
    assert [each for each in numbers if each in (SENT, GOING_AWAY)] == [SENT, GOING_AWAY]
    assert client.close_code == 1012


async def test_a_stop_does_not_wait_longer_than_it_may(tmp_path: Path) -> None:
    started = node.Node(loaded(tmp_path, **{"node.stop_timeout_s": "0"}), server.open_store)
    await started.start()
    client, _ = await entered(started)
    await started.stop()
    assert started.ended.is_set()
    await client.close()


async def crash_the_writer(running: node.Node) -> None:
    """More often than the topmost supervisor allows."""
    while running.failure is None:
        writer = running.runtime.registry.whereis("writer")
        if writer is not None:
            writer.kill()
        try:
            await running._top.ask(WhichChildren())
        except errors.ActorDeadError:
            await running.ended.wait()


async def test_a_node_whose_writer_keeps_crashing_gives_up_and_says_so(running: node.Node) -> None:
    client, _ = await entered(running)
    await crash_the_writer(running)
    assert isinstance(running.failure, errors.RestartIntensityExceeded)
    assert "the node has given up" in list(running.problems())
    await running.stop()
    assert [frame[0] async for frame in frames(client)][-1] == GOING_AWAY


async def test_the_program_of_a_node_that_gave_up_exits_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[node.Node] = []
    started = asyncio.Event()

    class Observed(node.Node):
        async def start(self) -> None:
            await super().start()
            made.append(self)
            started.set()

    monkeypatch.setattr(node, "Node", Observed)
    serving = asyncio.create_task(server._serve(loaded(tmp_path), written=False))
    await started.wait()
    await crash_the_writer(made[0])
    assert await serving == arguments.GAVE_UP == 3


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as holder:
        port = holder.sockets[0].getsockname()[1]
        for _ in range(2):  # the second would find the folder in use if the first had kept it
            with pytest.raises(OSError, match=str(port)):
                await node.Node(loaded(tmp_path, **{"listener.port": str(port)}), server.open_store).start()
    assert not (tmp_path / "kith.sock").exists()
    started = node.Node(loaded(tmp_path), server.open_store)
    await started.start()
    with pytest.raises(storage_errors.Unavailable, match="in use"):
        await node.Node(loaded(tmp_path), server.open_store).start()
    assert (tmp_path / "kith.sock").exists()
    await started.stop()
