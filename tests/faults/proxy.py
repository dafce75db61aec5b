"""A TCP proxy that misbehaves: it cuts connections at any byte, hands bytes on in pieces of any size, or stops to read."""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import TracebackType

#: Bytes of one read. Small, so that a proxy that stalls holds little, and the kernel's buffers fill.
CHUNK = 16 * 1024


class Proxy:
    """Listens on a port of its own for as long as it is entered; `target` may change, for connections to come.

    `cut_between`: each connection is cut after so many bytes, drawn from this range, up and down together. `pieces`: bytes are
    handed on in pieces of 1 to so many. Both hold for connections to come."""

    def __init__(self, target: tuple[str, int], seed: int = 0) -> None:
        self.target = target
        self.cut_between: tuple[int, int] | None = None
        self.pieces: int | None = None
        self.cuts = 0
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, asyncio.StreamWriter | None]] = {}
        self._flows = asyncio.Event()
        self._flows.set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    def cut(self) -> None:
        """Cut every connection without a word."""
        for client, server in self._open.values():
            client.transport.abort()
            if server is not None:
                server.transport.abort()

    def stall(self) -> None:
        """Hand nothing on, in either direction, until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = (writer, None)
        other: asyncio.StreamWriter | None = None
        try:
            far, other = await asyncio.open_connection(*self.target, limit=CHUNK)
            self._open[task] = (writer, other)
            budget = [self._random.randint(*self.cut_between)] if self.cut_between else None
            up = asyncio.create_task(self._pump(reader, other, budget))
            down = asyncio.create_task(self._pump(far, writer, budget))
            try:
                await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in (up, down):
                    pump.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, other):
                if each is not None:
                    each.transport.abort()
            del self._open[task]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: list[int] | None) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flows.wait()
                while data:
                    size = min(len(data), self._random.randint(1, self.pieces) if self.pieces else len(data))
                    if budget is not None:
                        size = min(size, budget[0])
                        budget[0] -= size
                    writer.write(data[:size])
                    await writer.drain()
                    data = data[size:]
                    if budget is not None and not budget[0]:
                        self.cuts += 1
                        return
                    if self.pieces:
                        await asyncio.sleep(0)  # a piece of its own on the wire
