"""The owner of a stream: the shell around a pure `Log`. Conversations, groups and accounts are its subclasses.

load      the state comes from the store; commands wait in a bounded stash meanwhile
decide    a command is decided at once, or after one look-up (a target, somebody's facts); the device's later commands wait
          behind it, so that their order holds, and nobody else's do
flush     what was accepted in one turn goes to the writer as one append; the owner goes on with the next command
release   when it is durable, and in seq order, the fan-out gets it: `Sent` for its sender, the event for everybody else
drop      when it is not, or nobody knows, all that is provisional is dropped, its senders hear so, and the state is loaded
          again once every append under way has come back; if the store has more than was released, readers are told to look
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from actors.messages import Advanced, Answer, Burst, Notice, Persist, Persisted, Query, Spread
from actors.runtime.actor import Actor
from actors.runtime.errors import PipesFull
from actors.services import Services
from actors.state import log, messaging
from protocol import codec, codes, connection, events, messages
from storage import errors, records

logger = logging.getLogger("actors.owner")

#: Commands of one device that wait behind one that is being looked up: what a device may have unanswered.
MAX_HELD = 64
#: What a client is told to wait when the store does not answer, or its owner's queue is full: a few commits' time.
RETRY_MS = 500
#: Seconds after which a store that did not answer is asked again for the state, and the server's own commands are tried again.
LOAD_AGAIN_S = 1.0


class Fenced(Exception):
    """A newer owner has this stream; this one must not go on."""


@dataclass(slots=True)
class _Loaded:
    result: records.Loaded | BaseException


@dataclass(slots=True)
class _Found:
    command: log.Command
    result: Any
    life: int


@dataclass(slots=True)
class _Answered:
    command: log.Command
    result: Any


class _Flush:
    """Told to oneself: all commands of this turn are decided."""


_FLUSH = _Flush()


class _LoadAgain:
    """Told to oneself: the store may answer by now."""


_LOAD_AGAIN = _LoadAgain()


class _TryAgain:
    """Told to oneself: what the store did not take of the server's own commands may go now."""


_TRY_AGAIN = _TryAgain()
#: The token of an empty write: all writes told to the writer before it have ended.
_BARRIER = object()


class Owner(Actor):
    """`touched` is set by every message and cleared by the sweep: what stays untouched from one sweep to the next may sleep.

    The server's own commands (device 0) are told once and nobody repeats them: they are never turned away, and tried again
    (`_again`) until they are stored or refused for good. Many owners are idle: they keep lists, empty ones the smallest."""

    mailbox_limit: ClassVar[int] = 4096

    def __init__(self, services: Services, stream: bytes) -> None:
        super().__init__()
        self.services = services
        self.stream = stream
        self.touched = True
        self.loading = True
        self._stash: list[Any] = []
        self._held: dict[int, deque[log.Command]] = {}
        self._fresh: list[log.Accepted] = []
        self._under_way: list[list[log.Accepted]] = []
        self._again: list[log.Command] = []
        self._releasing: Sequence[log.Accepted] = ()
        self._looking_up: dict[int, int] = {}
        self._life = 0  # times that the state was loaded

    # --- what a kind of stream says -----------------------------------------------------------------------------------

    @property
    def state(self) -> log.Log:
        raise NotImplementedError

    def renew(self) -> None:
        """Make `state` a new one of this stream, empty as yet."""
        raise NotImplementedError

    def need(self, command: log.Command) -> Awaitable[Any] | None:
        """What has to be looked up before this command, no repeat, can be decided; None: nothing. codes.Refused."""
        raise NotImplementedError

    def context(self, command: log.Command, found: Any) -> tuple[log.Target | None, Any]:
        """The target and the context for `Log.decide`. codes.Refused."""
        raise NotImplementedError

    def audience(self) -> Sequence[int]:
        """The users who get this stream's events."""
        raise NotImplementedError

    def release(self, batch: list[log.Accepted]) -> None:
        """Events have become durable."""
        self.burst(batch, self.audience())

    def loaded(self) -> None:
        """The state is there."""

    def handle(self, message: Any) -> None:
        """Messages that only this kind of stream knows; the state is loaded."""
        raise NotImplementedError

    def marks(self, batch: Sequence[log.Accepted]) -> Sequence[records.Mark]:
        """Watermarks that move with these events."""
        return ()

    def may_sleep(self) -> bool:
        """Whether nothing is under way. (The runtime knows of mailbox, timers and pipes.)"""
        return not (self._fresh or self._under_way or self._stash or self._held)

    # --- dispatch -----------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        if self.stream in self.services.directory.unreleased:
            # Appends of the owner that failed may still be on their way.
            self.services.whereis("writer").tell_committed(Persist((), self.actor_ref, _BARRIER))
        else:
            self._load()

    def on_stop(self) -> None:
        self._leave_word()

    def on_failure(self, *_: Any) -> None:
        self._leave_word()  # however it failed: in `_abandon`'s reach or not

    def _leave_word(self) -> list[log.Accepted]:
        """Tell who loads this stream next what may be stored and was not released; that is returned."""
        accepted = [*self._releasing, *self.later()]
        if accepted:
            self.services.directory.unreleased.setdefault(self.stream, accepted[0].seq)
        return accepted

    def on_receive(self, message: Any) -> None:
        self.touched = True
        try:
            self._receive(message)
        except BaseException:
            self._abandon(message)
            raise

    def _receive(self, message: Any) -> None:
        kind = type(message)
        if kind is Persisted:
            if message.token is _BARRIER:
                self._load()
            else:
                self.persisted(message)
        elif kind is _Flush:
            self._flush()
        elif kind is _Loaded:
            self._come_to_life(message.result)
        elif kind is _Found:
            self._found(message)
        elif kind is _Answered:
            self.answer_again(message.command, message.result)
        elif kind is _LoadAgain:
            self._load()
        elif kind is _TryAgain:
            self._try_again()
        elif self.loading:
            self._stash_away(message)
        elif kind is log.Command:
            self._take(message)
        else:
            self.handle(message)

    def _stash_away(self, message: Any) -> None:
        if len(self._stash) < self.mailbox_limit or self.keeps(message):
            self._stash.append(message)
        else:
            self._turn_away(message, codes.BUSY)

    def keeps(self, message: Any) -> bool:
        """Whether nobody would repeat this message: it is not turned away, and outlasts this owner."""
        return type(message) is log.Command and not message.device

    def _turn_away(self, message: Any, error: codes.Error) -> None:
        """Answer what a client waits for; nobody waits for anything else."""
        if type(message) is log.Command:
            self.refuse(message, codes.Refused(error, retry_after_ms=RETRY_MS))
        elif type(message) is Query:
            self.reply(message, connection.error_frame(message.frame.rid, codes.Refused(error, retry_after_ms=RETRY_MS)))

    def _abandon(self, failing: Any) -> None:
        """This owner is about to fail while it handles a message: answer everybody who waits, and leave word of what may be
        stored and was not released. What nobody would repeat goes to the next owner, except what this one failed over."""
        accepted = self._leave_word()
        cause = failing.command if type(failing) is _Found else failing
        lost = [each.command for each in accepted]
        if not any(command is cause for command in lost):
            lost.append(cause)
        held = [command for commands in self._held.values() for command in commands]
        unheard = [*held, *self._stash, *self.actor_ref.waiting()]
        for waiting, error in ((lost, codes.UNKNOWN), (unheard, codes.UNAVAILABLE)):
            for message in waiting:
                if not self.keeps(message):
                    self._turn_away(message, error)
        for message in (*lost, *unheard, *self._again):
            if self.keeps(message) and message is not cause:
                self.pass_on(message)

    def pass_on(self, message: Any) -> None:
        """Tell the owner of this stream who comes after this one."""
        self.actor_ref.runtime.loop.call_soon(self.services.directory.tell_committed, self.stream, message)

    # --- load ---------------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        self.loading = True
        self.pipe(self.services.store.load(self.stream), _Loaded)

    def _come_to_life(self, result: records.Loaded | BaseException) -> None:
        if isinstance(result, errors.Unavailable | errors.OutcomeUnknown):
            # The store's trouble, not this owner's: it would not get better by a restart.
            stash, self._stash = self._stash, [message for message in self._stash if self.keeps(message)]
            for message in stash:
                if not self.keeps(message):
                    self._turn_away(message, codes.UNAVAILABLE)
            self.schedule(LOAD_AGAIN_S, _LOAD_AGAIN)
            return
        if isinstance(result, BaseException):
            raise result
        self.renew()
        self.state.load(result)
        self.loading = False
        self._life += 1
        self._announce()
        self.loaded()
        self._work_off()

    def _work_off(self) -> None:
        """Handle what waits, until the state is to be loaded again. What is behind a message that raises waits on, to be
        answered or passed on."""
        stash, self._stash = self._stash, []
        at = 0
        try:
            while at < len(stash) and not self.loading:
                message = stash[at]
                at += 1
                if type(message) is log.Command:
                    self._take(message)
                else:
                    self.handle(message)
        except BaseException:
            self._turn_away(message, codes.UNKNOWN)
            raise
        finally:
            self._stash[:0] = stash[at:]

    def _announce(self) -> None:
        """Events that became durable although nobody knew: their readers have not heard of them."""
        unreleased = self.services.directory.unreleased
        first = unreleased.get(self.stream, 0)
        if 0 < first <= self.state.durable:
            advanced = Advanced(self.stream, first, self.state.durable)
            self.services.whereis("fanout").tell_committed(Spread(self.concerned(), advanced))
        unreleased.pop(self.stream, None)

    def concerned(self) -> Sequence[int]:
        """The users who may have to read events that nobody released: the audience, and who has just left it."""
        return self.audience()

    # --- decide -------------------------------------------------------------------------------------------------------

    def _take(self, command: log.Command) -> None:
        held = self._held.get(command.device)
        if held is None:
            self._try(command)
        elif len(held) < MAX_HELD or not command.device:  # the server's own are few, and nobody would repeat them
            held.append(command)
        else:
            self.refuse(command, codes.Refused(codes.BUSY, retry_after_ms=RETRY_MS))

    def _try(self, command: log.Command) -> bool:
        """Decide, or begin the look-up that has to come first: then False, and the device's commands are held."""
        try:
            known = self.state.earlier(command)
            if known is not None:
                self._settle(command, known)
                return True
            need = self.need(command)
            if need is None:
                self.decide(command, None)
                return True
            life = self._life
            self.pipe(need, lambda result: _Found(command, result, life))
        except codes.Refused as refused:
            self.refuse(command, refused)
            return True
        except PipesFull:
            self.refuse(command, codes.Refused(codes.BUSY, retry_after_ms=RETRY_MS))
            return True
        self._held[command.device] = deque((command,))
        self._count_look_up(command, 1)
        return False

    def _found(self, found: _Found) -> None:
        command = found.command
        self._count_look_up(command, -1)
        held = self._held.pop(command.device)
        if self.loading:
            self._stash[:0] = held  # before what the device has sent since
            return
        try:
            if found.life == self._life:
                held.popleft()
                self.decide(command, found.result)
            # else the state was loaded again meanwhile, and what was found may be older
            while held:
                if not self._try(held.popleft()):
                    self._held[command.device].extend(held)
                    return
        except BaseException:
            self._stash[:0] = held  # to be answered
            raise

    def decide(self, command: log.Command, found: Any) -> None:
        try:
            if isinstance(found, BaseException):
                raise as_refusal(found)
            target, context = self.context(command, found)
            decision = self.state.accept(command, self.services.clock(), target, context)
        except codes.Refused as refused:
            self.refuse(command, refused)
        else:
            self._settle(command, decision)

    def _settle(self, command: log.Command, decision: log.Decision) -> None:
        if type(decision) is log.Accepted:
            if not self._fresh:
                self.actor_ref.tell_committed(_FLUSH)
            self._fresh.append(decision)
        elif type(decision) is log.Repeat:
            self.services.telemetry.repeats += 1
            seq = decision.seq
            self.pipe(self.services.store.range(self.stream, seq, seq, 1, 1), lambda result: _Answered(command, result))

    def answer_again(self, command: log.Command, result: Any) -> None:
        """A repeated command gets the answer that it got, or would have got, the first time."""
        if isinstance(result, BaseException):
            self.refuse(command, as_refusal(result))
            return
        event = events.decode(result[0].data)
        assert isinstance(command.frame, messages.Change)  # the server's own commands are never repeats
        self.answer(command, messages.Sent(command.frame.rid, result[0].seq, event.n, event.time))

    def _try_again(self) -> None:
        again, self._again = self._again, []
        self._stash += again
        if not self.loading:
            self._work_off()

    # --- flush, release, drop -----------------------------------------------------------------------------------------

    def _flush(self) -> None:
        batch, self._fresh = self._fresh, []
        if not batch:
            return
        last = batch[-1]
        append = records.Append(
            self.stream, self.state.epoch, batch[0].seq, last.n, last.time, [accepted.stored for accepted in batch]
        )
        for accepted in batch:
            if accepted.parts or accepted.erase or accepted.members or accepted.mentions:
                append.parts = [*append.parts, *accepted.parts]
                append.erase = [*append.erase, *accepted.erase]
                append.members = [*append.members, *accepted.members]
                append.mentions = [*append.mentions, *accepted.mentions]
        writes: list[records.Write] = [append]
        if self.state.snapshot_due:
            writes.append(self.state.snapshot())
        writes.extend(self.marks(batch))
        self._under_way.append(batch)
        self.services.whereis("writer").tell_committed(Persist(writes, self.actor_ref, None, self._life))

    def write_snapshot(self) -> None:
        """Store a snapshot before one is due, without an event."""
        self._flush()  # a snapshot is of all that was decided
        self._under_way.append([])
        self.services.whereis("writer").tell_committed(Persist([self.state.snapshot()], self.actor_ref, None, self._life))

    def persisted(self, message: Persisted) -> None:
        batch = self._releasing = self._under_way.pop(0)
        outcome = message.outcomes[0]
        failed = [each for each in message.outcomes if each.result is not records.Result.STORED]
        if outcome.result is records.Result.STORED and not self.loading:
            if batch:
                self.state.stored(batch[-1].seq, self._looking_up)
                self._count(batch)
                self.release(batch)
            if failed:
                # A snapshot or a mark is missing: what the store has is the truth.
                self._drop((), codes.UNAVAILABLE)
        else:
            definite = outcome.result not in (records.Result.UNKNOWN, records.Result.STORED)
            telemetry = self.services.telemetry
            if definite:
                telemetry.appends_failed += 1
            else:
                telemetry.appends_unknown += 1
            self._drop(batch, codes.UNAVAILABLE if definite else codes.UNKNOWN)
            if outcome.result is records.Result.FENCED:
                raise Fenced(outcome.reason)
        self._releasing = ()
        if self.loading and not self._under_way:
            logger.warning("stream %s is loaded again: %s", self.stream.hex(), failed[0].reason if failed else "")
            self.services.telemetry.stream_reloads += 1
            self._load()

    def _drop(self, batch: Sequence[log.Accepted], error: codes.Error) -> None:
        """Give up what is provisional: this batch, and what was decided on top of it and is not on its way yet."""
        self.loading = True
        self.services.directory.unreleased.setdefault(self.stream, self.state.durable + 1)
        for accepted in (*batch, *self._fresh):
            self.refuse(accepted.command, codes.Refused(error, retry_after_ms=RETRY_MS))
        self._fresh.clear()
        self._releasing = ()

    def later(self) -> list[log.Accepted]:
        """What was decided after the batch that is released now, in order."""
        return [accepted for batch in (*self._under_way, self._fresh) for accepted in batch]

    def _count(self, batch: list[log.Accepted]) -> None:
        telemetry = self.services.telemetry
        telemetry.events_committed += len(batch)
        for accepted in batch:
            if type(accepted.event) is events.Message:
                telemetry.messages_committed += 1

    # --- words for others ---------------------------------------------------------------------------------------------

    def burst(self, batch: Sequence[log.Accepted], users: Sequence[int]) -> None:
        """Have events delivered to these users, in order."""
        self.services.whereis("fanout").tell_committed(Burst(self.stream, batch, users))

    def spread(self, users: Sequence[int], notice: Notice) -> None:
        """Have a frame that is no event delivered to these users, as far as they are connected."""
        self.services.whereis("fanout").tell_committed(Spread(users, notice))

    def reply(self, query: Query, frame: messages.Frame) -> None:
        """Answer a device's question."""
        self.services.directory.tell_committed(("session", query.user), Answer(query.device, codec.encode(frame)))

    def answer(self, command: log.Command, frame: messages.Frame) -> None:
        """Answer a device's command; nobody hears it if the device is gone, or the command was the server's own."""
        if command.device:
            answer = Answer(command.device, codec.encode(frame))
            self.services.directory.tell_committed(("session", command.user), answer)

    def refuse(self, command: log.Command, refused: codes.Refused) -> None:
        """Say why a command has no effect. One of the server's own, whose time may yet come, is tried again."""
        if not command.device and refused.error.temporary:
            if not self._again:
                self.schedule(LOAD_AGAIN_S, _TRY_AGAIN)
            self._again.append(command)
            return
        if isinstance(command.frame, messages.Frame):
            self.services.telemetry.errors[refused.error.symbol] += 1
            self.answer(command, connection.error_frame(command.frame.rid, refused))

    # --- look-ups -----------------------------------------------------------------------------------------------------

    def _count_look_up(self, command: log.Command, by: int) -> None:
        """A target counts as looked up until what was found is handled, so that what happens to it meanwhile is not missed."""
        target = messaging.target_of(command.frame)
        if target:
            count = self._looking_up.get(target, 0) + by
            if count:
                self._looking_up[target] = count
            else:
                del self._looking_up[target]

    async def item(self, seq: int) -> log.Target | None:
        """An item as it is now."""
        item = await self.services.store.item(self.stream, seq)
        return None if item is None else as_target(item)


def as_target(item: records.Item) -> log.Target:
    """A stored item as the decisions want it."""
    fold = events.decode_fold(item.fold) if item.fold is not None else events.Fold()
    return log.Target(item.event.seq, events.decode(item.event.data), fold)


def as_refusal(error: BaseException) -> codes.Refused:
    """What a client hears of a failed look-up. Anything but a refusal or the store's trouble is a defect, and raised."""
    if isinstance(error, codes.Refused):
        return error
    if isinstance(error, errors.OutcomeUnknown):
        return codes.Refused(codes.UNKNOWN, retry_after_ms=RETRY_MS)
    if isinstance(error, errors.StorageError):
        return codes.Refused(codes.UNAVAILABLE, retry_after_ms=RETRY_MS)
    raise error
