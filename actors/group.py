"""The group: the owner of a group stream."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from actors.messages import Confirmed, Query
from actors.messaging import MessagingOwner
from actors.runtime import timers
from actors.services import Services
from actors.state import group, log
from actors.watermarks import FEW
from protocol import codes, events, ids, messages

#: Seconds after which account streams that have not confirmed are told again.
TELL_AGAIN_S = 10.0


class _TellAgain:
    """Told to oneself: some account stream may not have heard."""


_TELL_AGAIN = _TellAgain()


class Group(MessagingOwner):
    """Transient: loaded at its first message, put to sleep when idle."""

    _state: group.Group

    def __init__(self, services: Services, stream: bytes) -> None:
        super().__init__(services, stream)
        self._telling: timers.Timer | None = None
        #: What is owed stands in events after the snapshot; a new one ends that it is told at each load. Tried once while this
        #: owner lives: when the store does not take it, loading and telling again would go round and round.
        self._owed_at_load = False
        self._has_settled = False

    @property
    def state(self) -> group.Group:
        return self._state

    def renew(self) -> None:
        self._state = group.Group(self.stream, self.services.rules)

    def loaded(self) -> None:
        super().loaded()
        self._owed_at_load = bool(self.state.owed)
        self._tell_owed()

    def concerned(self) -> Sequence[int]:
        return list({*self.audience(), *self.state.owed})

    # --- decisions ----------------------------------------------------------------------------------------------------

    def strangers(self, command: log.Command) -> Sequence[int]:
        return [user for user in _added(command.frame) if not self.services.people.knows(user)]

    def policy_context(self, command: log.Command) -> group.Asked:
        frame, people = command.frame, self.services.people
        added = _added(frame)
        if not all(people.knows(user) for user in added):
            raise codes.Refused(codes.BUSY)
        invite = 0
        if isinstance(frame, messages.Join):
            invite = self.services.check_invite(self.stream, frame.code) or 0
        if isinstance(frame, messages.CreateGroup) and self.stream != ids.group_stream(command.device, frame.counter):
            raise codes.Refused(codes.NOT_ALLOWED)
        return group.Asked({user: people.peek(user) for user in added}, invite)

    # --- delivery -----------------------------------------------------------------------------------------------------

    def release(self, batch: list[log.Accepted]) -> None:
        """Who is removed gets the event of the removal and nothing after; who comes gets the one that lets them in.

        `members()` is as of the newest decision, which may be ahead of this batch; the membership changes in the batch and
        those decided after it are undone to find who was there at each event."""
        self._tell_strangers(batch)
        if not any(each.members for each in (*batch, *self.later())):
            self.burst(batch, self.audience())
            return
        present = set(self.audience())
        for each in reversed((*batch, *self.later())):
            _undo(present, each)
        for moves, run in groupby(batch, key=lambda each: bool(each.members)):
            accepted = list(run)
            if not moves:
                self.burst(accepted, list(present))
                continue
            for each in accepted:
                before = set(present)
                _redo(present, each)
                self.burst([each], list(before | present))
        self._tell_owed()

    def _tell_owed(self) -> None:
        """Let the account streams of who came and went hear of it, until they confirm."""
        for user, (seq, came, by) in self.state.owed.items():
            if seq <= self.state.durable:
                kind = events.Joined if came else events.Parted
                self._notify(user, kind(*events.UNFILLED, self.stream, seq, by))
        if self.state.owed and self._telling is None:
            self._telling = self.schedule(TELL_AGAIN_S, _TELL_AGAIN)

    def _confirmed(self, message: Confirmed) -> None:
        self.state.confirmed(message.user, message.seq)
        if self.state.owed:
            return
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._owed_at_load and not self._has_settled:
            self._has_settled = True
            self.write_snapshot()

    def _notify(self, user: int, event: events.Event) -> None:
        """Have the server itself tell a user's account stream something."""
        self.services.directory.tell_committed(ids.account_stream(user), log.Command(user, 0, event, 0))

    def _tell_strangers(self, batch: Sequence[log.Accepted]) -> None:
        """Who asks to join, or is turned down, is no member, and gets no events."""
        for each in batch:
            if type(each.event) is events.JoinRequested:
                self.answer(each.command, messages.Sent(each.command.frame.rid, each.seq, each.n, each.time))  # type: ignore[union-attr]
            elif type(each.event) is events.JoinRefused:
                self._notify(each.event.user, events.TurnedDown(*events.UNFILLED, self.stream))

    # --- questions ----------------------------------------------------------------------------------------------------

    def handle(self, message: Any) -> None:
        if type(message) is Query and (strangers := self._to_meet(message)):
            self.ask_first(message, self.meet(strangers))
        elif type(message) is Confirmed:
            self._confirmed(message)
        elif message is _TELL_AGAIN:
            self._telling = None
            self._tell_owed()
        else:
            super().handle(message)

    def _to_meet(self, query: Query) -> Sequence[int]:
        """Members of whom it has to be known whether they show what they have read."""
        state, knows = self.state, self.services.people.knows
        if type(query.frame) is not messages.FetchGroup or len(state.standing) > FEW or query.user not in state.standing:
            return ()
        return [user for user in state.standing if user != query.user and not knows(user)]

    def reply_to(self, query: Query) -> messages.Frame:
        frame, state = query.frame, self.state
        standing = state.standing.get(query.user)
        if standing is None or standing.joined > state.durable:
            raise codes.Refused(codes.NOT_ALLOWED)
        match frame:
            case messages.FetchGroup():
                marks = self._marks_of_others(query.user) if len(state.standing) <= FEW else ()
                return messages.GroupState(
                    frame.rid,
                    self.stream,
                    state.head,
                    state.n,
                    state.title,
                    state.description,
                    state.picture,
                    state.permissions,
                    state.timer,
                    len(state.standing),
                    state.owner,
                    standing.role,
                    standing.joined,
                    marks,
                )
            case messages.FetchMembers():
                later = sorted(user for user in state.standing if user > frame.after)
                page = [messages.Member(user, state.standing[user].role, state.standing[user].joined) for user in later]
                return messages.MembersPage(frame.rid, tuple(page[: frame.limit]), len(page) > frame.limit, state.head)
            case messages.FetchGroupAdmin():
                return self._admin(query.user, frame)
            case _:
                raise codes.Refused(codes.NOT_ALLOWED)

    def _marks_of_others(self, user: int) -> tuple[messages.PeerMarks, ...]:
        state = self.state
        return tuple(
            messages.PeerMarks(member, self.stored_marks(member)[0], self.shown_read(member))
            for member in state.standing
            if member != user
        )

    def _admin(self, user: int, frame: messages.FetchGroupAdmin) -> messages.Frame:
        state = self.state
        if not state.may_administer(user):
            raise codes.Refused(codes.NOT_ALLOWED)
        invites = [
            messages.Invite(
                number,
                self.services.invite_code(self.stream, number),
                invite.uses,
                invite.used,
                invite.expires_at,
                invite.approval,
            )
            for number, invite in state.invites.items()
        ]
        requests, banned = tuple(state.requests), tuple(sorted(state.banned))
        return messages.GroupAdmin(frame.rid, tuple(invites), requests, banned, state.head)

    def may_sleep(self) -> bool:
        return super().may_sleep() and not self.state.owed


def _added(frame: object) -> Sequence[int]:
    """Users whom a command would add, and whose consent has to be looked up."""
    if isinstance(frame, messages.CreateGroup):
        return frame.members
    return frame.users if isinstance(frame, messages.AddMembers) else ()


def _undo(present: set[int], accepted: log.Accepted) -> None:
    for membership in accepted.members:
        if membership.joined == accepted.seq:
            present.discard(membership.user)
        else:
            present.add(membership.user)


def _redo(present: set[int], accepted: log.Accepted) -> None:
    for membership in accepted.members:
        if membership.joined == accepted.seq:
            present.add(membership.user)
        else:
            present.discard(membership.user)
