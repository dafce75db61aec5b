"""Nodes to torture: a process of its own, which can be killed, or one inside the test, whose parts can be reached."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping

import config
import server
from node import Node
from tests.faults.waiting import DEADLINE_S

ROOT = pathlib.Path(__file__).parents[2]

#: Of every node here: free ports, cheap passwords, and no rates, which would only pace the traffic of the test.
SETTINGS: Mapping[str, str] = {
    "listener.port": "0",
    "internal.port": "0",
    "auth.argon2_memory_kib": "8",
    "auth.argon2_passes": "1",
    "limits.connections_per_address": "100000",
    "limits.connects_per_address_s": "100000",
    "limits.connection_commands_s": "100000",
    "limits.account_commands_s": "100000",
    "limits.address_commands_s": "100000",
}


def flags(folder: pathlib.Path, settings: Mapping[str, str]) -> dict[str, str]:
    return {"node.folder": str(folder), **SETTINGS, **settings}


class Process:
    """`server.py run` on `folder`, one run after the other on the same files. `target`: where the present one listens."""

    def __init__(self, folder: pathlib.Path, **settings: str) -> None:
        self.folder = folder
        self.target = ("127.0.0.1", 0)
        self._settings = {key.replace("__", "."): value for key, value in settings.items()}
        self._running: subprocess.Popen[str] | None = None
        self._log = folder.with_name(folder.name + ".log")

    async def start(self) -> None:
        sets = [word for key, value in flags(self.folder, self._settings).items() for word in ("--set", f"{key}={value}")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("KITH_")}
        command = [sys.executable, "server.py", *sets, "run"]
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(  # noqa: ASYNC220 - a millisecond, and what is waited for is on a thread
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        line = await asyncio.wait_for(asyncio.to_thread(self._ready), DEADLINE_S)
        assert line, self.words()
        host, port = line.split("//")[1].split("/")[0].rsplit(":", 1)
        self.target = (host, int(port))

    def _ready(self) -> str:
        """The line that says where it listens; "" if it ends before."""
        assert self._running is not None
        assert self._running.stdout is not None
        return next((line for line in self._running.stdout if line.startswith("ready ")), "")

    def words(self) -> str:
        """What it has written to its log, the end of it."""
        return self._log.read_text(errors="replace")[-4000:]

    def signal(self, number: int) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        assert self._running is not None
        status = await asyncio.wait_for(asyncio.to_thread(self._running.wait), DEADLINE_S)
        assert self._running.stdout is not None
        self._running.stdout.close()
        self._running = None
        return status

    async def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        """SIGTERM, and it ends well."""
        self.signal(signal.SIGTERM)
        status = await self.ended()
        assert status == 0, (status, self.words())

    async def close(self) -> None:
        """Whatever state it is in."""
        if self._running is not None:
            self.signal(signal.SIGCONT)
            await self.kill()


@contextlib.asynccontextmanager
async def process(folder: pathlib.Path, **settings: str) -> AsyncIterator[Process]:
    """A node as a process, killed at the end if it still runs. Settings with two underscores for the dot."""
    found = Process(folder, **settings)
    try:
        await found.start()
        yield found
    finally:
        await found.close()


@contextlib.asynccontextmanager
async def inside(folder: pathlib.Path, **settings: str) -> AsyncIterator[Node]:
    """A node inside this process, on its loop. Settings with two underscores for the dot."""
    named = {key.replace("__", "."): value for key, value in settings.items()}
    found = Node(config.load(None, {}, flags(folder, named)), server.open_store)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


def target(node: Node) -> tuple[str, int]:
    """Where a node inside this process listens."""
    host, port = node.gateway.addresses[0]
    return host, port
