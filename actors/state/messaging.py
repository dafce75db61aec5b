"""What direct conversations and groups have in common: messages, edits, deletions, reactions, forwards, the timer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.state import log, rules
from actors.state.reactions import check_emoji, check_room
from protocol import codes, events, messages
from storage import records

#: Flags that a client may set on a message.
_CLIENT_FLAGS = int(events.Flag.URGENT | events.Flag.SILENT)

_items_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
#: An empty list of mentions, encoded.
_NOBODY = msgspec.Raw(b"\x90")

#: Commands that refer to an item, which the owner looks up before it decides.
TARGETED = (messages.Edit, messages.Delete, messages.React)


def target_of(frame: object) -> int:
    """The seq that a command refers to, or 0."""
    return frame.target if isinstance(frame, TARGETED) else 0


def is_gone(target: log.Target, now: int) -> bool:
    """Whether an item was deleted for everyone or has expired. (An erased body counts, whatever the clock says by now.)"""
    event = target.event
    if target.fold.deleted:
        return True
    return isinstance(event, events.Message) and (0 < event.expires_at <= now or event.body == events.NIL)


def copy_of(target: log.Target | None, now: int) -> log.Copied:
    """What a forward of this item carries: its current body, one hop further. codes.Refused when there is none."""
    if target is None or not isinstance(target.event, events.Message):
        raise codes.Refused(codes.NOT_ALLOWED)
    if is_gone(target, now):
        raise codes.Refused(codes.GONE)
    body = target.fold.body if target.fold.edits else target.event.body
    return log.Copied(without_mentions(body), target.event.hops + 1)


def without_mentions(body: msgspec.Raw) -> msgspec.Raw:
    """The same body naming nobody: who is mentioned in one conversation need not be a member of the next.

    Items that this program does not know stay. codes.Refused: UNSUPPORTED_BODY, for a kind of body that it does not know."""
    try:
        decoded = events.decode_body(body)
    except (msgspec.ValidationError, RecursionError):
        raise codes.Refused(codes.UNSUPPORTED_BODY) from None
    if isinstance(decoded, events.Encrypted) or not decoded.mentions:
        return body
    items = _items_decoder.decode(body)
    items[1 + decoded.__struct_fields__.index("mentions")] = _NOBODY
    return msgspec.Raw(msgspec.msgpack.encode(items))


class Messaging(log.Log):
    """A log in which people write to each other. `read` and `delivered` are watermarks per user; own messages move both.

    `last_sent` maps who wrote to their newest message: who is to hear of receipts. After a load it may name too much."""

    __slots__ = ("delivered", "last_sent", "read", "timer")

    def __init__(self, stream: bytes, limits: rules.Rules) -> None:
        super().__init__(stream, limits)
        self.timer = 0
        self.delivered: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.last_sent: dict[int, int] = {}

    # --- what direct and group say ------------------------------------------------------------------------------------

    def is_member(self, user: int) -> bool:
        raise NotImplementedError

    def check_send(self, user: int, now: int, context: Any) -> int:
        """codes.Refused unless `user` may send a message now; returns flags that the server adds to it."""
        raise NotImplementedError

    def check_edit(self, user: int, now: int, context: Any) -> None:
        """codes.Refused unless `user` may edit own messages: an edit says something new, as a message does."""
        self.check_send(user, now, context)

    def check_aside(self, user: int, now: int, context: Any) -> None:
        """codes.Refused unless `user` may react, or send what is not stored."""
        self.check_send(user, now, context)

    def check_timer(self, user: int, now: int, context: Any) -> None:
        """codes.Refused unless `user` may set the timer."""
        self.check_aside(user, now, context)

    def may_delete_others(self, user: int) -> bool:
        return False

    def propose_other(self, command: log.Command, now: int, context: Any) -> log.Proposal:
        """Commands that only this kind of stream knows."""
        raise NotImplementedError

    def members(self) -> Sequence[int]:
        """Everybody who gets the events of this stream now."""
        raise NotImplementedError

    # --- the decisions ------------------------------------------------------------------------------------------------

    def propose(self, command: log.Command, now: int, target: log.Target | None, context: Any) -> log.Proposal:
        frame = command.frame
        if type(frame) is messages.Send:
            return self._send(command, frame, now, context)
        if isinstance(frame, TARGETED):
            return self._touch(command, frame, now, target, context)
        if type(frame) is messages.Forward:
            return self._forward(command, frame, now, context)
        if type(frame) is messages.SetTimer:
            self._check_member(command.user)
            self.check_timer(command.user, now, context)
            if frame.seconds == self.timer:
                raise codes.Refused(codes.NOTHING_CHANGED)
            return log.Proposal(events.TimerChanged(*events.UNFILLED, frame.seconds))
        return self.propose_other(command, now, context)

    def _check_member(self, user: int) -> None:
        if not self.is_member(user):
            raise codes.Refused(codes.NOT_ALLOWED)

    def _send(self, command: log.Command, frame: messages.Send, now: int, context: Any) -> log.Proposal:
        self._check_member(command.user)
        added = self.check_send(command.user, now, context)
        if frame.reply_to > self.head:
            raise codes.Refused(codes.NOT_ALLOWED, "reply_to: no such message")
        mentions = self._mentioned(command)
        event = events.Message(*events.UNFILLED, frame.body, frame.reply_to, 0, 0, frame.flags & _CLIENT_FLAGS | added)
        return log.Proposal(event, mentions=mentions, expires_after=self._lifetime())

    def _lifetime(self) -> int:
        """ms from sending until a message is gone; 0: never. The timer's, or the node's where that is shorter."""
        timer, most = self.timer * 1000, self.rules.message_age
        return min(timer, most) if timer and most else timer or most

    def _mentioned(self, command: log.Command) -> Sequence[int]:
        """The members that a body names, once each."""
        for user in command.mentions:
            if not self.is_member(user):
                raise codes.Refused(codes.BAD_MENTION)
        return tuple(dict.fromkeys(command.mentions))

    def _forward(self, command: log.Command, frame: messages.Forward, now: int, context: Any) -> log.Proposal:
        self._check_member(command.user)
        added = self.check_send(command.user, now, context)
        assert command.copied is not None
        flags = frame.flags & _CLIENT_FLAGS | added
        event = events.Message(*events.UNFILLED, command.copied.body, 0, command.copied.hops, 0, flags)
        return log.Proposal(event, expires_after=self._lifetime())

    def _touch(
        self,
        command: log.Command,
        frame: messages.Edit | messages.Delete | messages.React,
        now: int,
        target: log.Target | None,
        context: Any,
    ) -> log.Proposal:
        """Edit, delete, react. A target that one may not read is refused like one that does not exist."""
        self._check_member(command.user)
        if target is None or not self.may_see(command.user, target.seq) or not isinstance(target.event, events.Message):
            raise codes.Refused(codes.NOT_ALLOWED)
        if is_gone(target, now):
            raise codes.Refused(codes.GONE)
        if isinstance(frame, messages.Edit):
            return self._edit(command, frame, now, target, context)
        if isinstance(frame, messages.Delete):
            return self._delete(command, target)
        self.check_aside(command.user, now, context)
        return self._react(command, frame, target)

    def came(self, user: int) -> int:
        """The first seq that a member may read."""
        return 1

    def may_see(self, user: int, seq: int) -> bool:
        """Whether a member may read this seq."""
        return True

    def _edit(self, command: log.Command, frame: messages.Edit, now: int, target: log.Target, context: Any) -> log.Proposal:
        message = target.event
        assert isinstance(message, events.Message)
        if message.sender != command.user:
            raise codes.Refused(codes.NOT_ALLOWED)
        self.check_edit(command.user, now, context)
        if now - message.time > self.rules.edit_window:
            raise codes.Refused(codes.TOO_LATE, f"a message can be edited for {self.rules.edit_window // 60000} minutes")
        if len(target.fold.edits) >= self.rules.edits:
            raise codes.Refused(codes.TOO_MANY, f"a message can be edited {self.rules.edits} times")
        self._mentioned(command)
        edits = (*target.fold.edits, self.head + 1)
        fold = msgspec.structs.replace(target.fold, body=frame.body, edited_at=now, edits=edits, changed=self.head + 1)
        changed = log.Target(target.seq, message, fold)
        event = events.Edited(*events.UNFILLED, target.seq, frame.body)
        return log.Proposal(event, changed, expires_at=message.expires_at)

    def _delete(self, command: log.Command, target: log.Target) -> log.Proposal:
        if target.event.sender != command.user and not self.may_delete_others(command.user):
            raise codes.Refused(codes.NOT_ALLOWED)
        fold = events.Fold(edits=target.fold.edits, deleted=True, changed=self.head + 1)
        changed = log.Target(target.seq, target.event, fold)
        return log.Proposal(events.Deleted(*events.UNFILLED, target.seq), changed, erase=(target.seq, *target.fold.edits))

    def _react(self, command: log.Command, frame: messages.React, target: log.Target) -> log.Proposal:
        reactions = dict(target.fold.reactions)
        if reactions.get(command.user, "") == frame.emoji:
            raise codes.Refused(codes.NOTHING_CHANGED)
        if frame.emoji:
            check_emoji(frame.emoji)
            reactions[command.user] = frame.emoji
            check_room(reactions)
        else:
            del reactions[command.user]
        fold = msgspec.structs.replace(target.fold, reactions=reactions, changed=self.head + 1)
        changed = log.Target(target.seq, target.event, fold)
        return log.Proposal(events.Reacted(*events.UNFILLED, target.seq, frame.emoji), changed)

    def check_ephemeral(self, command: log.Command, now: int, context: Any) -> None:
        """codes.Refused unless the sender may send a message that is not stored."""
        self._check_member(command.user)
        self.check_aside(command.user, now, context)
        self._mentioned(command)

    # --- watermarks ---------------------------------------------------------------------------------------------------

    def mark(self, user: int, delivered: int, read: int) -> bool:
        """Move a member's watermarks up, never beyond what is durable; whether one moved. `read` implies `delivered`."""
        if not self.is_member(user):
            return False
        read = min(read, self.durable)
        delivered = max(min(delivered, self.durable), read)
        moved = False
        if delivered > self.delivered.get(user, 0):
            self.delivered[user] = delivered
            moved = True
        if read > self.read.get(user, 0):
            self.read[user] = read
            moved = True
        return moved

    def load(self, loaded: records.Loaded) -> None:
        super().load(loaded)
        for mark in loaded.marks:
            if self.is_member(mark.user):
                self.delivered[mark.user] = max(mark.delivered, self.delivered.get(mark.user, 0))
                self.read[mark.user] = max(mark.read, self.read.get(mark.user, 0))
                self.last_sent.setdefault(mark.user, mark.read)

    def applied(self, seq: int, event: events.Event) -> None:
        if event.sender and isinstance(event, events.Message):
            # Who writes has seen what stands above (docs/protocol.md, Unread counts).
            self.delivered[event.sender] = seq
            self.read[event.sender] = seq
            self.last_sent[event.sender] = seq
        elif type(event) is events.TimerChanged:
            self.timer = event.seconds
