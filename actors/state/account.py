"""The policy of an account stream: what concerns only the user's own devices. Pure.

Everything here is set, not counted: applying an event twice leaves the same state. So the parts are stored with each event that
changes them, can be read by others without waking the owner, and the tail after a snapshot may be applied over newer parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.state import log, rules
from auth.policy import Facts
from protocol import codes, events, ids, messages
from protocol.messages import Settings

#: Part: `auth.policy.Facts` of the user.
FACTS = b"a"
#: Part: the groups that the user is in, {stream: joined}.
GROUPS = b"g"
#: Parts: the label of one contact, UTF-8, where it has one; the contact's id follows (7 bytes, big-endian). Nobody decides by
#: them, so they are not part of the facts, which are written anew with each change and held for everybody of interest.
LABEL_PREFIX = b"l"
#: Parts: the seq of the event that set the draft of one conversation (7 bytes, big-endian), where there is one; its stream id
#: follows. The text goes out of that event when another takes its place: what was never sent is nobody's to keep.
DRAFT_PREFIX = b"d"
#: Part: the devices that this stream told of, and not of their end.
DEVICES = b"e"
#: Parts: `protocol.messages.Settings` of one conversation; its stream id follows.
SETTINGS_PREFIX = b"c"

_encoder = msgspec.msgpack.Encoder()
_facts_decoder = msgspec.msgpack.Decoder(Facts)
_groups_decoder = msgspec.msgpack.Decoder(dict[bytes, int])
_devices_decoder = msgspec.msgpack.Decoder(set[int])
_settings_decoder = msgspec.msgpack.Decoder(Settings)

#: A message that is kept or hidden: its seq and its marks, encoded.
_MARK_BYTES = 10

_STARRED = 1
_PINNED = 2


def decode_facts(part: bytes) -> Facts:
    return _facts_decoder.decode(part)


def decode_settings(part: bytes) -> Settings:
    return _settings_decoder.decode(part)


def decode_labels(parts: dict[bytes, bytes]) -> dict[int, str]:
    """The parts with LABEL_PREFIX, as labels by contact."""
    return {int.from_bytes(key[len(LABEL_PREFIX) :], "big"): label.decode() for key, label in parts.items()}


class Account(log.Log):
    """`facts` is what others' decisions need; `settings` the own view of conversations; `groups` those one is in; `devices`
    those that the user's other devices know of."""

    __slots__ = ("devices", "drafts", "facts", "groups", "settings", "settings_bytes", "user")

    def __init__(self, stream: bytes, limits: rules.Rules, user: int, name: str) -> None:
        super().__init__(stream, limits)
        self.user = user
        self.facts = Facts(name)
        self.groups: dict[bytes, int] = {}
        self.devices: frozenset[int] = frozenset()
        self.settings: dict[bytes, Settings] = {}
        self.settings_bytes = 0
        self.drafts: dict[bytes, int] = {}

    def propose(self, command: log.Command, now: int, target: log.Target | None, context: object) -> log.Proposal:
        frame = command.frame
        if isinstance(frame, events.Event):
            return log.Proposal(self._noticed(frame))
        if command.user != self.user:
            raise codes.Refused(codes.NOT_ALLOWED)
        erase = (self.drafts[frame.stream],) if isinstance(frame, messages.SetDraft) and frame.stream in self.drafts else ()
        return log.Proposal(self._event(frame), erase=erase)

    def _noticed(self, event: events.Event) -> events.Event:
        """What the server itself has to tell. NOTHING_CHANGED: this account has heard of it."""
        if isinstance(event, events.Joined) and self.groups.get(event.stream, 0) >= event.seq:
            raise codes.Refused(codes.NOTHING_CHANGED)
        if isinstance(event, events.Parted) and not 0 < self.groups.get(event.stream, 0) <= event.seq:
            raise codes.Refused(codes.NOTHING_CHANGED)
        if isinstance(event, events.DeviceAdded) and event.added in self.devices:
            raise codes.Refused(codes.NOTHING_CHANGED)
        return event

    def _event(self, frame: messages.Change) -> events.Event:
        match frame:
            case messages.SetProfile():
                return events.ProfileChanged(*events.UNFILLED, frame.profile)
            case messages.Rename():
                return events.Renamed(*events.UNFILLED, frame.name)
            case messages.SetContact():
                return self._contact(frame)
            case messages.SetBlock():
                return self._block(frame)
            case messages.SetPrivacy():
                return events.PrivacySet(*events.UNFILLED, frame.privacy)
            case messages.RenameDevice():
                return events.DeviceRenamed(*events.UNFILLED, frame.device, frame.name)
            case messages.RevokeDevice():
                return events.DeviceRevoked(*events.UNFILLED, frame.device)
            case messages.SetConversation():
                self._check_stream(frame.stream)
                return events.ConversationSet(*events.UNFILLED, frame.stream, frame.pinned, frame.muted_until, frame.archived)
            case messages.Clear():
                self._check_stream(frame.stream)
                return events.Cleared(*events.UNFILLED, frame.stream, frame.upto, frame.delete)
            case messages.SetDraft():
                self._check_stream(frame.stream)
                self._check_room(len(frame.text.encode()) - len(self.view(frame.stream).draft.encode()))
                return events.DraftSet(*events.UNFILLED, frame.stream, frame.text, frame.reply_to)
            case messages.Keep():
                return self._keep(frame)
            case messages.Hide():
                return self._hide(frame)
            case messages.ChangePassword():
                return events.PasswordChanged(*events.UNFILLED, frame.revoke_others)
            case messages.DeleteAccount():
                return events.ProfileChanged(*events.UNFILLED, events.Profile())
            case _:
                raise codes.Refused(codes.NOT_ALLOWED)

    def _contact(self, frame: messages.SetContact) -> events.Event:
        contacts = self.facts.contacts
        if frame.user == self.user:
            raise codes.Refused(codes.NOT_ALLOWED)
        if frame.on and frame.user not in contacts and len(contacts) >= self.rules.contacts:
            raise codes.Refused(codes.TOO_MANY, f"an account has at most {self.rules.contacts} contacts")
        return events.ContactSet(*events.UNFILLED, frame.user, frame.label if frame.on else "", frame.on)

    def _block(self, frame: messages.SetBlock) -> events.Event:
        if frame.user == self.user:
            raise codes.Refused(codes.NOT_ALLOWED)
        blocked = self.facts.blocked
        if frame.on and frame.user not in blocked and len(blocked) >= self.rules.blocked:
            raise codes.Refused(codes.TOO_MANY, f"an account blocks at most {self.rules.blocked} users")
        return events.BlockSet(*events.UNFILLED, frame.user, frame.on)

    def _check_stream(self, stream: bytes) -> None:
        """codes.Refused unless it can be a conversation of this user, be it a former one, with room for its settings."""
        try:
            kind = ids.kind(stream)
        except ids.BadStream:
            raise codes.Refused(codes.NOT_ALLOWED) from None
        if kind is ids.Kind.ACCOUNT or (kind is ids.Kind.DIRECT and self.user not in ids.parties(stream)):
            raise codes.Refused(codes.NOT_ALLOWED)
        if stream not in self.settings and len(self.settings) >= self.rules.settings:
            raise codes.Refused(codes.TOO_MANY, f"settings of at most {self.rules.settings} conversations are kept")

    def _check_room(self, added: int) -> None:
        """codes.Refused when the settings are to grow beyond what is kept of them."""
        if added > 0 and self.settings_bytes + added > self.rules.settings_bytes:
            text = f"drafts, and what is kept and hidden, take at most {self.rules.settings_bytes} bytes; remove some"
            raise codes.Refused(codes.TOO_MANY, text)

    def _keep(self, frame: messages.Keep) -> events.Event:
        self._check_stream(frame.stream)
        kept = self.view(frame.stream).kept
        if (frame.starred or frame.pinned) and frame.seq not in kept and len(kept) >= self.rules.kept:
            raise codes.Refused(codes.TOO_MANY, f"{self.rules.kept} messages of a conversation can be kept")
        if (frame.starred or frame.pinned) and frame.seq not in kept:
            self._check_room(_MARK_BYTES)
        return events.Kept(*events.UNFILLED, frame.stream, frame.seq, frame.starred, frame.pinned)

    def _hide(self, frame: messages.Hide) -> events.Event:
        self._check_stream(frame.stream)
        view = self.view(frame.stream)
        fresh = {seq for seq in frame.seqs if seq > view.cleared}.difference(view.hidden)
        if not fresh:
            raise codes.Refused(codes.NOTHING_CHANGED)
        if len(view.hidden) + len(fresh) > self.rules.hidden:
            text = f"{self.rules.hidden} messages of a conversation can be hidden; clear the conversation instead"
            raise codes.Refused(codes.TOO_MANY, text)
        self._check_room(_MARK_BYTES * len(fresh))
        return events.Hidden(*events.UNFILLED, frame.stream, tuple(sorted(fresh)))

    def view(self, stream: bytes) -> Settings:
        """The settings of a conversation; the defaults when nothing was set."""
        return self.settings.get(stream) or Settings()

    # --- what events do -------------------------------------------------------------------------------------------------

    def applied(self, seq: int, event: events.Event) -> None:
        facts = self.facts
        match event:
            case events.ProfileChanged():
                self.facts = msgspec.structs.replace(facts, profile=event.profile)
            case events.Renamed():
                self.facts = msgspec.structs.replace(facts, name=event.name)
            case events.PrivacySet():
                self.facts = msgspec.structs.replace(facts, privacy=event.privacy)
            case events.ContactSet():
                contacts = facts.contacts | {event.user} if event.on else facts.contacts - {event.user}
                self.facts = msgspec.structs.replace(facts, contacts=contacts)
            case events.BlockSet():
                blocked = facts.blocked | {event.user} if event.on else facts.blocked - {event.user}
                self.facts = msgspec.structs.replace(facts, blocked=blocked)
            case events.Joined():
                self.groups[event.stream] = event.seq
            case events.Parted():
                self.groups.pop(event.stream, None)
            case events.DeviceAdded():
                self.devices |= {event.added}
            case events.DeviceRevoked():
                self.devices -= {event.revoked}
            case events.PasswordChanged() if event.revoked:
                self.devices &= {event.device}
            case events.DraftSet():
                self.drafts.pop(event.stream, None)
                if event.text:
                    self.drafts[event.stream] = seq
                self._change(event.stream, draft=event.text, draft_reply_to=event.reply_to)
            case _:
                self._set(event)

    def _set(self, event: events.Event) -> None:
        """Events that change the view of one conversation."""
        match event:
            case events.ConversationSet():
                new = {"pinned": event.pinned, "muted_until": event.muted_until, "archived": event.archived}
                self._change(event.stream, **new)
            case events.Cleared():
                view = self.view(event.stream)
                upto = max(event.upto, view.cleared)
                self._change(
                    event.stream,
                    cleared=upto,
                    deleted=event.deleted,
                    hidden=tuple(seq for seq in view.hidden if seq > upto),
                    kept={seq: marks for seq, marks in view.kept.items() if seq > upto},
                )
            case events.Kept():
                kept = {seq: marks for seq, marks in self.view(event.stream).kept.items() if seq != event.seq}
                if event.starred or event.pinned:
                    kept[event.seq] = (_STARRED if event.starred else 0) | (_PINNED if event.pinned else 0)
                self._change(event.stream, kept=kept)
            case events.Hidden():
                hidden = tuple(sorted({*self.view(event.stream).hidden, *event.seqs}))
                self._change(event.stream, hidden=hidden)

    def _change(self, stream: bytes, **changes: object) -> None:
        before = self.view(stream)
        view = msgspec.structs.replace(before, **changes)
        self.settings_bytes += _size(view) - _size(before)
        if view == Settings():
            self.settings.pop(stream, None)
        else:
            self.settings[stream] = view

    # --- parts ----------------------------------------------------------------------------------------------------------

    def changed_parts(self, event: events.Event) -> Sequence[tuple[bytes, bytes | None]]:
        match event:
            case events.ContactSet():
                label = event.label.encode() if event.on and event.label else None
                key = LABEL_PREFIX + event.user.to_bytes(7, "big")
                return [(FACTS, _encoder.encode(self.facts)), (key, label)]
            case events.ProfileChanged() | events.Renamed() | events.PrivacySet() | events.BlockSet():
                return [(FACTS, _encoder.encode(self.facts))]
            case events.Joined() | events.Parted():
                return [(GROUPS, _encoder.encode(self.groups))]
            case events.DeviceAdded() | events.DeviceRevoked() | events.PasswordChanged():
                return [(DEVICES, _encoder.encode(sorted(self.devices)))]
            case events.DraftSet():
                seq = self.drafts.get(event.stream)
                place = None if seq is None else seq.to_bytes(7, "big")
                return [self._settings_part(event.stream), (DRAFT_PREFIX + event.stream, place)]
            case events.ConversationSet() | events.Cleared() | events.Kept() | events.Hidden():
                return [self._settings_part(event.stream)]
            case _:
                return ()

    def _settings_part(self, stream: bytes) -> tuple[bytes, bytes | None]:
        view = self.settings.get(stream)
        return SETTINGS_PREFIX + stream, None if view is None else _encoder.encode(view)

    def snapshot_parts(self) -> list[tuple[bytes, bytes | None]]:
        return []

    def restore(self, parts: dict[bytes, bytes]) -> None:
        if FACTS in parts:
            self.facts = _facts_decoder.decode(parts[FACTS])
        if GROUPS in parts:
            self.groups = _groups_decoder.decode(parts[GROUPS])
        if DEVICES in parts:
            self.devices = frozenset(_devices_decoder.decode(parts[DEVICES]))
        self.settings = {
            key[len(SETTINGS_PREFIX) :]: _settings_decoder.decode(part)
            for key, part in parts.items()
            if key.startswith(SETTINGS_PREFIX)
        }
        self.drafts = {
            key[len(DRAFT_PREFIX) :]: int.from_bytes(part, "big") for key, part in parts.items() if key.startswith(DRAFT_PREFIX)
        }
        self.settings_bytes = sum(map(_size, self.settings.values()))


def _size(view: Settings) -> int:
    """Bytes of one conversation's settings, as stored; 0 for the defaults, which are not."""
    return len(_encoder.encode(view)) if view != Settings() else 0
