"""One connection from beginning to end: a task that reads into the core, and one that writes what the core has to say.

The writer is woken by `wake` (commands, events that were taken, anything that came) and by the deadline that the core names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from client import connection, dial, errors, inbox
from client.updates import Effect

log = logging.getLogger("kith.client")

#: Seconds for one write.
WRITE_S = 30.0


class Line:
    """`carry_out` gets the effects of what was read, in order."""

    def __init__(
        self,
        socket: ClientConnection,
        core: connection.Connection,
        updates: inbox.Inbox,
        wake: asyncio.Event,
        carry_out: Callable[[list[Effect]], None],
    ) -> None:
        self._socket = socket
        self._core = core
        self._inbox = updates
        self._wake = wake
        self._carry_out = carry_out
        self._closing = False

    async def run(self) -> tuple[int, str]:
        """Until it is over: the close code and reason. ProtocolViolation, and whatever fails in the core."""
        socket = self._socket
        self._core.connected(asyncio.get_running_loop().time())
        writer = asyncio.create_task(self._write(), name="kith-client-writer")
        writer.add_done_callback(lambda done: None if done.cancelled() else self._writing_ended())
        try:
            await self._read(writer)
        except ConnectionClosed:
            pass
        finally:
            if not self._closing:
                socket.transport.abort()
            writer.cancel()
            await asyncio.wait([writer])
        if not writer.cancelled() and (failure := writer.exception()) is not None:
            raise failure
        return socket.close_code or 1006, socket.close_reason or ""

    async def close(self, running: asyncio.Task[None]) -> None:
        """Cancel the task that runs it; then say the last words, and goodbye."""
        self._closing = True
        running.cancel()
        await asyncio.wait([running])
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(dial.CLOSE_S):
                for message in self._core.closing(asyncio.get_running_loop().time()):
                    await self._socket.send(message)
                await self._socket.close()
        self._socket.transport.abort()

    def _writing_ended(self) -> None:
        """Whatever ended the writing ends the reading, also one that waits for the application."""
        self._socket.transport.abort()
        self._inbox.stir()

    async def _read(self, writer: asyncio.Task[None]) -> None:
        core, loop = self._core, asyncio.get_running_loop()
        while not writer.done():
            while self._inbox.is_full and not core.unanswered and not writer.done():
                await self._inbox.room()
                core.not_read(loop.time())
            data = await self._socket.recv()
            if isinstance(data, str):
                raise errors.ProtocolViolation("a text message")
            self._carry_out(core.receive(data, loop.time()))
            self._wake.set()

    async def _write(self) -> None:
        core, loop = self._core, asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                now = loop.time()
                if self._inbox.is_full:
                    core.not_read(now)
                elif core.dead(now):
                    break
                async with asyncio.timeout(WRITE_S):
                    for message in core.outgoing(now):
                        await self._socket.send(message)
                deadline = core.deadline(loop.time())
                timer = loop.call_at(deadline, self._wake.set) if deadline is not None else None
                await self._wake.wait()
                if timer is not None:
                    timer.cancel()
        except ConnectionClosed:
            return  # the reader knows
        except TimeoutError:
            log.info("the server took nothing for %.0f s", WRITE_S)
