"""Watermarks: how far each member of a stream has, and has read, what was said; and the receipts that tell others so.

    moved     a device acknowledged, or somebody read: the state's mark goes up, and who moved is noted
    stored    what moved in this turn (in large groups: in this second) is written; it shares commits with messages
    told      only then do others hear of it, so that nobody sees a mark go back after a crash

Marks are no events: they may be stored before or after a load of the state read them. So they outlast a reload here.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from actors.messages import Answer, HasRead, Marked, Notice, Persist, Persisted
from actors.owner import RETRY_MS, Owner
from actors.receipts import Postponed
from actors.runtime.errors import PipesFull
from actors.services import Services
from actors.state import log, messaging
from protocol import codec, codes, connection, events, ids, messages
from storage import errors, records

#: Members above which only senders hear of receipts, as counts, once a second (docs/protocol.md, Receipts).
FEW = 32
#: Seconds between two counts of receipts in a large group.
COUNT_EVERY_S = 1.0
#: People whose facts are looked up at once: a large group must not keep everybody else from the store.
AT_ONCE = 64

#: By member: the seqs up to which everything is delivered and read.
Marks = dict[int, tuple[int, int]]


class _Receipts:
    """Told to oneself: the watermarks of this turn, or of this second, are to be stored and told."""


_RECEIPTS = _Receipts()


#: The token of a write of watermarks.
_WRITTEN = object()


class _Met:
    """Who moved watermarks is known now, or why not."""

    __slots__ = ("found", "moved")

    def __init__(self, moved: Marks, found: Any) -> None:
        self.moved = moved
        self.found = found


class WatermarkOwner(Owner):
    """The owner of a stream whose members' watermarks are kept.

    `_moved` maps members whose marks moved to what is stored of them, until they are on their way to the store; `_writing` is
    the same of those that are. `_told` maps members to how far others were told that they have read. `_carried` holds all
    marks while the state is loaded again, and `_unwritten` whose are to be written after; `_untold` what was written
    meanwhile, as `_moved`. `_readers` want to hear that the next write is done, `_awaited` that the one under way is."""

    def __init__(self, services: Services, stream: bytes) -> None:
        super().__init__(services, stream)
        self._moved: Marks = {}
        self._writing: Marks = {}
        self._is_writing = False
        self._told: dict[int, int] = {}
        self._carried: Marks = {}
        self._unwritten: set[int] = set()
        self._untold: Marks = {}
        self._readers: list[Marked] = []
        self._awaited: Sequence[Marked] = ()

    @property
    def state(self) -> messaging.Messaging:
        raise NotImplementedError

    def hides_receipts(self, user: int, sender: int) -> bool:
        """Whether the watermarks of `user` are kept from `sender`."""
        return False

    def parties_to_receipts(self, moved: Iterable[int]) -> Sequence[int]:
        """Whoever has to be known before it is told that these users' watermarks moved, and is not."""
        knows = self.services.people.knows
        # A count is of all: who is not known would be missing from it.
        return [user for user in (moved if len(self.audience()) <= FEW else self.audience()) if not knows(user)]

    async def meet(self, users: Sequence[int]) -> None:
        """Have the facts of these users at hand."""
        for at in range(0, len(users), AT_ONCE):
            await asyncio.gather(*(self.services.people.load(user) for user in users[at : at + AT_ONCE]))

    def may_sleep(self) -> bool:
        return super().may_sleep() and not (self._moved or self._readers or self._is_writing)

    # --- how far somebody is ------------------------------------------------------------------------------------------

    def stored_marks(self, user: int) -> tuple[int, int]:
        """What the store has, as far as is known: without what has moved since, and without own messages on their way (they
        have moved the own marks already)."""
        before = self._writing.get(user) or self._moved.get(user)
        if before is not None:
            return before
        return self._durable_marks(user)

    def _durable_marks(self, user: int) -> tuple[int, int]:
        """What may be stored."""
        state = self.state
        return min(state.delivered.get(user, 0), state.durable), min(state.read.get(user, 0), state.durable)

    def shown_read(self, user: int) -> int:
        """Up to where others may know that a member has read. Who lets nobody see that stays where they were last seen."""
        people = self.services.people
        facts = people.peek(user) if people.knows(user) else None
        if facts is not None and facts.privacy.receipts:
            self._told[user] = self.stored_marks(user)[1]
        return self._told.get(user, 0)

    # --- moved --------------------------------------------------------------------------------------------------------

    def handle(self, message: Any) -> None:
        kind = type(message)
        if kind is Marked:
            self._mark(message)
        elif kind is Postponed:
            if self.state.is_member(message.user):
                self.state.mark(message.user, message.seq, 0)
                self._has_moved(message.user, (0, self._durable_marks(message.user)[1]))  # nobody was told
        elif kind is _Receipts:
            self._write_marks()
        else:
            self._met(message)

    def marks(self, batch: Sequence[log.Accepted]) -> Sequence[records.Mark]:
        """Who writes has read what stands above; stored with the message."""
        newest = {each.event.sender: each.seq for each in batch if type(each.event) is events.Message and each.event.sender}
        return [records.Mark(self.stream, user, seq, seq) for user, seq in newest.items()]

    def _mark(self, message: Marked) -> None:
        state, user = self.state, message.user
        if message.rid and not state.is_member(user):
            self._answer_reader(message, codes.Refused(codes.NOT_ALLOWED))
            return
        if message.rid and not state.head:
            self._answer_reader(message)  # nothing was ever said here, and nothing is to be kept of it
            return
        before = self._durable_marks(user)
        if message.rid:
            self._readers.append(message)
        if state.mark(user, message.delivered, message.read) or message.rid:
            self._has_moved(user, before)

    def _has_moved(self, user: int, before: tuple[int, int]) -> None:
        """A watermark is to be stored and told; with what moves until then."""
        if not self._moved and not self._is_writing:
            self._receipts_due()
        self._moved.setdefault(user, before)

    def _receipts_due(self) -> None:
        if len(self.audience()) > FEW and not self._readers:
            self.schedule(COUNT_EVERY_S, _RECEIPTS)
        else:
            self.actor_ref.tell_committed(_RECEIPTS)

    def _answer_reader(self, message: Marked, refused: codes.Refused | None = None) -> None:
        """Done once what was read is stored, so that whoever asks then finds it; or why not."""
        frame = messages.Done(message.rid) if refused is None else connection.error_frame(message.rid, refused)
        self.services.directory.tell_committed(("session", message.user), Answer(message.device, codec.encode(frame)))

    def keeps(self, message: Any) -> bool:
        return type(message) is Postponed or (type(message) is Marked and not message.rid) or super().keeps(message)

    def _abandon(self, failing: Any) -> None:
        super()._abandon(failing)
        for message in (*self._readers, *self._awaited):
            self._turn_away(message, codes.UNAVAILABLE)
        moved = {user: self._durable_marks(user) for user in (*self._writing, *self._moved)}
        for user, seqs in (moved | self._carried).items():
            self.pass_on(Marked(user, *seqs))

    def _turn_away(self, message: Any, error: codes.Error) -> None:
        if type(message) is Marked and message.rid:
            self._answer_reader(message, codes.Refused(error, retry_after_ms=RETRY_MS))
        else:
            super()._turn_away(message, error)

    # --- stored -------------------------------------------------------------------------------------------------------

    def _write_marks(self) -> None:
        if self._is_writing or not self._moved:
            return
        self._writing, self._moved = self._moved, {}
        self._awaited, self._readers = self._readers, []
        members = [user for user in self._writing if self.state.is_member(user)]
        marks = [records.Mark(self.stream, user, *self._durable_marks(user)) for user in members]
        self._is_writing = True  # also when there is no mark left to write: the answer ends it
        self.services.whereis("writer").tell_committed(Persist(marks, self.actor_ref, _WRITTEN))

    def persisted(self, message: Persisted) -> None:
        if message.token is _WRITTEN:
            self._marks_written(all(each.result is records.Result.STORED for each in message.outcomes))
        else:
            super().persisted(message)

    def _marks_written(self, stored: bool) -> None:
        self._is_writing = False
        moved, self._writing = self._writing, {}
        readers, self._awaited = self._awaited, ()
        for reader in readers:
            self._answer_reader(reader, None if stored else codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS))
        if self.loading and stored:
            self._untold = moved | self._untold
        elif self.loading:
            self._unwritten |= moved.keys()
        elif stored:
            self._have_met(moved)
            if self._moved:
                self._receipts_due()
        else:
            # Receipts may be late, not wrong: what could not be stored is tried again, and told then.
            self._tell_later(moved)

    def _tell_later(self, moved: Marks) -> None:
        """Store (what is stored, once more) and tell it in a while."""
        self._moved |= moved
        self.schedule(COUNT_EVERY_S, _RECEIPTS)

    def _drop(self, batch: Sequence[log.Accepted], error: codes.Error) -> None:
        self._unwritten |= self._moved.keys()
        self._moved = {}
        self._carried = {user: self._durable_marks(user) for user in self.audience()}
        super()._drop(batch, error)

    def loaded(self) -> None:
        carried, self._carried = self._carried, {}
        unwritten, self._unwritten = self._unwritten, set()
        for user, marks in carried.items():
            before = self._durable_marks(user)
            self.state.mark(user, *marks)
            if user in unwritten:
                self._has_moved(user, before)
        untold, self._untold = self._untold, {}
        if untold:
            self._have_met(untold)
        readers, self._readers = self._readers, []
        for message in readers:
            self._turn_away(message, codes.UNAVAILABLE)

    # --- told ---------------------------------------------------------------------------------------------------------

    def _have_met(self, moved: Marks) -> None:
        """Tell receipts once it is known what those concerned say of them."""
        strangers = self.parties_to_receipts(moved)
        if not strangers:
            self._tell_receipts(moved)
            return
        try:
            self.pipe(self.meet(strangers), lambda found: _Met(moved, found))
        except PipesFull:
            self._tell_later(moved)

    def _met(self, message: _Met) -> None:
        if isinstance(message.found, errors.StorageError):
            self._tell_later(message.moved)
        elif isinstance(message.found, BaseException):
            raise message.found
        else:
            self._tell_receipts(message.moved)

    def _tell_receipts(self, moved: Marks) -> None:
        """Tell senders whose newest message a watermark has reached, or is still short of; and the user's own devices.

        What is told is what is stored, the newest of it: a look-up that took longer must not make it go back."""
        for user, (_, before) in moved.items():
            read = self.stored_marks(user)[1]
            if read > before:
                self._tell_own_read(user, read)
        if len(self.audience()) > FEW:
            self._tell_counts(min((min(before) for before in moved.values()), default=0))
            return
        for user, before_both in moved.items():
            self._tell_receipt(user, min(before_both))

    def _tell_own_read(self, user: int, seq: int) -> None:
        """The user's other devices hear of it by the account stream; the session gathers what comes within a second."""
        directory = self.services.directory
        if not directory.tell_committed(("session", user), HasRead(self.stream, seq)):
            event = events.OwnRead(*events.UNFILLED, self.stream, seq)
            directory.tell_committed(ids.account_stream(user), log.Command(user, 0, event, 0))

    def _tell_receipt(self, user: int, before: int) -> None:
        state = self.state
        if not state.is_member(user):
            return  # gone meanwhile, and the marks with them
        frame = messages.Receipt(0, self.stream, user, self.stored_marks(user)[0], self.shown_read(user))
        senders = [
            sender
            for sender, seq in state.last_sent.items()
            if seq > before and sender != user and state.is_member(sender) and not self.hides_receipts(user, sender)
        ]
        if senders:
            self.spread(senders, Notice(codec.encode(frame), ("receipt", self.stream, user)))

    def _tell_counts(self, before: int) -> None:
        """How many others have, and have read, a sender's newest message. Who came later (and stands beyond it for that) does
        not count, nor who lets nobody see what they have read."""
        state, sessions = self.state, self.services.directory.sessions
        concerned = [
            (sender, seq)
            for sender, seq in state.last_sent.items()
            if before < seq <= state.durable and sender in sessions and state.is_member(sender)
        ]
        if not concerned:
            return
        came = sorted(state.came(user) for user in self.audience())
        delivered = sorted(self.stored_marks(user)[0] for user in self.audience())
        shown = {user: self.shown_read(user) for user in self.audience()}
        read = sorted(shown.values())
        readers_came = sorted(state.came(user) for user, seq in shown.items() if seq >= state.came(user))
        for sender, seq in concerned:
            frame = messages.ReceiptCount(
                0,
                self.stream,
                seq,
                # Without the sender, who has it, but of whom that may not be stored yet.
                _at_least(delivered, seq) - _at_least(came, seq + 1) - (self.stored_marks(sender)[0] >= seq),
                _at_least(read, seq) - _at_least(readers_came, seq + 1) - (shown[sender] >= seq),
            )
            self.spread([sender], Notice(codec.encode(frame), ("receipt", self.stream)))


def _at_least(ascending: Sequence[int], least: int) -> int:
    """How many are `least` or more."""
    return len(ascending) - bisect_left(ascending, least)
