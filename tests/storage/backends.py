"""The back ends that the conformance suite runs on: one line each, with how to make, reopen and throw away an empty one."""

from __future__ import annotations

import pathlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from storage import interfaces
from storage.sqlite import store as sqlite


@dataclass(frozen=True)
class Backend:
    """`open(folder)` opens the store whose data belongs to that folder; opening it again finds what was stored."""

    name: str
    open: Callable[[pathlib.Path], Awaitable[interfaces.Store]]


async def _open_sqlite(folder: pathlib.Path) -> interfaces.Store:
    return await sqlite.open_store(folder)


BACKENDS = (Backend("sqlite", _open_sqlite),)
