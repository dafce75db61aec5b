"""The model server behind a real WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol import codes
from tests.client import model


class Node:
    """`server`: the model. `url`: where it listens. `sockets`: who is connected, the newest last."""

    def __init__(self, server: model.Server) -> None:
        self.server = server
        self.url = ""
        self.sockets: list[ServerConnection] = []
        self.links: list[model.Link] = []
        self.deaf = False  # accept, and say nothing
        self._flushing: dict[int, asyncio.Event] = {}

    async def handle(self, socket: ServerConnection) -> None:
        link = self.server.connect()
        self.sockets.append(socket)
        self.links.append(link)
        more = self._flushing[id(link)] = asyncio.Event()
        writer = asyncio.create_task(self._write(socket, link, more))
        try:
            async for data in socket:
                assert isinstance(data, bytes)
                if not self.deaf:
                    link.receive(data)
                    self.flush()
        except ConnectionClosed:
            pass
        finally:
            link.cut()
            self.sockets.remove(socket)
            self.links.remove(link)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    def flush(self) -> None:
        """Deliver what the model has said."""
        for more in self._flushing.values():
            more.set()

    async def _write(self, socket: ServerConnection, link: model.Link, more: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                out, link.out = link.out, []
                for frame in out:
                    await socket.send(frame)
                if link.closed is not None:
                    await socket.close(link.closed.code, link.closed.text)
                    return
                if not link.out:
                    more.clear()
                    await more.wait()

    def cut(self) -> None:
        """Cut every connection without a word."""
        for socket in self.sockets:
            socket.transport.abort()

    async def close(self, reason: codes.Close) -> None:
        for socket in list(self.sockets):
            await socket.close(reason.code, reason.text)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    found = Node(model.Server())
    protocol = Subprotocol("kith.v1.msgpack")
    async with serve(found.handle, "127.0.0.1", 0, subprotocols=[protocol], compression=None) as listener:
        port = listener.sockets[0].getsockname()[1]
        found.url = f"ws://127.0.0.1:{port}/ws"
        yield found
