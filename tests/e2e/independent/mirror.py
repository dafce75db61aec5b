"""What a client shows, built from events alone: to be held against what is fetched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.inbox import Applied
from tests.e2e.independent.tables import Record, row

FIRST_CHANGE = 32
"""Kinds from here on are no items."""


def _fold() -> dict[str, Any]:
    return row("Fold", []).fields | {"edits": [], "reactions": {}}


@dataclass(slots=True)
class Conversation:
    """One direct or group stream: `items` by seq, each its event and what became of it."""

    head: int = 0
    n: int = 0
    timer: int = 0
    items: dict[int, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    group: dict[str, Any] = field(default_factory=dict)
    roles: dict[int, int] = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    banned: list[int] = field(default_factory=list)
    invites: dict[int, dict[str, Any]] = field(default_factory=dict)

    def apply(self, seq: int, event: Record) -> None:
        """One event, in order."""
        self.head, self.n = seq, event.n
        match event.kind:
            case "Edited":
                fold = self.items[event.target][1]
                fold |= {"body": event.body, "edited_at": event.time, "edits": [*fold["edits"], seq], "changed": seq}
            case "Deleted":
                message, fold = self.items[event.target]
                message["body"] = None
                fold |= {"body": None, "edited_at": 0, "deleted": True, "reactions": {}, "changed": seq}
            case "Reacted":
                fold = self.items[event.target][1]
                fold["changed"], reactions = seq, fold["reactions"]
                reactions[event.sender] = event.emoji
                if not event.emoji:
                    del reactions[event.sender]
            case "InviteCreated" | "InviteRevoked" | "JoinRequested" | "JoinRefused" | "Unbanned":
                self._administer(event)
            case _:
                self.items[seq] = (dict(event.fields), _fold())
                self._item(event)

    def _administer(self, event: Record) -> None:
        match event.kind:
            case "InviteCreated":
                values = {"uses": event.uses, "used": 0, "expires_at": event.expires_at, "approval": event.approval}
                self.invites[event.invite] = values
            case "InviteRevoked":
                self.invites.pop(event.invite, None)
            case "JoinRequested":
                self.requests.append(event.sender)
            case "JoinRefused":
                self.requests.remove(event.user)
            case "Unbanned":
                self.banned.remove(event.user)

    def _item(self, event: Record) -> None:
        match event.kind:
            case "GroupCreated":
                self.group = {key: event.fields[key] for key in ("title", "description", "picture")}
                self.group["permissions"] = list(row("Permissions", []).fields.values())
                self.roles = {event.sender: wire.OWNER} | dict.fromkeys(event.members, wire.MEMBER)
            case "MembersAdded":
                self.roles |= dict.fromkeys(event.users, wire.MEMBER)
            case "MemberJoined":
                self.roles[event.user] = wire.MEMBER
                if event.user in self.requests:
                    self.requests.remove(event.user)
                self.invites[event.invite]["used"] += 1
            case "MemberRemoved":
                self.roles.pop(event.user, None)
                if event.banned:
                    self.banned.append(event.user)
            case "MemberLeft":
                self.roles.pop(event.sender, None)
                if event.successor:
                    self.roles[event.successor] = wire.OWNER
            case "RoleChanged":
                self.roles[event.user] = event.role
                if event.role == wire.OWNER:
                    self.roles[event.sender] = wire.ADMIN
            case "GroupProfileChanged":
                self.group |= {key: event.fields[key] for key in ("title", "description", "picture")}
            case "PermissionsChanged":
                self.group["permissions"] = event.permissions
            case "TimerChanged":
                self.timer = event.seconds


@dataclass(slots=True)
class Account:
    """One's own account, and one's own view of the conversations."""

    head: int = 0
    name: str = ""
    profile: list[Any] = field(default_factory=lambda: list(row("Profile", []).fields.values()))
    privacy: list[Any] = field(default_factory=lambda: list(row("Privacy", []).fields.values()))
    blocked: list[int] = field(default_factory=list)
    devices: dict[int, str] = field(default_factory=dict)
    contacts: dict[int, str] = field(default_factory=dict)
    settings: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    reads: dict[bytes, int] = field(default_factory=dict)

    def apply(self, seq: int, event: Record) -> None:
        """One event, in order."""
        self.head = seq
        match event.kind:
            case "ProfileChanged":
                self.profile = event.profile
            case "Renamed":
                self.name = event.fields["name"]
            case "ContactSet":
                self.contacts.pop(event.user, None)
                if event.on:
                    self.contacts[event.user] = event.label
            case "BlockSet":
                self.blocked = [user for user in self.blocked if user != event.user] + ([event.user] if event.on else [])
            case "PrivacySet":
                self.privacy = event.privacy
            case "DeviceAdded":
                self.devices[event.added] = event.fields["name"]
            case "DeviceRenamed":
                self.devices[event.renamed] = event.fields["name"]
            case "DeviceRevoked":
                self.devices.pop(event.revoked, None)
            case "OwnRead":
                self.reads[event.stream] = event.seq
            case "ConversationSet" | "Cleared" | "DraftSet" | "Kept" | "Hidden":
                self._set(self.settings.setdefault(event.stream, _settings()), event)

    def _set(self, own: dict[str, Any], event: Record) -> None:
        match event.kind:
            case "ConversationSet":
                own |= {key: event.fields[key] for key in ("pinned", "muted_until", "archived")}
            case "Cleared":
                upto = max(event.upto, own["cleared"])
                own |= {"cleared": upto, "deleted": event.deleted}
                own["kept"] = {seq: marks for seq, marks in own["kept"].items() if seq > upto}
                own["hidden"] = [seq for seq in own["hidden"] if seq > upto]
            case "DraftSet":
                own |= {"draft": event.text, "draft_reply_to": event.reply_to}
            case "Kept":
                own["kept"].pop(event.seq, None)
                if event.starred or event.pinned:
                    own["kept"][event.seq] = event.starred + 2 * event.pinned
            case "Hidden":
                own["hidden"] = sorted({*own["hidden"], *event.seqs})


def _settings() -> dict[str, Any]:
    return row("Settings", []).fields | {"kept": {}, "hidden": []}


class Mirror:
    """Follows one device from before its first event."""

    def __init__(self, client: Client) -> None:
        self.account = Account(name=client.memory.name)
        self.conversations: dict[bytes, Conversation] = {}
        self._own = client.account
        for applied in client.applied:
            self._apply(applied)
        client.watchers.append(self._apply)

    def _apply(self, applied: Applied) -> None:
        if applied.stream == self._own:
            self.account.apply(applied.seq, applied.event)
        else:
            self.conversations.setdefault(applied.stream, Conversation()).apply(applied.seq, applied.event)
