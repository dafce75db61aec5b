"""The server as an operator runs it: a process of its own, and its command line."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.e2e.world import QUICK, World

ROOT = Path(__file__).parents[2]
START_S = 60.0


class Server:
    """One data folder, and the process that serves it. The port stays the same over restarts."""

    def __init__(self, folder: Path, flags: dict[str, str]) -> None:
        self.folder = folder
        self.flags = QUICK | {"log.level": "info"} | flags
        self.process: asyncio.subprocess.Process | None = None
        self.world = World("")

    async def _spawn(self, *words: str) -> asyncio.subprocess.Process:
        settings = [word for key, value in self.flags.items() for word in ("--set", f"{key}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / "server.py"),
                *words,
                "--folder",
                str(self.folder / "data"),
                *settings,
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def start(self) -> None:
        """Run the node; returns when clients can connect."""
        self.process = await self._spawn("run")
        assert self.process.stdout is not None
        async with asyncio.timeout(START_S):
            async for line in self.process.stdout:
                word, _, url = line.decode().strip().partition(" ")
                if word == "ready":
                    self.world.url = url
                    self.flags["listener.port"] = url.rsplit(":", 1)[1].split("/")[0]
                    for client in self.world.clients:
                        client.url = url
                    return
        raise AssertionError((self.folder / "server.log").read_text())

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), START_S)

    async def kill(self) -> None:
        """SIGKILL: nothing is flushed that was not on disk."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def resident(self) -> int:
        """Bytes of memory that the node holds (proc(5), statm)."""
        assert self.process is not None
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def command(self, *words: str) -> str:
        """Run a command of the operator's beside the node; what it prints."""
        process = await self._spawn(*words)
        output, _ = await asyncio.wait_for(process.communicate(), START_S)
        assert process.returncode == 0, (words, (self.folder / "server.log").read_text())
        return output.decode().strip()

    async def close(self) -> None:
        """Disconnect everybody and end the process that is still there."""
        print(self.world.logs())
        await self.world.close()
        if self.process is not None and self.process.returncode is None:
            await self.stop()
