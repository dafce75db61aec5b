"""The real program as a process, and a tiny client of it: websockets and msgpack, no more."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import server

ROOT = Path(__file__).resolve().parents[2]
SUBPROTOCOL = "kith.v1.msgpack"
PASSWORD = "correct horse battery"
QUICK = (
    "listener.port=0",
    "internal.port=0",
    "auth.argon2_memory_kib=8",
    "auth.argon2_passes=1",
    "limits.connection_commands_s=100000",
    "limits.account_commands_s=100000",
)

HELLO, SEND, OPEN = 1, 11, 10
WELCOME, ERROR, SENT, EVENT, GOING_AWAY, OPENED = 96, 97, 98, 99, 102, 109
BY_TOKEN, BY_PASSWORD, BY_REGISTRATION, BY_RESET = 1, 2, 3, 5


def environment(**more: str) -> dict[str, str]:
    """The test's own, without anything that would configure a node."""
    return {key: value for key, value in os.environ.items() if not key.startswith("KITH_")} | more


def command(folder: Path, *words: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, within this process: starting Python takes longer than any of them. (Not for `run`.)"""
    out, err = io.StringIO(), io.StringIO()
    arguments = ["--folder", str(folder), *words]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        mock.patch.dict(os.environ, environment(**env), clear=True),
    ):
        try:
            status = server.main(arguments)
        except SystemExit as ended:  # argparse
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def process(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one command to its end, as a process of its own."""
    return subprocess.run(
        [sys.executable, "server.py", "--folder", str(folder), *words],
        cwd=ROOT,
        env=environment(),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


class Program:
    """`server.py run`, from when it says that it is ready. `lines`: what it said on standard output before that."""

    def __init__(self, folder: Path, *sets: str) -> None:
        self.folder = folder
        self.log = folder.parent / f"{folder.name}.log"
        words = [word for each in (*QUICK, *sets) for word in ("--set", each)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "server.py", "--folder", str(folder), "run", *words],
                cwd=ROOT,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        self.url = ""
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready "):
                self.url = line.split()[1]
                break
        else:
            raise AssertionError(f"it ended before it was ready:\n{self.log.read_text()}")

    def metrics(self) -> str:
        """What the operator's port says."""
        url = next(line.split()[1] for line in self.lines if "/metrics" in line).rstrip(",")
        with urllib.request.urlopen(url) as answer:
            return str(answer.read().decode())

    def told(self, event: str) -> None:
        """Wait until the log holds the event."""
        with subprocess.Popen(["tail", "-n", "+1", "-f", str(self.log)], stdout=subprocess.PIPE, text=True) as tail:
            assert tail.stdout is not None
            for line in tail.stdout:
                if event in line:
                    break
            tail.terminate()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()


@contextlib.contextmanager
def running(folder: Path, *sets: str) -> Iterator[Program]:
    """A node; killed at the end if it still runs."""
    program = Program(folder, *sets)
    try:
        yield program
    finally:
        print(program.log.read_text())  # shown for a test that failed
        program.process.kill()
        program.process.wait()
        assert program.process.stdout is not None
        program.process.stdout.close()


class Device:
    """One connection of a device."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self._opening = connect(url, subprotocols=[SUBPROTOCOL], compression=None, ssl=context)  # type: ignore[list-item]
        self.socket = self._opening.__enter__()
        self.user = 0
        self.token = b""
        self._frames: list[list[Any]] = []

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *frame: Any) -> None:
        self.socket.send(msgpack.packb(frame))

    def frame(self) -> list[Any]:
        """The next one. ConnectionClosed."""
        while not self._frames:
            data = msgpack.unpackb(self.socket.recv())
            self._frames = data if isinstance(data[0], list) else [data]
        return self._frames.pop(0)

    def until(self, *numbers: int) -> list[Any]:
        """The next frame with one of these numbers; others are passed over, but for an error."""
        while True:
            frame = self.frame()
            assert frame[0] != ERROR or ERROR in numbers, frame
            if frame[0] in numbers:
                return frame

    def hello(self, *credential: Any) -> list[Any]:
        """Welcome or Error."""
        self.send(HELLO, 1, 1, 1, list(credential), "test")
        answer = self.until(WELCOME, ERROR)
        if answer[0] == WELCOME:
            self.user = answer[4]
            self.token = answer[7]
        return answer

    def login(self, name: str, password: str = PASSWORD) -> list[Any]:
        return self.hello(BY_PASSWORD, name, password, os.urandom(16), "phone")

    def note_to_self(self) -> bytes:
        """The stream of notes to oneself."""
        return b"d" + 2 * self.user.to_bytes(7, "big")

    def note(self, counter: int, text: str) -> None:
        self.send(SEND, counter, counter, self.note_to_self(), [1, text])

    def closed(self) -> ConnectionClosed:
        """How the server closed; frames that come before are passed over."""
        try:
            while True:
                self.frame()
        except ConnectionClosed as closed:
            return closed


def people(program: Program, *names: str) -> None:
    """Accounts, made by the operator."""
    for name in names:
        made = command(program.folder, "user", "add", name, stdin=f"{PASSWORD}\n")
        assert made.returncode == 0, made.stderr
