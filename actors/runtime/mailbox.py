"""What stands in a mailbox.

A mailbox is two queues, both made at the first message and dropped when drained, because an empty deque alone is
0.75 KB and most actors are idle:

- the *queue*, first in first out, filled by `tell` (refused with `MailboxFull` at the limit) and `tell_committed`
  (never refused: the outcome of something that has already happened has to arrive);
- the *system lane*, first in first out, taken before the queue at every message.

A told message stands in the queue as it is; only what needs more than `on_receive(message)` is wrapped, and the run
loop tells the two apart by one look-up of the class in `SPECIAL`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pykka import messages

from actors.runtime.errors import BlockingOnLoop
from actors.runtime.future import Future

if TYPE_CHECKING:
    from pykka._envelope import Envelope

    from actors.runtime.ref import ActorRef

LANE_TELL = 0
LANE_COMMITTED = 1
LANE_SYSTEM = 2

DEFAULT_MAILBOX_LIMIT = 4096
"""Messages. At 66 us a message this is a quarter of a second of work: beyond it an answer would come too late to be
of use, so a refusal that says so is better than a longer queue. At 200 bytes a message it is 0.8 MB an actor."""

DEFAULT_PIPE_LIMIT = 64
"""Awaitables one actor may have running. One actor has few reads to wait for; more is a runaway."""


class Start:
    """The first thing an actor handles: `on_start`."""

    __slots__ = ()


class Ask:
    """A message whose sender waits for `reply`."""

    __slots__ = ("message", "reply")

    def __init__(self, message: Any, reply: Future[Any]) -> None:
        self.message = message
        self.reply = reply


class Kill:
    """Fail the actor now, with `reason`."""

    __slots__ = ("reason",)

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class Piped:
    """The outcome of a piped awaitable. `wrap` runs in the actor's turn, so that its error is the actor's."""

    __slots__ = ("outcome", "wrap")

    def __init__(self, outcome: Any, wrap: Callable[[Any], Any]) -> None:
        self.outcome = outcome
        self.wrap = wrap


START = Start()

PROXY = frozenset({messages.ProxyCall, messages.ProxyGetAttr, messages.ProxySetAttr})

SPECIAL = frozenset({Start, Ask, Kill, Piped, messages._ActorStop}) | PROXY


class Inbox:
    """What `actor_inbox` shows: Pykka's inbox protocol over an actor's mailbox, made when asked for."""

    __slots__ = ("_ref",)

    def __init__(self) -> None:
        self._ref: ActorRef[Any] | None = None

    def bind(self, ref: ActorRef[Any]) -> Inbox:
        self._ref = ref
        return self

    def put(self, envelope: Envelope[Any], /) -> None:
        """Queue a Pykka envelope as `tell` or `ask` would. Raises MailboxFull, ActorDeadError, and TypeError for a
        future of another kind than actors here give."""
        assert self._ref is not None
        if envelope.reply_to is None:
            self._ref.tell(envelope.message)
        elif isinstance(envelope.reply_to, Future):
            self._ref.tell(Ask(envelope.message, envelope.reply_to))
        else:
            raise TypeError(f"an answer goes to a Future of this runtime, not to {envelope.reply_to!r}")

    def get(self) -> Envelope[Any]:
        """Always refused: the runtime alone takes messages, and waiting for one would block the loop."""
        raise BlockingOnLoop("messages are taken by the runtime; an actor receives them in on_receive()")

    def empty(self) -> bool:
        return len(self) == 0

    def __len__(self) -> int:
        assert self._ref is not None
        return self._ref.backlog()
