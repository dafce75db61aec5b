"""What a test saw: per device everything that crossed the wire, and the state that was found in the end.

It is recorded where the bytes come and go, outside of the client's own bookkeeping, so that a client that drops a duplicate or
heals a gap hides neither. Times are seconds of one monotonic clock of the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from protocol import codes, events, messages


@dataclass(slots=True, frozen=True)
class Connected:
    """The device was let in on a new connection."""

    time: float


@dataclass(slots=True, frozen=True)
class Disconnected:
    """The connection ended, whoever ended it."""

    time: float


@dataclass(slots=True, frozen=True)
class Asked:
    """One try of a state-changing command: the bytes `data` were given to the connection. `stream` numbers it."""

    time: float
    stream: bytes
    counter: int
    data: bytes


@dataclass(slots=True, frozen=True)
class Stored:
    """The answer `Sent` to the command `counter`: it is event `seq`, with `n` and the server's time `at`."""

    time: float
    counter: int
    seq: int
    n: int
    at: int


@dataclass(slots=True, frozen=True)
class Refused:
    """The answer `Error` to one try of the command `counter`."""

    time: float
    counter: int
    number: int


@dataclass(slots=True, frozen=True)
class Got:
    """An Event frame: the bytes of event `seq`."""

    time: float
    stream: bytes
    seq: int
    data: bytes


@dataclass(slots=True, frozen=True)
class Erased:
    """A Gone frame in the place of events first..last."""

    time: float
    stream: bytes
    first: int
    last: int


@dataclass(slots=True, frozen=True)
class Marked:
    """The device acknowledged, or its person has read, everything up to `seq`."""

    time: float
    stream: bytes
    seq: int


@dataclass(slots=True, frozen=True)
class Receipt:
    """The server told the watermarks of `user`."""

    time: float
    stream: bytes
    user: int
    delivered: int
    read: int


Entry = Connected | Disconnected | Asked | Stored | Refused | Got | Erased | Marked | Receipt


@dataclass(slots=True)
class Device:
    """One device's tape. `since`: the heads at which it began, where that was not 0. `present`: it was connected in the end,
    and had the time to catch up."""

    user: int
    id: int
    entries: list[Entry] = field(default_factory=list)
    since: dict[bytes, int] = field(default_factory=dict)
    present: bool = True


@dataclass(slots=True, frozen=True)
class Row:
    """One event as it is stored in the end."""

    seq: int
    epoch: int
    data: bytes


@dataclass(slots=True, frozen=True)
class View:
    """What `user` fetched of a stream when nothing moved and its head was `head`: all pages of its history joined, the oldest
    item first, as (seq, event, fold); and of a group its state and its members."""

    user: int
    stream: bytes
    head: int
    items: tuple[tuple[int, bytes, bytes], ...]
    group: messages.GroupState | None = None
    members: tuple[messages.Member, ...] = ()


@dataclass(slots=True, frozen=True)
class Account:
    """What `user` fetched of the own account when nothing moved: its state, all contacts, and all rows of the list."""

    user: int
    state: messages.AccountState
    contacts: tuple[messages.Contact, ...]
    rows: tuple[messages.Conversation, ...]


@dataclass(slots=True)
class History:
    """`rows`: every stream as found in the store. `intervals`: what the store says that users may read, where it was asked.
    `marks`: stored (delivered, read) by (stream, user). `due`: the heads that everybody had reached in the end, where more
    was stored afterwards. `healed`, `converged`: when the last fault ended, and when every device that is present had
    everything."""

    devices: dict[int, Device] = field(default_factory=dict)
    rows: dict[bytes, list[Row]] = field(default_factory=dict)
    intervals: dict[tuple[bytes, int], tuple[tuple[int, int], ...]] = field(default_factory=dict)
    marks: dict[tuple[bytes, int], tuple[int, int]] = field(default_factory=dict)
    due: dict[bytes, int] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    healed: float = 0.0
    converged: float = 0.0


@dataclass(slots=True)
class Command:
    """All that became of one command: its tries, and the answers to them in order."""

    device: int
    counter: int
    stream: bytes
    data: bytes
    tries: list[float] = field(default_factory=list)
    answers: list[Stored | Refused] = field(default_factory=list)

    @property
    def stored(self) -> Stored | None:
        """The first answer that says it is stored."""
        return next((answer for answer in self.answers if isinstance(answer, Stored)), None)

    @property
    def refused_for_good(self) -> bool:
        """Whether every try was answered, and every answer says that this try was definitely not stored."""
        return len(self.answers) >= len(self.tries) and all(
            isinstance(answer, Refused) and codes.BY_NUMBER[answer.number] not in INDEFINITE for answer in self.answers
        )


#: Refusals that do not say that the command was never stored: it was accepted long ago, or other bytes were, or nobody knows.
INDEFINITE = frozenset({codes.UNKNOWN, codes.ALREADY, codes.COUNTER_REUSED})


def commands(device: Device) -> dict[int, Command]:
    """The commands of a device by counter, in the order of their first tries."""
    found: dict[int, Command] = {}
    for entry in device.entries:
        if isinstance(entry, Asked):
            command = found.setdefault(entry.counter, Command(device.id, entry.counter, entry.stream, entry.data))
            command.tries.append(entry.time)
        elif isinstance(entry, Stored | Refused) and entry.counter in found:
            found[entry.counter].answers.append(entry)
    return found


def connections(device: Device) -> Iterator[list[Entry]]:
    """The device's entries, connection by connection."""
    current: list[Entry] = []
    for entry in device.entries:
        if isinstance(entry, Connected) and current:
            yield current
            current = []
        current.append(entry)
    if current:
        yield current


def without_body(data: bytes) -> bytes:
    """The event as erasure would leave it: what two readers' bytes have in common whenever they read."""
    return events.redact(data)
