"""The owner of a stream in which people write to each other: what conversations and groups have in common.

Besides events it carries what is none: typing, messages that are not stored; receipts are `actors.watermarks`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from actors import queries
from actors.messages import Notice, Persisted, Query, Typed
from actors.owner import RETRY_MS, as_refusal, as_target
from actors.runtime.errors import PipesFull
from actors.services import Services
from actors.state import log, messaging
from actors.watermarks import WatermarkOwner
from protocol import codec, codes, connection, events, messages


class _Known:
    """What a query had to look up is there."""

    __slots__ = ("found", "query")

    def __init__(self, query: Query, found: Any) -> None:
        self.query = query
        self.found = found


class MessagingOwner(WatermarkOwner):
    """`_answers` holds what shows events that are not durable yet: (seq, query, frame); it is told when they are."""

    def __init__(self, services: Services, stream: bytes) -> None:
        super().__init__(services, stream)
        self._answers: list[tuple[int, Query, messages.Frame]] = []

    def audience(self) -> Sequence[int]:
        return self.state.members()

    # --- commands -----------------------------------------------------------------------------------------------------

    def need(self, command: log.Command) -> Awaitable[Any] | None:
        frame = command.frame
        strangers = self.strangers(command)
        if type(frame) is messages.Forward:
            return self._copy(command, frame, strangers)
        target = messaging.target_of(frame)
        if target and target not in self.state.targets and target <= self.state.head:
            return self._find(target, strangers)
        return self.meet(strangers) if strangers else None

    def strangers(self, command: log.Command) -> Sequence[int]:
        """Users of whom the policy has to know something that is not at hand."""
        raise NotImplementedError

    def policy_context(self, command: log.Command) -> Any:
        """What the policy is given beside the target. codes.Refused."""
        raise NotImplementedError

    async def _find(self, target: int, strangers: Sequence[int]) -> log.Target | None:
        await self.meet(strangers)
        return await self.item(target)

    async def _copy(self, command: log.Command, frame: messages.Forward, strangers: Sequence[int]) -> None:
        """Find what a forward copies, as its sender may read it: in an interval of membership, neither gone nor hidden."""
        store = self.services.store
        await self.meet(strangers)
        intervals = await store.memberships(command.user, frame.source)
        if not any(joined <= frame.target <= removed for joined, removed in intervals):
            raise codes.Refused(codes.NOT_ALLOWED)
        view = await queries.own_settings(self.services, command.user, frame.source)
        if frame.target <= view.cleared or frame.target in view.hidden:
            raise codes.Refused(codes.GONE)
        item = await store.item(frame.source, frame.target)
        if item is not None:
            item = await queries.readable(self.services, frame.source, item, intervals)
        command.copied = messaging.copy_of(None if item is None else as_target(item), self.services.clock())

    def context(self, command: log.Command, found: Any) -> tuple[log.Target | None, Any]:
        target = self.state.targets.get(messaging.target_of(command.frame))
        if target is None and type(found) is log.Target:
            target = found
        return target, self.policy_context(command)

    def ephemeral(self, command: log.Command, frame: messages.Send) -> None:
        """A message that is not stored: for who is connected now."""
        try:
            self.state.check_ephemeral(command, self.services.clock(), self.policy_context(command))
        except codes.Refused as refused:
            self.refuse(command, refused)
            return
        time = self.services.clock()
        message = messages.Ephemeral(0, self.stream, command.user, command.device, time, frame.body)
        others = [user for user in self.audience() if user != command.user]
        self.spread(others, Notice(codec.encode(message)))
        self.answer(command, messages.Done(frame.rid))

    def decide(self, command: log.Command, found: Any) -> None:
        frame = command.frame
        if type(frame) is messages.Send and frame.flags & events.Flag.EPHEMERAL and not isinstance(found, BaseException):
            self.ephemeral(command, frame)
        else:
            super().decide(command, found)

    # --- everything else ----------------------------------------------------------------------------------------------

    def handle(self, message: Any) -> None:
        kind = type(message)
        if kind is Typed:
            self._typed(message)
        elif kind is Query:
            self._query(message, None)
        elif kind is _Known:
            self._query(message.query, message.found)
        else:
            super().handle(message)

    def _abandon(self, failing: Any) -> None:
        super()._abandon(failing)
        for _, query, _ in self._answers:
            self._turn_away(query, codes.UNAVAILABLE)

    def persisted(self, message: Persisted) -> None:
        super().persisted(message)
        if self._answers:
            self._answer_queries()

    def _query(self, query: Query, found: Any) -> None:
        try:
            if isinstance(found, BaseException):
                raise as_refusal(found)
            asked = query.frame
            frame = self._info(query, asked, found) if isinstance(asked, messages.Info) else self.reply_to(query)
        except codes.Refused as refused:
            self._refuse_query(query, refused)
            return
        if frame is None:
            return
        if self.state.head == self.state.durable:
            self.reply(query, frame)
        elif len(self._answers) < self.mailbox_limit:
            self._answers.append((self.state.head, query, frame))
        else:
            self._refuse_query(query, codes.Refused(codes.BUSY, retry_after_ms=RETRY_MS))

    def _refuse_query(self, query: Query, refused: codes.Refused) -> None:
        self.services.telemetry.errors[refused.error.symbol] += 1
        self.reply(query, connection.error_frame(query.frame.rid, refused))

    def _answer_queries(self) -> None:
        """Tell what shows nothing but durable events by now; after a failed append, that nothing can be told."""
        answers, self._answers = self._answers, []
        for seq, query, frame in answers:
            if self.loading:
                self._refuse_query(query, codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS))
            elif seq <= self.state.durable:
                self.reply(query, frame)
            else:
                self._answers.append((seq, query, frame))

    def reply_to(self, query: Query) -> messages.Frame:
        """The answer to a question about the present state. codes.Refused."""
        raise NotImplementedError

    def ask_first(self, query: Query, lookup: Awaitable[Any]) -> None:
        """Answer this query once something has been looked up."""
        try:
            self.pipe(lookup, lambda found: _Known(query, found))
        except PipesFull:
            self._refuse_query(query, codes.Refused(codes.BUSY, retry_after_ms=RETRY_MS))

    def _info(self, query: Query, frame: messages.Info, found: log.Target | None) -> messages.Frame | None:
        """Who has and who read a message: for its sender."""
        state = self.state
        if not state.is_member(query.user) or not state.may_see(query.user, frame.target) or frame.target > state.durable:
            raise codes.Refused(codes.NOT_ALLOWED)
        if found is None:
            self.ask_first(query, self._exists(frame.target))
            return None
        if not isinstance(found.event, events.Message) or found.event.sender != query.user:
            raise codes.Refused(codes.NOT_ALLOWED)
        others = [
            user
            for user in self.audience()  # who came later was never sent it
            if user != query.user and state.may_see(user, frame.target) and not self.hides_receipts(user, query.user)
        ]
        read = [user for user in others if self.shown_read(user) >= frame.target]
        delivered = [user for user in others if self.stored_marks(user)[0] >= frame.target and user not in read]
        return messages.MessageInfo(frame.rid, self.stream, frame.target, tuple(delivered), tuple(read))

    async def _exists(self, seq: int) -> log.Target:
        await self.meet(
            [user for user, read in self.state.read.items() if read >= seq and not self.services.people.knows(user)]
        )
        found = await self.item(seq)
        if found is None:
            raise codes.Refused(codes.NOT_ALLOWED)
        return found

    # --- typing -------------------------------------------------------------------------------------------------------

    def _typed(self, message: Typed) -> None:
        if self.state.is_member(message.user):
            frame = codec.encode(messages.MemberTyping(0, self.stream, message.user, message.on))
            others = [user for user in self.audience() if user != message.user and not self.hides_receipts(message.user, user)]
            self.spread(others, Notice(frame, looking=self.stream))

    def may_sleep(self) -> bool:
        return super().may_sleep() and not self._answers
