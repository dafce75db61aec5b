"""The conversation: the owner of a direct stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from actors.messages import Query
from actors.messaging import MessagingOwner
from actors.state import direct, log
from auth import policy
from protocol import codes, messages


class Conversation(MessagingOwner):
    """Transient: loaded at its first message, put to sleep when idle."""

    _state: direct.Direct

    @property
    def state(self) -> direct.Direct:
        return self._state

    def renew(self) -> None:
        self._state = direct.Direct(self.stream, self.services.rules)

    def strangers(self, command: log.Command) -> Sequence[int]:
        return self._strangers()

    def _strangers(self) -> Sequence[int]:
        knows = self.services.people.knows
        one, other = self._state.parties
        if knows(one) and knows(other):
            return ()
        return [user for user in (one, other) if not knows(user)]

    def parties_to_receipts(self, moved: Iterable[int]) -> Sequence[int]:
        return self._strangers()

    def policy_context(self, command: log.Command) -> direct.Pair:
        return self._pair(command.user)

    def _pair(self, user: int) -> direct.Pair:
        """What is known of a party and of the other. It was looked up; a refusal if it was crowded out since."""
        people, other = self.services.people, self._state.other(user)
        if not people.knows(user) or not people.knows(other):
            raise codes.Refused(codes.BUSY)
        return direct.Pair(people.peek(user), people.peek(other))

    def handle(self, message: Any) -> None:
        if type(message) is Query and self._strangers():
            self.ask_first(message, self.meet(self._strangers()))
        else:
            super().handle(message)

    def reply_to(self, query: Query) -> messages.Frame:
        if not isinstance(query.frame, messages.Open) or not self.state.is_member(query.user):
            raise codes.Refused(codes.NOT_ALLOWED)
        state, user = self.state, query.user
        pair = self._pair(user)
        if pair.other is None or (not state.head and not self._may_begin(user, pair.other)):
            raise codes.Refused(codes.NOT_ALLOWED)
        marks = []
        for member in state.members():
            delivered, read = self.stored_marks(member)
            if member == user or not self.hides_receipts(member, user):
                marks.append(messages.PeerMarks(member, delivered, read if member == user else self.shown_read(member)))
        return messages.Opened(query.frame.rid, self.stream, state.head, state.n, state.timer, state.request_for, tuple(marks))

    def _may_begin(self, user: int, other: policy.Facts) -> bool:
        one, two = self.state.parties
        return one == two or policy.may_write(user, other) is not policy.Writing.NO

    def hides_receipts(self, user: int, sender: int) -> bool:
        """Receipts and typing are hidden while a request waits, and across a block."""
        if self.state.hides_from(sender):
            return True
        people = self.services.people
        one, other = (people.peek(each) if people.knows(each) else None for each in (user, sender))
        return one is None or other is None or policy.blocked_between(user, one, sender, other)
