"""The policy of a direct conversation: two users (or one: the note to self). Pure.

Who may write is decided at each message, by what the other one says about strangers, unless the other one has ever written
back or accepted: then only a block stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from actors.state import log, messaging, rules
from auth import policy
from protocol import codes, events, ids, messages
from storage import records

CORE = b"core"


class Core(msgspec.Struct, array_like=True):
    """The stored part of the state."""

    timer: int = 0
    accepted: tuple[int, ...] = ()
    requests: int = 0
    requester: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Core)


@dataclass(slots=True)  # not frozen: made for every message
class Pair:
    """The context of a decision: what is known of the sender and of the other user. None: no such user any more."""

    sender: policy.Facts | None
    other: policy.Facts | None


class Direct(messaging.Messaging):
    """`accepted`: who wrote (be it a request) or accepted, and so is open to the other. `requester`: whose message request
    waits, after `requests` messages."""

    __slots__ = ("accepted", "parties", "requester", "requests")

    def __init__(self, stream: bytes, limits: rules.Rules) -> None:
        super().__init__(stream, limits)
        self.parties = ids.parties(stream)
        self.accepted: set[int] = set()
        self.requests = 0
        self.requester = 0

    def is_member(self, user: int) -> bool:
        return user in self.parties

    def members(self) -> Sequence[int]:
        return self.parties if self.parties[0] != self.parties[1] else self.parties[:1]

    def other(self, user: int) -> int:
        return self.parties[0] if user == self.parties[1] else self.parties[1]

    @property
    def request_for(self) -> int:
        """Who has yet to accept the other's request, or 0."""
        return self.other(self.requester) if self.requester else 0

    def hides_from(self, user: int) -> bool:
        """Whether the other's receipts, typing and presence are kept from `user`: while their own request waits."""
        return user == self.requester

    def _writing(self, user: int, context: Pair) -> policy.Writing:
        """How `user` may write to the other now: freely or as a request. codes.Refused when not at all."""
        other = self.other(user)
        if context.sender is None or context.other is None:
            raise codes.Refused(codes.NOT_ALLOWED)
        if policy.blocked_between(user, context.sender, other, context.other):
            raise codes.Refused(codes.NOT_ALLOWED)
        if other in self.accepted or user == other:
            return policy.Writing.YES
        writing = policy.may_write(user, context.other)
        if writing is policy.Writing.NO:
            raise codes.Refused(codes.NOT_ALLOWED)
        return writing

    def check_send(self, user: int, now: int, context: Pair) -> int:
        if self._writing(user, context) is policy.Writing.YES:
            return 0
        if self.requests >= self.rules.request_messages:
            raise codes.Refused(codes.TOO_MANY, f"{self.rules.request_messages} messages until the request is accepted")
        return int(events.Flag.REQUEST)

    def check_edit(self, user: int, now: int, context: Pair) -> None:
        self._writing(user, context)

    def check_aside(self, user: int, now: int, context: Pair) -> None:
        # Whose request waits is held to a number of messages, so nothing else may reach the other meanwhile.
        if self._writing(user, context) is not policy.Writing.YES:
            raise codes.Refused(codes.NOT_ALLOWED)

    def propose_other(self, command: log.Command, now: int, context: Pair) -> log.Proposal:
        if isinstance(command.frame, messages.AcceptRequest):
            if not self.requester or command.user != self.request_for:
                raise codes.Refused(codes.NOT_ALLOWED)
            return log.Proposal(events.RequestAccepted(*events.UNFILLED))
        raise codes.Refused(codes.NOT_ALLOWED)

    def memberships(self, seq: int, event: events.Event) -> Sequence[records.Membership]:
        if seq > 1:
            return ()
        return [records.Membership(user, self.stream, 1) for user in self.members()]

    def applied(self, seq: int, event: events.Event) -> None:
        super().applied(seq, event)
        if isinstance(event, events.Message):
            if event.flags & events.Flag.REQUEST:
                self.requester = event.sender
                self.requests += 1
            self._accept(event.sender)
        elif isinstance(event, events.RequestAccepted):
            self._accept(event.sender)

    def _accept(self, user: int) -> None:
        self.accepted.add(user)
        if self.requester and user != self.requester:
            self.requester = 0

    def snapshot_parts(self) -> list[tuple[bytes, bytes | None]]:
        core = Core(self.timer, tuple(sorted(self.accepted)), self.requests, self.requester)
        return [(CORE, _encoder.encode(core))]

    def restore(self, parts: dict[bytes, bytes]) -> None:
        if CORE in parts:
            core = _decoder.decode(parts[CORE])
            self.timer = core.timer
            self.accepted = set(core.accepted)
            self.requests = core.requests
            self.requester = core.requester
