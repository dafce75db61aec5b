"""Messages between the gateway and sessions: the seam that may one day lie between two processes.

Everything in them is plain data, except the sink of an Attach.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.sink import Sink
from auth.identity import Admission
from protocol import messages


@dataclass(slots=True, frozen=True)
class Attach:
    """A device is connected through `sink`. `rid` and `version` are for the Welcome. It replaces an older sink of it."""

    admission: Admission
    sink: Sink
    rid: int
    version: int


@dataclass(slots=True, frozen=True)
class Detach:
    """The connection behind `sink` is over. Ignored when the device has another one by now."""

    device: int
    sink: Sink


@dataclass(slots=True)  # not frozen: made for every message
class Command:
    """One command of a connected device. `digest` is the keyed digest of its raw bytes (0 for one that changes nothing)."""

    device: int
    frame: messages.ClientFrame
    digest: int
