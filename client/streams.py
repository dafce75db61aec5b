"""What is known of streams and of the own account, as plain data. `client.state` says where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from protocol import events, messages
from protocol.events import Permissions, Role


@dataclass(slots=True)
class Item:
    """One message or group change in its current state."""

    seq: int
    event: events.Event
    fold: events.Fold = field(default_factory=events.Fold)

    @property
    def body(self) -> msgspec.Raw:
        """The current body of a message; nil when there is none any more."""
        return self.fold.body if self.fold.edits else getattr(self.event, "body", events.NIL)

    def is_gone(self, now: int) -> bool:
        """Whether it was deleted for everyone or has expired. `now`: milliseconds, the server's time."""
        return self.fold.deleted or 0 < getattr(self.event, "expires_at", 0) <= now


@dataclass(slots=True)
class Member:
    role: Role
    joined: int


@dataclass(slots=True)
class Invite:
    """`code` is b"" until it is fetched; no event carries it."""

    uses: int
    used: int
    expires_at: int
    approval: bool
    code: bytes = b""


@dataclass(slots=True)
class Group:
    """`members` in order of joining where events told it; None until they are fetched. So with what only admins see.
    `members_head`, `admin_head`: up to which seq everything is contained in what was fetched of them."""

    title: str = ""
    description: str = ""
    picture: str = ""
    permissions: Permissions = field(default_factory=Permissions)
    members: dict[int, Member] | None = None
    invites: dict[int, Invite] | None = None
    requests: list[int] | None = None
    banned: set[int] | None = None
    members_head: int = 0
    admin_head: int = 0

    @property
    def owner(self) -> int:
        """0 where it is not known."""
        return next((user for user, each in (self.members or {}).items() if each.role is Role.OWNER), 0)


@dataclass(slots=True)
class Mark:
    """How far one other user is."""

    delivered: int = 0
    read: int = 0


@dataclass(slots=True)
class Stream:
    """A conversation or group. `head`, `n`, `time`: as of the newest event. `whole_from`: from this seq on, every item that
    there is, is in `items` (0: not known). `rules_head`: what `timer`, `request_for` and `group` were fetched at.

    `counted`: `n`, `read`, `unread` and `mentions` are known, not only what came since. `touched`: item -> the newest event
    that changed it; a page that was asked for before that event may not know of it. `answered`: the other party of a
    conversation wrote or accepted, so that nothing is a message request any more. `asked`: this user asked to be let in,
    and has no answer yet.

    `group_head`: the newest event here that changed the group. `view_head`: the newest event of the account stream that
    changed `settings` or told of coming and going; `viewed`: `settings` are known, not only what changed since."""

    stream: bytes
    head: int = 0
    n: int = 0
    time: int = 0
    read: int = 0
    unread: int = 0
    mentions: int = 0
    member: bool = True
    answered: bool = False
    asked: bool = False
    items: dict[int, Item] = field(default_factory=dict)
    whole_from: int = 0
    counted: bool = False
    touched: dict[int, int] = field(default_factory=dict)
    rules_head: int = 0
    group_head: int = 0
    view_head: int = 0
    viewed: bool = False
    timer: int = 0
    request_for: int = 0
    group: Group | None = None
    settings: messages.Settings = field(default_factory=messages.Settings)
    marks: dict[int, Mark] = field(default_factory=dict)
    stale: bool = False

    def visible(self, now: int) -> list[Item]:
        """The items to show, oldest first."""
        hidden = frozenset(self.settings.hidden)
        cleared = self.settings.cleared
        return [
            item for seq, item in sorted(self.items.items()) if seq > cleared and seq not in hidden and not item.is_gone(now)
        ]

    @property
    def listed(self) -> bool:
        """Whether it belongs on the conversation list."""
        return self.head > 0 and not (self.settings.deleted and self.head <= self.settings.cleared)


@dataclass(slots=True)
class Account:
    """One's own account. `loaded`: all of it is known, not only what came since. `devices` maps each device to its name,
    `contacts` each contact to its label."""

    head: int = 0
    loaded: bool = False
    name: str = ""
    profile: events.Profile = field(default_factory=events.Profile)
    privacy: events.Privacy = field(default_factory=events.Privacy)
    blocked: set[int] = field(default_factory=set)
    contacts: dict[int, str] = field(default_factory=dict)
    devices: dict[int, str] = field(default_factory=dict)
