"""The server that is measured: a process of one's own on a temporary data folder, or one that runs already."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from bench import machine

#: Limits that would stop a generator, which is a thousand honest clients behind one address.
UNLIMITED: dict[str, str] = {
    "limits.connections_per_address": "1000000",
    "limits.connects_per_address_s": "1000000",
    "limits.connection_commands_s": "1000000",
    "limits.account_commands_s": "1000000",
    "limits.address_commands_s": "1000000",
}
#: Of a node that lives for minutes, on loopback.
SECRET = hashlib.sha256(b"kith bench").hexdigest()
#: What `server.py run` says when it listens.
_READY = re.compile(rb"^ready (\S+)\n", re.MULTILINE)
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


class ServerFailed(Exception):
    """The server did not start, or ended by itself; its last words."""


class Server:
    """A running server. `pid` 0: on another machine, so that neither CPU nor memory is known."""

    def __init__(self, url: str, pid: int = 0) -> None:
        self.url = url
        self.pid = pid

    def cpu_s(self) -> float | None:
        return machine.cpu_s(self.pid) if self.pid else None

    def rss_bytes(self) -> int | None:
        return machine.rss_bytes(self.pid) if self.pid else None

    def check(self) -> None:
        """ServerFailed if it is known to be gone."""

    def stop(self) -> None:
        """Only what was started here is stopped."""


class OwnServer(Server):
    """`server.py run` on `folder`, pinned to `core`, with everything else at its defaults but `settings`.

    `profile`: "calls" counts and times every call (and slows the server down by half), "samples" looks 1,000 times a second of
    CPU at what runs; the result is written to standard error when the server stops. `seconds_to_ready` is as a user sees it:
    from the start of Python on."""

    def __init__(
        self, folder: pathlib.Path, settings: Mapping[str, str], core: int | None = None, profile: str | None = None
    ) -> None:
        self._words = folder / "server.log"
        entry = ["server.py"] if profile is None else ["-m", "bench.profiled_server", profile]
        everything = {
            "node.folder": str(folder),
            "listener.port": "0",
            "internal.port": "0",
            "log.level": "warning",
            "listener.backlog": "8192",
            **settings,
        }
        first = folder / "kith.toml"
        first.write_text(f'[auth]\nsecret = "{SECRET}"\n')
        first.chmod(0o600)  # as the node wants what holds its secret
        folder.chmod(0o700)
        flags = ["--config", str(first)]
        flags += [flag for key, value in everything.items() for flag in ("--set", f"{key}={value}")]
        usual = os.sched_getaffinity(0)
        began = time.monotonic()
        with self._words.open("wb") as words:
            machine.pin(core)  # inherited, by every thread of the server
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *entry, *flags, "run"],
                    cwd=machine.ROOT,
                    env={key: value for key, value in os.environ.items() if not key.startswith("KITH_")},
                    stdout=subprocess.PIPE,
                    stderr=words if profile is None else None,
                )
            finally:
                os.sched_setaffinity(0, usual)
        try:
            url = self._ready()
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._close_output()
            raise
        self.seconds_to_ready = time.monotonic() - began
        super().__init__(url, self._process.pid)

    def _ready(self) -> str:
        output = self._process.stdout
        assert output is not None
        os.set_blocking(output.fileno(), False)
        end = time.monotonic() + READY_TIMEOUT_S
        said = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while selector.select(end - time.monotonic()):
                part = output.read(4096)
                if not part:
                    break
                said += part
                found = _READY.search(said)
                if found:
                    return found[1].decode()
        raise ServerFailed(f"the server did not start: {said.decode(errors='replace')}\n{self._last_words()}")

    def _last_words(self) -> str:
        return self._words.read_text(errors="replace")[-4000:]

    def check(self) -> None:
        if self._process.poll() is not None:
            raise ServerFailed(f"the server ended with status {self._process.returncode}\n{self._last_words()}")

    def stop(self) -> None:
        """Drain and end it; kill it when that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ServerFailed(f"the server did not stop within {STOP_TIMEOUT_S:.0f} s\n{self._last_words()}") from None
        finally:
            self._close_output()

    def complaints(self) -> list[str]:
        """What it logged: warnings and errors."""
        return self._words.read_text(errors="replace").splitlines()

    def _close_output(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
