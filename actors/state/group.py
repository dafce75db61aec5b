"""The policy of a group: members with roles, what each role may do, invite links, join requests, bans. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from actors.state import log, messaging, rules
from auth import policy
from protocol import codes, events, messages
from protocol.events import Permissions, Role
from storage import records

CORE = b"core"
MEMBERS = b"members"


class Invite(msgspec.Struct, array_like=True):
    """An invite link: `uses` 0 is without limit, `expires_at` 0 never."""

    uses: int
    used: int
    expires_at: int
    approval: bool


class Core(msgspec.Struct, array_like=True):
    """The stored part of the state, members apart."""

    title: str = ""
    description: str = ""
    picture: str = ""
    permissions: Permissions = Permissions()
    timer: int = 0
    banned: tuple[int, ...] = ()
    invites: dict[int, Invite] = {}
    requests: dict[int, int] = {}
    owed: dict[int, tuple[int, bool, int]] = {}


_encoder = msgspec.msgpack.Encoder()
_core_decoder = msgspec.msgpack.Decoder(Core)
_members_decoder = msgspec.msgpack.Decoder(list[tuple[int, Role, int]])


@dataclass(slots=True, frozen=True)
class Standing:
    """A member's role, and the seq from which on they may read."""

    role: Role
    joined: int


@dataclass(slots=True, frozen=True)
class Asked:
    """The context of a decision: what is known of users who are to be added (None: no such user), and the invite that a
    join code stands for (0: the code is not one of this group)."""

    facts: Mapping[int, policy.Facts | None] = field(default_factory=dict)
    invite: int = 0


class Group(messaging.Messaging):
    """`standing` maps members to their standing, in order of joining. `requests` maps who asks to join to the invite used.

    `owed` holds users whose account stream has yet to hear that they are in or out, as (seq, in, by whom): what an owner
    says again after a restart until it is confirmed."""

    __slots__ = (
        "_members_changed",
        "banned",
        "description",
        "invites",
        "owed",
        "permissions",
        "picture",
        "requests",
        "standing",
        "title",
    )

    def __init__(self, stream: bytes, limits: rules.Rules) -> None:
        super().__init__(stream, limits)
        self.title = self.description = self.picture = ""
        self.permissions = Permissions()
        self.standing: dict[int, Standing] = {}
        self.banned: set[int] = set()
        self.invites: dict[int, Invite] = {}
        self.requests: dict[int, int] = {}
        self.owed: dict[int, tuple[int, bool, int]] = {}
        self._members_changed = True  # they are not stored yet

    # --- who may --------------------------------------------------------------------------------------------------------

    def is_member(self, user: int) -> bool:
        return user in self.standing

    def members(self) -> Sequence[int]:
        return list(self.standing)

    def role(self, user: int) -> int:
        """0 for one who is no member."""
        standing = self.standing.get(user)
        return standing.role if standing else 0

    @property
    def owner(self) -> int:
        return next((user for user, standing in self.standing.items() if standing.role is Role.OWNER), 0)

    def came(self, user: int) -> int:
        return self.standing[user].joined

    def may_see(self, user: int, seq: int) -> bool:
        standing = self.standing.get(user)
        return standing is not None and standing.joined <= seq

    def check_send(self, user: int, now: int, context: Asked) -> int:
        if self.role(user) < self.permissions.send:
            raise codes.Refused(codes.NOT_ALLOWED)
        return 0

    def may_delete_others(self, user: int) -> bool:
        return self.role(user) >= Role.ADMIN

    def check_timer(self, user: int, now: int, context: Asked) -> None:
        self._need(user, self.permissions.edit)

    def may_administer(self, user: int) -> bool:
        """Whether `user` sees invite links, join requests and bans."""
        return bool(self.role(user)) and self.role(user) >= self.permissions.add

    def _need(self, user: int, role: Role) -> None:
        if not self.role(user) or self.role(user) < role:
            raise codes.Refused(codes.NOT_ALLOWED)

    def _need_above(self, user: int, other: int) -> None:
        """Admins act on members, the owner on everybody."""
        self._need(user, Role.ADMIN)
        if self.role(other) >= self.role(user):
            raise codes.Refused(codes.NOT_ALLOWED)

    def _need_room(self, more: int) -> None:
        if len(self.standing) + more > self.rules.group_members:
            raise codes.Refused(codes.TOO_MANY, f"a group has at most {self.rules.group_members} members")

    # --- what becomes of commands ---------------------------------------------------------------------------------------

    def propose_other(self, command: log.Command, now: int, context: Asked) -> log.Proposal:
        return log.Proposal(self._event(command.user, command.frame, now, context))

    def _event(self, user: int, frame: object, now: int, context: Asked) -> events.Event:
        match frame:
            case messages.CreateGroup():
                return self._create(user, frame, context)
            case messages.Join():
                return self._join(user, now, context)
            case messages.AddMembers():
                return self._add(user, frame, context)
            case messages.RemoveMember():
                return self._remove(user, frame)
            case messages.Leave():
                self._check_member(user)
                return events.MemberLeft(*events.UNFILLED, self._successor() if self.owner == user else 0)
            case messages.SetRole():
                return self._set_role(user, frame)
            case messages.SetGroupProfile():
                self._need(user, self.permissions.edit)
                return events.GroupProfileChanged(*events.UNFILLED, frame.title, frame.description, frame.picture)
            case messages.SetPermissions():
                self._need(user, Role.ADMIN)
                return events.PermissionsChanged(*events.UNFILLED, frame.permissions)
            case messages.CreateInvite():
                self._need(user, self.permissions.add)
                if len(self.invites) >= self.rules.invites:
                    raise codes.Refused(codes.TOO_MANY, f"a group has at most {self.rules.invites} invite links")
                # The id is this event's seq: no later invite, of whatever device, ever brings a revoked link back to life.
                return events.InviteCreated(*events.UNFILLED, self.head + 1, frame.uses, frame.expires_at, frame.approval)
            case messages.RevokeInvite():
                self._need(user, self.permissions.add)
                if frame.invite not in self.invites:
                    raise codes.Refused(codes.NOT_ALLOWED)
                return events.InviteRevoked(*events.UNFILLED, frame.invite)
            case messages.AnswerJoin():
                return self._answer(user, frame)
            case messages.Unban():
                self._need(user, Role.ADMIN)
                if frame.user not in self.banned:
                    raise codes.Refused(codes.NOTHING_CHANGED)
                return events.Unbanned(*events.UNFILLED, frame.user)
            case _:
                raise codes.Refused(codes.NOT_ALLOWED)

    def _check_added(self, adder: int, users: Sequence[int], context: Asked) -> tuple[int, ...]:
        """The users of a list that are to be added, once each; refused as a whole if one may not be."""
        wanted = tuple(dict.fromkeys(user for user in users if user not in self.standing and user != adder))
        for user in wanted:
            facts = context.facts.get(user)
            if facts is None or user in self.banned or not policy.may_add(adder, facts):
                raise codes.Refused(codes.NOT_ALLOWED)
        self._need_room(len(wanted))
        return wanted

    def _create(self, user: int, frame: messages.CreateGroup, context: Asked) -> events.Event:
        if self.head:
            raise codes.Refused(codes.NOT_ALLOWED)
        members = self._check_added(user, frame.members, context)
        self._need_room(1 + len(members))
        return events.GroupCreated(*events.UNFILLED, frame.title, frame.description, frame.picture, members)

    def _add(self, user: int, frame: messages.AddMembers, context: Asked) -> events.Event:
        self._need(user, self.permissions.add)
        wanted = self._check_added(user, frame.users, context)
        if not wanted:
            raise codes.Refused(codes.NOTHING_CHANGED)
        return events.MembersAdded(*events.UNFILLED, wanted)

    def _remove(self, user: int, frame: messages.RemoveMember) -> events.Event:
        self._need_above(user, frame.user)
        if frame.user not in self.standing and (not frame.ban or frame.user in self.banned):
            raise codes.Refused(codes.NOT_ALLOWED)
        if frame.ban and len(self.banned) >= self.rules.bans:
            raise codes.Refused(codes.TOO_MANY, f"a group bans at most {self.rules.bans} users")
        return events.MemberRemoved(*events.UNFILLED, frame.user, frame.ban)

    def _successor(self) -> int:
        """Who follows an owner that leaves: the longest-serving admin, else the longest-serving member."""
        others = [(user, standing) for user, standing in self.standing.items() if standing.role is not Role.OWNER]
        admins = [user for user, standing in others if standing.role is Role.ADMIN]
        return admins[0] if admins else others[0][0] if others else 0

    def _set_role(self, user: int, frame: messages.SetRole) -> events.Event:
        if frame.user not in self.standing or frame.user == user:
            raise codes.Refused(codes.NOT_ALLOWED)
        if frame.role is Role.OWNER:
            self._need(user, Role.OWNER)
        else:
            self._need_above(user, frame.user)
        if self.role(frame.user) == frame.role:
            raise codes.Refused(codes.NOTHING_CHANGED)
        return events.RoleChanged(*events.UNFILLED, frame.user, frame.role)

    def _join(self, user: int, now: int, context: Asked) -> events.Event:
        invite = self.invites.get(context.invite)
        if invite is None or user in self.banned or not self.standing:  # a group that all have left is over
            raise codes.Refused(codes.NOT_ALLOWED)
        if user in self.standing or (invite.approval and user in self.requests):
            raise codes.Refused(codes.NOTHING_CHANGED)
        if 0 < invite.expires_at <= now or 0 < invite.uses <= invite.used:
            raise codes.Refused(codes.NOT_ALLOWED)
        if invite.approval:
            if len(self.requests) >= self.rules.join_requests:
                raise codes.Refused(codes.TOO_MANY, f"{self.rules.join_requests} users wait already")
            return events.JoinRequested(*events.UNFILLED, context.invite)
        self._need_room(1)
        return events.MemberJoined(*events.UNFILLED, user, context.invite)

    def _answer(self, user: int, frame: messages.AnswerJoin) -> events.Event:
        self._need(user, self.permissions.add)
        if frame.user not in self.requests:
            raise codes.Refused(codes.NOT_ALLOWED)
        if not frame.accept:
            return events.JoinRefused(*events.UNFILLED, frame.user)
        self._need_room(1)
        return events.MemberJoined(*events.UNFILLED, frame.user, self.requests[frame.user])

    # --- what events do -------------------------------------------------------------------------------------------------

    def memberships(self, seq: int, event: events.Event) -> Sequence[records.Membership]:
        if type(event) is events.Message:
            return ()
        came, gone = self._moves(event)
        ended = [(user, self.standing[user].joined) for user in gone if user in self.standing]
        return [
            *(records.Membership(user, self.stream, seq) for user in came),
            *(records.Membership(user, self.stream, joined, seq) for user, joined in ended),
        ]

    @staticmethod
    def _moves(event: events.Event) -> tuple[Sequence[int], Sequence[int]]:
        """Who comes and who goes by an event."""
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

    def applied(self, seq: int, event: events.Event) -> None:
        super().applied(seq, event)
        if type(event) is events.Message:
            return
        came, gone = self._moves(event)
        for user in came:
            self.standing[user] = Standing(Role.MEMBER, seq)
            self.delivered[user] = self.read[user] = seq
            self.requests.pop(user, None)
            self.owed[user] = (seq, True, event.sender)
        for user in gone:
            if self.standing.pop(user, None) is not None:
                self.owed[user] = (seq, False, event.sender)
            self.delivered.pop(user, None)
            self.read.pop(user, None)
        self._members_changed = self._members_changed or bool(came or gone)
        self._apply_other(event)

    def _apply_other(self, event: events.Event) -> None:
        match event:
            case events.GroupCreated():
                self.title, self.description, self.picture = event.title, event.description, event.picture
                self._give(event.sender, Role.OWNER)
            case events.GroupProfileChanged():
                self.title, self.description, self.picture = event.title, event.description, event.picture
            case events.PermissionsChanged():
                self.permissions = event.permissions
            case events.RoleChanged():
                if event.role is Role.OWNER:
                    self._give(self.owner, Role.ADMIN)
                self._give(event.user, event.role)
            case events.MemberLeft() if event.successor:
                self._give(event.successor, Role.OWNER)
            case events.MemberRemoved() if event.banned:
                self.banned.add(event.user)
                self.requests.pop(event.user, None)
            case events.Unbanned():
                self.banned.discard(event.user)
            case events.InviteCreated():
                self.invites[event.invite] = Invite(event.uses, 0, event.expires_at, event.approval)
            case events.InviteRevoked():
                self.invites.pop(event.invite, None)
            case events.JoinRequested():
                self.requests[event.sender] = event.invite
            case events.JoinRefused():
                self.requests.pop(event.user, None)
            case events.MemberJoined() if event.invite in self.invites:
                self.invites[event.invite].used += 1

    def _give(self, user: int, role: Role) -> None:
        self.standing[user] = Standing(role, self.standing[user].joined)
        self._members_changed = True

    def confirmed(self, user: int, seq: int) -> None:
        """The user's account stream has heard of what happened at `seq`."""
        if user in self.owed and self.owed[user][0] <= seq:
            del self.owed[user]

    # --- snapshot -------------------------------------------------------------------------------------------------------

    def snapshot_parts(self) -> list[tuple[bytes, bytes | None]]:
        core = Core(
            self.title,
            self.description,
            self.picture,
            self.permissions,
            self.timer,
            tuple(sorted(self.banned)),
            self.invites,
            self.requests,
            self.owed,
        )
        parts: list[tuple[bytes, bytes | None]] = [(CORE, _encoder.encode(core))]
        if self._members_changed:
            rows = [(user, standing.role, standing.joined) for user, standing in self.standing.items()]
            parts.append((MEMBERS, _encoder.encode(rows)))
            self._members_changed = False
        return parts

    def restore(self, parts: dict[bytes, bytes]) -> None:
        if CORE not in parts:
            return
        core = _core_decoder.decode(parts[CORE])
        self.title, self.description, self.picture = core.title, core.description, core.picture
        self.permissions, self.timer = core.permissions, core.timer
        self.banned = set(core.banned)
        self.invites, self.requests, self.owed = core.invites, core.requests, core.owed
        members = _members_decoder.decode(parts[MEMBERS])
        self._members_changed = False
        self.standing = {user: Standing(role, joined) for user, role, joined in members}
        self.delivered = {user: standing.joined for user, standing in self.standing.items()}
        self.read = dict(self.delivered)
