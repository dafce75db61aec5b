"""What every actor of a node is given: the stores, the directory, the clock, the limits. Made once by the composition root."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.runtime.ref import ActorRef
from actors.state import rules
from protocol import messages
from storage import interfaces
from telemetry import Telemetry

if TYPE_CHECKING:
    from actors.directory import Directory
    from actors.people import People
    from auth.admission import Admitter


@dataclass(slots=True)
class Services:
    """`clock` is the time of day in ms; `whereis` finds a permanent actor by its name in the tree (it may be restarted, so the
    reference is looked up each time); `invite_code` and `check_invite` make and check the codes of invite links."""

    store: interfaces.Store
    directory: Directory
    people: People
    admitter: Admitter
    telemetry: Telemetry
    rules: rules.Rules
    limits: messages.Limits
    clock: Callable[[], int]
    whereis: Callable[[str], ActorRef[Any]]
    invite_code: Callable[[bytes, int], bytes]
    check_invite: Callable[[bytes, bytes], int | None]
    heartbeat_s: int
    commands_per_s: float
    page_items: int
    page_bytes: int
