"""What actors tell each other. Plain data; keys of actors, never references, except where an answer goes back within a node.

Lanes: what a client asked for is told with `tell` and may be refused; everything that reports what has happened goes with
`tell_committed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.runtime.ref import ActorRef
from actors.state import log
from auth import policy
from protocol import codes, messages
from storage import records

# --- to the owner of a stream (besides `log.Command`, a state-changing command) ---------------------------------------


@dataclass(slots=True, frozen=True)
class Query:
    """A question of a client about a stream's present state (Open, Info, FetchGroup, ...)."""

    user: int
    device: int
    frame: messages.ClientFrame


@dataclass(slots=True, frozen=True)
class Marked:
    """A user's devices have, or the user has read, all up to these seqs (0: no news). `rid` is not 0 where `device` wants to
    hear when that is stored."""

    user: int
    delivered: int
    read: int
    device: int = 0
    rid: int = 0


@dataclass(slots=True, frozen=True)
class Typed:
    """A user types, or stopped. Told only to streams that are awake."""

    user: int
    on: bool


@dataclass(slots=True, frozen=True)
class Confirmed:
    """The account stream of `user` has recorded what a group said of `seq`."""

    user: int
    seq: int


@dataclass(slots=True, frozen=True)
class Announce:
    """A device was made: the user's other devices are to hear of it. `told` is done once that is stored."""

    device: int
    name: str
    told: asyncio.Future[None]


@dataclass(slots=True, frozen=True)
class EndAccount:
    """The account store has let go of the user; something of them may be left."""


@dataclass(slots=True)  # not frozen: made for every message
class Persisted:
    """How a write that this owner asked for ended."""

    token: Any
    outcomes: Sequence[records.Outcome]


# --- to the writer ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)  # not frozen: made for every message
class Persist:
    """Make these writes durable, in order; then tell `owner` (None: nobody) `Persisted(token, outcomes)`.

    An owner decides on top of appends that are still under way. `life` counts the times that it has loaded: when an append of
    one life is not stored, no later append of that life is, whatever stands in the store by then."""

    writes: Sequence[records.Write]
    owner: ActorRef[Any] | None = None
    token: Any = None
    life: int = 0


# --- to the fan-out ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)  # not frozen: made for every message
class Burst:
    """Events of one stream that became durable together, for these users."""

    stream: bytes
    accepted: Sequence[log.Accepted]
    users: Sequence[int]


@dataclass(slots=True, frozen=True)
class Spread:
    """One frame that is no event, or what follows from one, for the connected devices of these users."""

    users: Sequence[int]
    notice: Notice | Advanced | CutOff


# --- to a session -----------------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Answer:
    """An encoded frame in answer to a command of this device."""

    device: int
    frame: bytes


@dataclass(slots=True)  # not frozen: made for every message
class Deliver:
    """Events first..last of a stream, encoded one after the other."""

    stream: bytes
    first: int
    last: int
    frames: bytes


@dataclass(slots=True)  # not frozen: made for every message
class DeliverOwn:
    """Events of a stream, some of them this user's own: (seq, sending device or 0, the frame, the device's `Sent`)."""

    stream: bytes
    parts: Sequence[tuple[int, int, bytes, bytes]]


@dataclass(slots=True, frozen=True)
class Advanced:
    """Events first..last of a stream are stored, and were perhaps never delivered: who lacks them is to read them."""

    stream: bytes
    first: int
    last: int


@dataclass(slots=True, frozen=True)
class HasRead:
    """The user's own read mark in a stream has moved, durably."""

    stream: bytes
    seq: int


@dataclass(slots=True, frozen=True)
class Notice:
    """A frame that is no event. With a `key` it is collapsible, else ephemeral. `looking`: only for devices that look at the
    stream named; `device`: only for that one (0: all)."""

    frame: bytes
    key: object | None = None
    looking: bytes = b""
    device: int = 0


@dataclass(slots=True, frozen=True)
class CutOff:
    """Close a device's connection (0: all devices but `except_device`), for good."""

    device: int
    close: codes.Close
    except_device: int = 0


# --- to the presence actor --------------------------------------------------------------------------------------------


@dataclass(slots=True, frozen=True)
class Online:
    user: int


@dataclass(slots=True, frozen=True)
class Offline:
    user: int
    time: int


@dataclass(slots=True, frozen=True)
class Watch:
    """A device of `user` wants to know of others' presence, or no longer."""

    user: int
    device: int
    add: Sequence[int]
    drop: Sequence[int]
    rid: int


@dataclass(slots=True, frozen=True)
class Unwatch:
    """The device is gone, with all its subscriptions."""

    user: int
    device: int


@dataclass(slots=True, frozen=True)
class FactsChanged:
    """What others may see of a user has changed."""

    user: int
    facts: policy.Facts | None
