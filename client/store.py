"""What a device keeps between two runs: who it is, its counter, its cursors, and the commands that were not answered.

With it a command given to `Client` takes effect exactly once even when the program dies before the answer, and nothing
that was taken comes again. The file holds the device's token: it is made with mode 0600.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from client import errors


class Saved(msgspec.Struct, frozen=True):
    """One device, at rest. `commands`: encoded, oldest first. `cursors`: by stream id in hexadecimal."""

    user: int = 0
    device: int = 0
    name: str = ""
    token: bytes = b""
    counter: int = 0
    cursors: dict[str, int] = {}
    commands: tuple[bytes, ...] = ()
    incarnation: int = 0


class Store(Protocol):
    """Called from one client, one call at a time, and not from the event loop's thread."""

    def load(self) -> Saved:
        """What was saved last; `Saved()` at first. DamagedState if it is there and cannot be read."""
        ...

    def save(self, saved: Saved) -> None:
        """Keep it, all or nothing, also over a loss of power. OSError if it cannot be written."""
        ...


@dataclass(slots=True)
class MemoryStore:
    """For tests, and for several runs inside one program."""

    saved: Saved = field(default_factory=Saved)

    def load(self) -> Saved:
        return self.saved

    def save(self, saved: Saved) -> None:
        self.saved = saved


class FileStore:
    """A JSON file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Saved:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return Saved()
        try:
            return msgspec.json.decode(data, type=Saved)
        except msgspec.MsgspecError as error:
            raise errors.DamagedState(f"{self._path}: {error}") from None

    def save(self, saved: Saved) -> None:
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes it with mode 0600, and in the same folder, so that replacing is one step of the file system.
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(saved)))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            raise
