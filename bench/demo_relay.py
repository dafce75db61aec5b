"""A line between a device and the node that can be cut, so that the client itself needs to know nothing of it.

It listens on a port of its own on the loopback and passes bytes on, both ways, for any number of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse

#: Bytes taken from a socket at once.
PIECE = 64 * 1024


class Relay:
    """`url` is where the device connects, once the relay is started."""

    def __init__(self, target: str) -> None:
        parts = urllib.parse.urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path
        self.url = ""
        self.cuts = 0
        self._server: asyncio.Server | None = None
        self._down = False
        self._answers = asyncio.Event()
        self._answers.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"ws://{host}:{port}{self._path}"

    async def stop(self) -> None:
        """End everything. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._abort()
        await asyncio.gather(*self._pumps)
        self._server = None

    def hold_answers(self) -> None:
        """From now on nothing from the node reaches the device."""
        self._answers.clear()

    def cut(self, *, down: bool) -> None:
        """Reset the connections; what was held back is lost. `down`: and let no new one come about until `mend`."""
        self._down = down
        self.cuts += 1
        self._abort()
        self._answers.set()

    def mend(self) -> None:
        self._down = False

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        if writer.transport.is_closing():  # it was cut meanwhile
            far_writer.transport.abort()
            return
        self._writers.add(far_writer)
        for pump in (self._pump(reader, far_writer, held=False), self._pump(far_reader, writer, held=True)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool) -> None:
        """Pass bytes on until an end; then close the other end as well."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                if held:
                    await self._answers.wait()
                if writer.transport.is_closing():
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)
