"""What comes out of the client's core: updates for the application, answers for who waits, and how a connection ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from protocol import events, messages


@dataclass(slots=True, frozen=True)
class StreamEvent:
    """Event `seq` of `stream`. `event` is None for a kind that this program does not know. `size`: bytes on the wire.

    `own`: made here, from a command of this device and its `Sent`. `missing` then names the fields that only the server
    knows and that could not be fetched; they hold the best this device can say."""

    stream: bytes
    seq: int
    event: events.AnyEvent | None
    size: int
    own: bool = False
    missing: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What a text message says; "" for everything else."""
        if not isinstance(self.event, events.Message):
            return ""
        try:
            body = events.decode_body(self.event.body)
        except (msgspec.MsgspecError, RecursionError):
            return ""  # a kind of a newer protocol, or erased
        return body.text if isinstance(body, events.Text) else ""


@dataclass(slots=True, frozen=True)
class StreamGone:
    """The events first..seq of `stream` expired before this device could have them."""

    stream: bytes
    first: int
    seq: int
    size: int


@dataclass(slots=True, frozen=True)
class Connected:
    """Let in. What was missed follows, then `CaughtUp`. `anew`: the server was set back to an earlier moment (a backup was
    restored). What came of any stream before may be unknown to it, and other events may come for the same seqs: fetch what is
    shown again."""

    welcome: messages.Welcome
    anew: bool = False


@dataclass(slots=True, frozen=True)
class Disconnected:
    """The connection is over; the next try comes in `retry_in_s` seconds."""

    reason: str
    retry_in_s: float


@dataclass(slots=True, frozen=True)
class NotKept:
    """The store could not be written; the next try comes in `retry_in_s` seconds. Until one succeeds, commands wait: they are
    stored before they are sent."""

    reason: str
    retry_in_s: float


Notice = (
    messages.CaughtUp
    | messages.Receipt
    | messages.ReceiptCount
    | messages.MemberTyping
    | messages.Presence
    | messages.Ephemeral
)

#: What takes place in the order of a stream, and is acknowledged.
Numbered = StreamEvent | StreamGone

Update = Numbered | Notice | Connected | Disconnected | NotKept


@dataclass(slots=True, frozen=True)
class Answer:
    """`outcome` for whoever waits: what the server answered, or the exception to raise."""

    waiter: Any
    outcome: Any


Effect = Update | Answer


@dataclass(slots=True, frozen=True)
class Retry:
    """Connect again in `delay_s`, to `url` if it is not ""."""

    delay_s: float
    url: str = ""


@dataclass(slots=True, frozen=True)
class End:
    """Do not come back."""

    error: Exception
