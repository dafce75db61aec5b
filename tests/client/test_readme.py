"""The Python of the README, as it is printed there, at a node."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

from client.client import Client
from protocol import messages
from tests.faults import nodes

ROOT = Path(__file__).parents[2]
URL = "ws://127.0.0.1:8470/ws"


async def test_the_snippet_of_the_readme_runs_as_often_as_one_likes(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert URL in snippet
    async with nodes.inside(tmp_path / "data") as node:
        (tmp_path / "hello.py").write_text(snippet.replace(URL, node.url))
        others = [
            Client(node.url, messages.RegisterCredential(name, "a good password", os.urandom(16))) for name in ("benno", "ben")
        ]
        for other in others:
            await other.start()
        ben = others[-1]
        for run in ("once", "and again"):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "hello.py",
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # the traceback of Ctrl-C
            )
            async for event in ben.events():
                if event.text and not event.own:
                    await ben.send_text(event.stream, f"hello {run}")
                    break
            assert process.stdout is not None
            assert await process.stdout.readline() == b"Hi Ben, say something\n"
            assert await process.stdout.readline() == f"hello {run}\n".encode()
            process.send_signal(signal.SIGINT)
            await process.communicate()
        for other in others:
            await other.close()
