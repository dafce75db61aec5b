"""What follows from the events of a stream alone: who may read what, the members, and every item with what became of it.

Written from the protocol reference, and on purpose not with the server's own state machines: it is the other half of the
comparison "state before + events = state fetched after".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol import events, ids, messages

#: The end of an interval that lasts.
OPEN = 2**53 - 1

Intervals = list[tuple[int, int]]


def moves(event: events.AnyEvent) -> tuple[Sequence[int], Sequence[int]]:
    """Who comes, and who goes, by an event of a group."""
    match event:
        case events.GroupCreated():
            return (event.sender, *event.members), ()
        case events.MembersAdded():
            return event.users, ()
        case events.MemberJoined():
            return (event.user,), ()
        case events.MemberRemoved():
            return (), (event.user,)
        case events.MemberLeft():
            return (), (event.sender,)
        case _:
            return (), ()


def intervals(stream: bytes, log: Iterable[tuple[int, events.AnyEvent]]) -> dict[int, Intervals]:
    """The closed intervals [joined, removed] of seqs that each user may read."""
    kind = ids.kind(stream)
    if kind is ids.Kind.ACCOUNT:
        return {ids.owner(stream): [(1, OPEN)]}
    if kind is ids.Kind.DIRECT:
        return {user: [(1, OPEN)] for user in ids.parties(stream)}
    found: dict[int, Intervals] = {}
    for seq, event in log:
        came, went = moves(event)
        for user in came:
            own = found.setdefault(user, [])
            if not own or own[-1][1] != OPEN:
                own.append((seq, OPEN))
        for user in went:
            own = found.get(user, [])
            if own and own[-1][1] == OPEN:
                own[-1] = (own[-1][0], seq)
    return found


def may_read(own: Intervals, seq: int) -> bool:
    return any(first <= seq <= last for first, last in own)


@dataclass(slots=True)
class Item:
    """One item of the history as it is now. `body` None: erased. Reactions in the order of first reaction."""

    event: events.AnyEvent
    body: bytes | None
    edited_at: int = 0
    edits: list[int] = field(default_factory=list)
    deleted: bool = False
    reactions: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """A stream's state as of `head`."""

    head: int = 0
    n: int = 0
    items: dict[int, Item] = field(default_factory=dict)
    roles: dict[int, tuple[events.Role, int]] = field(default_factory=dict)
    title: str = ""
    timer: int = 0
    permissions: events.Permissions = field(default_factory=events.Permissions)

    def apply(self, seq: int, event: events.AnyEvent) -> None:
        """The next event that this reader has. What changes an item that the reader may not see changes nothing."""
        self.head, self.n = seq, event.n
        if events.kind_of(event) < 32:
            self.items[seq] = Item(event, bytes(event.body) if isinstance(event, events.Message) else None)
        came, went = moves(event)
        for user in came:
            self.roles.setdefault(user, (events.Role.MEMBER, seq))
        for user in went:
            self.roles.pop(user, None)
        match event:
            case events.GroupCreated():
                self.title = event.title
                self.roles[event.sender] = (events.Role.OWNER, seq)
            case events.GroupProfileChanged():
                self.title = event.title
            case events.PermissionsChanged():
                self.permissions = event.permissions
            case events.TimerChanged():
                self.timer = event.seconds
            case events.MemberLeft() if event.successor:
                self._give(event.successor, events.Role.OWNER)
            case events.RoleChanged():
                if event.role is events.Role.OWNER:
                    self._give(event.sender, events.Role.ADMIN)
                self._give(event.user, event.role)
            case events.Edited() | events.Deleted() | events.Reacted():
                self._change(seq, event)
            case _:
                pass

    def _give(self, user: int, role: events.Role) -> None:
        if user in self.roles:
            self.roles[user] = (role, self.roles[user][1])

    def _change(self, seq: int, event: events.Edited | events.Deleted | events.Reacted) -> None:
        item = self.items.get(event.target)
        if item is None:
            return
        if isinstance(event, events.Edited):
            item.body, item.edited_at = bytes(event.body), event.time
            item.edits.append(seq)
        elif isinstance(event, events.Deleted):
            item.body, item.deleted = None, True
        elif event.emoji:
            item.reactions[event.sender] = event.emoji
        else:
            item.reactions.pop(event.sender, None)


@dataclass(slots=True)
class Account:
    """What the events of an account stream say of it. `reads`: how far its user has read, as its other devices were told."""

    profile: events.Profile = field(default_factory=events.Profile)
    privacy: events.Privacy = field(default_factory=events.Privacy)
    name: str = ""
    blocked: set[int] = field(default_factory=set)
    contacts: dict[int, str] = field(default_factory=dict)
    devices: set[int] = field(default_factory=set)
    settings: dict[bytes, messages.Settings] = field(default_factory=dict)
    reads: dict[bytes, int] = field(default_factory=dict)

    def apply(self, event: events.AnyEvent) -> None:
        match event:
            case events.ProfileChanged():
                self.profile = event.profile
            case events.PrivacySet():
                self.privacy = event.privacy
            case events.Renamed():
                self.name = event.name
            case events.BlockSet():
                (self.blocked.add if event.on else self.blocked.discard)(event.user)
            case events.ContactSet():
                self.contacts.pop(event.user, None)
                if event.on:
                    self.contacts[event.user] = event.label
            case events.DeviceAdded():
                self.devices.add(event.added)
            case events.DeviceRevoked():
                self.devices.discard(event.revoked)
            case events.PasswordChanged() if event.revoked:
                self.devices &= {event.device}
            case events.OwnRead():
                self.reads[event.stream] = max(event.seq, self.reads.get(event.stream, 0))
            case _:
                self._set(event)

    def _set(self, event: events.AnyEvent) -> None:
        match event:
            case events.ConversationSet():
                self._change(event.stream, pinned=event.pinned, muted_until=event.muted_until, archived=event.archived)
            case events.DraftSet():
                self._change(event.stream, draft=event.text, draft_reply_to=event.reply_to)
            case events.Cleared():
                old = self.of(event.stream)
                upto = max(event.upto, old.cleared)
                kept = {seq: marks for seq, marks in old.kept.items() if seq > upto}
                hidden = tuple(seq for seq in old.hidden if seq > upto)
                self._change(event.stream, cleared=upto, deleted=event.deleted, kept=kept, hidden=hidden)
            case events.Kept():
                kept = {seq: marks for seq, marks in self.of(event.stream).kept.items() if seq != event.seq}
                if event.starred or event.pinned:
                    kept[event.seq] = event.starred + 2 * event.pinned
                self._change(event.stream, kept=kept)
            case events.Hidden():
                self._change(event.stream, hidden=tuple(sorted({*self.of(event.stream).hidden, *event.seqs})))

    def of(self, stream: bytes) -> messages.Settings:
        return self.settings.get(stream, messages.Settings())

    def _change(self, stream: bytes, **changes: object) -> None:
        self.settings[stream] = msgspec.structs.replace(self.of(stream), **changes)
