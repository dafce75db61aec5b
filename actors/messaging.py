"""The owner of a stream in which people write to each other: what conversations and groups have in common.

Besides events it carries what is none: receipts (from watermarks), typing, messages that are not stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from actors import queries
from actors.messages import Answer, HasRead, Marked, Notice, Persist, Persisted, Query, Typed
from actors.owner import RETRY_MS, Owner, as_refusal, as_target
from actors.receipts import Postponed
from actors.runtime.errors import PipesFull
from actors.services import Services
from actors.state import log, messaging
from protocol import codec, codes, connection, events, ids, messages
from storage import records

#: Members above which only senders hear of receipts, as counts, once a second (contract.md, Delivery 8).
FEW = 32
#: Seconds between two counts of receipts in a large group.
COUNT_EVERY_S = 1.0


class _Receipts:
    """Told to oneself: the watermarks of this turn, or of this second, are to be stored and told."""


_RECEIPTS = _Receipts()

#: By member: the seqs up to which everything is delivered and read.
Marks = dict[int, tuple[int, int]]


class _MarksStored:
    """The token of a write of watermarks. `moved` maps members to (delivered, read) before; `stored` to what is stored now;
    `readers` are devices that wait to hear of it."""

    __slots__ = ("moved", "readers", "stored")

    def __init__(self, moved: Marks, stored: Marks, readers: Sequence[Marked]) -> None:
        self.moved = moved
        self.stored = stored
        self.readers = readers


def _highest(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


class _Known:
    """What a query had to look up is there."""

    __slots__ = ("found", "query")

    def __init__(self, query: Query, found: Any) -> None:
        self.query = query
        self.found = found


class _Met:
    """Who moved watermarks is known now, and so is who may hear of it."""

    __slots__ = ("moved",)

    def __init__(self, moved: Marks) -> None:
        self.moved = moved


class MessagingOwner(Owner):
    """`_moved` maps members whose watermarks moved to what they were before, until that is on its way to the store. `_stored` is
    the newest that is known to be stored of each; `_carried` and `_untold` outlast a reload: what moved and is to be stored
    again, and what was stored meanwhile and nobody has heard of.
    `_answers` holds what shows events that are not durable yet: (seq, query, frame); it is told when they are."""

    def __init__(self, services: Services, stream: bytes) -> None:
        super().__init__(services, stream)
        self._moved: dict[int, tuple[int, int]] = {}
        self._storing_marks = False
        self._stored: Marks = {}
        self._carried: Marks = {}
        self._untold: Marks = {}
        self._readers: list[Marked] = []
        self._answers: deque[tuple[int, Query, messages.Frame]] = deque()

    @property
    def state(self) -> messaging.Messaging:
        raise NotImplementedError

    def audience(self) -> Sequence[int]:
        return self.state.members()

    def loaded(self) -> None:
        """Watermarks do not go back with the state: marks are no events, and may be stored before or after what was loaded."""
        state = self.state
        carried, self._carried = self._carried, {}
        for user, marks in self._stored.items():
            state.mark(user, *marks)
        for user, marks in carried.items():
            before = self._marks_of(user)
            if state.mark(user, *marks):
                self._has_moved(user, before)
        untold, self._untold = self._untold, {}
        if untold:
            self._have_met(untold)
        readers, self._readers = self._readers, []
        self._refuse_readers(readers)

    def _drop(self, batch: Sequence[log.Accepted], error: codes.Error) -> None:
        for user in self._moved:
            self._carry(user, self._durable_marks(user))
        self._moved = {}
        super()._drop(batch, error)

    def _carry(self, user: int, marks: tuple[int, int]) -> None:
        self._carried[user] = _highest(marks, self._carried.get(user, (0, 0)))

    def _marks_of(self, user: int) -> tuple[int, int]:
        """How far a member has, and has read."""
        return self.state.delivered.get(user, 0), self.state.read.get(user, 0)

    def _durable_marks(self, user: int) -> tuple[int, int]:
        """The same, without own messages that are not stored yet: they have moved the own marks already."""
        delivered, read = self._marks_of(user)
        return min(delivered, self.state.durable), min(read, self.state.durable)

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

    async def meet(self, users: Sequence[int]) -> None:
        """Have the facts of these users at hand."""
        await asyncio.gather(*(self.services.people.load(user) for user in users))

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
        if kind is Marked:
            self._mark(message)
        elif kind is Postponed:
            self.state.mark(message.user, message.seq, 0)
            self._has_moved(message.user, (0, self.state.read.get(message.user, 0)))
        elif kind is _Receipts:
            self._store_marks()
        elif kind is Typed:
            self._typed(message)
        elif kind is Query:
            self._query(message, None)
        elif kind is _Met:
            self._tell_receipts(message.moved)
        elif kind is _Known:
            self._query(message.query, message.found)

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
        answers = self._answers
        while answers and self.loading:
            self._refuse_query(answers.popleft()[1], codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS))
        while answers and answers[0][0] <= self.state.durable:
            _, query, frame = answers.popleft()
            self.reply(query, frame)

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
        others = [user for user in self.audience() if user != query.user and not self.hides_receipts(user, query.user)]
        read = [user for user in others if self.state.read.get(user, 0) >= frame.target and self.shows_read(user)]
        delivered = [user for user in others if state.delivered.get(user, 0) >= frame.target and user not in read]
        return messages.MessageInfo(frame.rid, self.stream, frame.target, tuple(delivered), tuple(read))

    async def _exists(self, seq: int) -> log.Target:
        await self.meet(
            [user for user, read in self.state.read.items() if read >= seq and not self.services.people.knows(user)]
        )
        found = await self.item(seq)
        if found is None:
            raise codes.Refused(codes.NOT_ALLOWED)
        return found

    # --- watermarks ---------------------------------------------------------------------------------------------------

    def marks(self, batch: Sequence[log.Accepted]) -> Sequence[records.Mark]:
        """Who writes has read what stands above; stored with the message."""
        newest = {each.event.sender: each.seq for each in batch if type(each.event) is events.Message and each.event.sender}
        return [records.Mark(self.stream, user, seq, seq) for user, seq in newest.items()]

    def _turn_away(self, message: Any, error: codes.Error) -> None:
        if type(message) is Marked and message.rid:
            self._answer_reader(message, codes.Refused(error, retry_after_ms=RETRY_MS))
        else:
            super()._turn_away(message, error)

    def _mark(self, message: Marked) -> None:
        state, user = self.state, message.user
        if message.rid and not state.is_member(user):
            self._answer_reader(message, codes.Refused(codes.NOT_ALLOWED))
            return
        if message.rid and not state.head:
            self._answer_reader(message)  # nothing was ever said here, and nothing is to be kept of it
            return
        before = self._marks_of(user)
        if message.rid:
            self._readers.append(message)
        if state.mark(user, message.delivered, message.read) or message.rid:
            self._has_moved(user, before)

    def _has_moved(self, user: int, before: tuple[int, int]) -> None:
        """A watermark is to be stored and told; with what moves until then."""
        if not self._moved and not self._storing_marks:
            self._receipts_due()
        self._moved.setdefault(user, before)

    def _answer_reader(self, message: Marked, refused: codes.Refused | None = None) -> None:
        """Done once what was read is stored, so that whoever asks then finds it; or why not."""
        frame = messages.Done(message.rid) if refused is None else connection.error_frame(message.rid, refused)
        self.services.directory.tell_committed(("session", message.user), Answer(message.device, codec.encode(frame)))

    def _refuse_readers(self, readers: Sequence[Marked]) -> None:
        for message in readers:
            self._answer_reader(message, codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS))

    def _receipts_due(self) -> None:
        if len(self.audience()) > FEW and not self._readers:
            self.schedule(COUNT_EVERY_S, _RECEIPTS)
        else:
            self.actor_ref.tell_committed(_RECEIPTS)

    def _store_marks(self) -> None:
        """Make watermarks durable; only then are they told, so that nobody sees one go back after a crash."""
        if self._storing_marks or not self._moved:
            return
        moved, self._moved = self._moved, {}
        readers, self._readers = self._readers, []
        stored = {user: self._durable_marks(user) for user in moved if self.state.is_member(user)}
        self._storing_marks = True  # also when there is no mark left to write: the answer ends it
        marks = [records.Mark(self.stream, user, *seqs) for user, seqs in stored.items()]
        token = _MarksStored({user: moved[user] for user in stored}, stored, readers)
        self.services.whereis("writer").tell_committed(Persist(marks, self.actor_ref, token))

    def persisted(self, message: Persisted) -> None:
        token = message.token
        if type(token) is not _MarksStored:
            super().persisted(message)
            if self._answers:
                self._answer_queries()
            return
        self._storing_marks = False
        if all(each.result is records.Result.STORED for each in message.outcomes):
            for reader in token.readers:
                self._answer_reader(reader)
            for user, marks in token.stored.items():
                self._stored[user] = _highest(marks, self._stored.get(user, (0, 0)))
            if self.loading:
                self._untold = token.moved | self._untold
                return
            for user, marks in token.stored.items():
                self.state.mark(user, *marks)  # they may be of an earlier life, and what was loaded older
            self._have_met(token.moved)
            if self._moved:
                self._receipts_due()
        else:
            # Receipts may be late, not wrong: what could not be stored is tried again, and told then.
            self._refuse_readers(token.readers)
            if self.loading:
                for user, marks in token.stored.items():
                    self._carry(user, marks)
                return
            self._moved |= token.moved
            self.schedule(COUNT_EVERY_S, _RECEIPTS)

    def _have_met(self, moved: Marks) -> None:
        """Tell receipts once it is known what those concerned say of them."""
        strangers = self.parties_to_receipts(moved)
        if not strangers:
            self._tell_receipts(moved)
            return
        with contextlib.suppress(PipesFull):  # receipts are not worth an error, and the next is cumulative
            self.pipe(self.meet(strangers), lambda _: _Met(moved))

    def parties_to_receipts(self, moved: Iterable[int]) -> Sequence[int]:
        """Whoever has to be known before it is told that these users' watermarks moved, and is not."""
        knows = self.services.people.knows
        return [user for user in moved if not knows(user)]

    def _tell_receipts(self, moved: Marks) -> None:
        """Tell senders whose newest message a watermark has reached, or is still short of; and the user's own devices.

        What is told is what is stored, the newest of it: a crash must not make it go back, nor a look-up that took longer."""
        for user, (_, before) in moved.items():
            read = self._stored.get(user, (0, 0))[1]
            if read > before:
                self._tell_own_read(user, read)
        if len(self.audience()) > FEW:
            self._tell_counts(min((min(before) for before in moved.values()), default=0))
            return
        for user, before_both in moved.items():
            self._tell_receipt(user, min(before_both), *self._stored.get(user, (0, 0)))

    def _tell_own_read(self, user: int, seq: int) -> None:
        """The user's other devices hear of it by the account stream; the session gathers what comes within a second."""
        directory = self.services.directory
        if not directory.tell_committed(("session", user), HasRead(self.stream, seq)):
            event = events.OwnRead(0, 0, 0, 0, 0, self.stream, seq)
            directory.tell_committed(ids.account_stream(user), log.Command(user, 0, event, 0))

    def _tell_receipt(self, user: int, before: int, delivered: int, read: int) -> None:
        state = self.state
        if not state.is_member(user):
            return  # gone meanwhile, and the marks with them
        frame = messages.Receipt(0, self.stream, user, delivered, read if self.shows_read(user) else 0)
        senders = [
            sender
            for sender, seq in state.last_sent.items()
            if seq > before and sender != user and state.is_member(sender) and not self.hides_receipts(user, sender)
        ]
        if senders:
            self.spread(senders, Notice(codec.encode(frame), ("receipt", self.stream, user)))

    def _tell_counts(self, before: int) -> None:
        state, sessions = self.state, self.services.directory.sessions
        concerned = [
            (sender, seq)
            for sender, seq in state.last_sent.items()
            if before < seq <= state.durable and sender in sessions and state.is_member(sender)
        ]
        if not concerned:
            return
        delivered, read = sorted(state.delivered.values()), sorted(state.read.values())
        for sender, seq in concerned:
            # Without the sender, whose own marks are at least as high.
            has = len(delivered) - bisect_left(delivered, seq) - 1
            has_read = len(read) - bisect_left(read, seq) - 1
            frame = messages.ReceiptCount(0, self.stream, seq, has, has_read)
            self.spread([sender], Notice(codec.encode(frame), ("receipt", self.stream)))

    def shows_read(self, user: int) -> bool:
        """Whether this user lets others see what they have read."""
        people = self.services.people
        facts = people.peek(user) if people.knows(user) else None
        return facts is not None and facts.privacy.receipts

    def hides_receipts(self, user: int, sender: int) -> bool:
        """Whether the watermarks of `user` are kept from `sender`."""
        return False

    # --- typing -------------------------------------------------------------------------------------------------------

    def _typed(self, message: Typed) -> None:
        if self.state.is_member(message.user):
            frame = codec.encode(messages.MemberTyping(0, self.stream, message.user, message.on))
            others = [user for user in self.audience() if user != message.user and not self.hides_receipts(message.user, user)]
            self.spread(others, Notice(frame, looking=self.stream))

    def may_sleep(self) -> bool:
        return super().may_sleep() and not (self._moved or self._readers or self._storing_marks or self._answers)
