"""Who somebody turned out to be, once a credential was checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Admission:
    """A user and the device that was let in. `token` is b"" unless a new one is to be handed out."""

    user: int
    device: int
    name: str
    token: bytes = b""
