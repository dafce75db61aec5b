"""What this device knows of its conversations, groups and account: a function of what was fetched and of the events since.

    state fetched, then events applied  =  state fetched later

for every kind of event, watermarks of others apart. No I/O and no clock: the same loads and events give the same state.
Each part knows the head it was fetched at, so that events which it already contains are passed over; events come in order
per stream, as the client gives them.

Where an event does not say enough (it names a message that was never loaded, or a group never fetched), the stream is
`stale`: what is shown should be fetched anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from client import folding
from client.streams import Account, Group, Invite, Item, Mark, Member, Stream
from client.updates import Notice, Numbered, StreamEvent, StreamGone
from protocol import events, ids, messages


class State:
    """Everything. `load_*` take what was fetched, `apply` what comes."""

    __slots__ = ("account", "streams", "user")

    def __init__(self, user: int) -> None:
        self.user = user
        self.account = Account()
        self.streams: dict[bytes, Stream] = {}

    def stream(self, stream: bytes) -> Stream:
        """What is known of a stream; empty when nothing is."""
        found = self.streams.get(stream)
        if found is None:
            found = self.streams[stream] = Stream(stream)
        return found

    # --- what was fetched ---------------------------------------------------------------------------------------------

    def load_account(self, state: messages.AccountState, contacts: Iterable[messages.Contact]) -> bool:
        """False: events came meanwhile that it does not know of, and it has to be fetched again."""
        if state.head < self.account.head:
            return self.account.loaded
        self.account = Account(
            state.head,
            True,
            state.name,
            state.profile,
            state.privacy,
            set(state.blocked),
            {contact.user: contact.label for contact in contacts},
            {device.device: device.name for device in state.devices},
        )
        return True

    def load_conversation(self, row: messages.Conversation, account_head: int = 0) -> None:
        """A row of the conversation list. `account_head`: the settings contain the account stream up to there (0: not told)."""
        found = self.stream(row.stream)
        if not account_head or found.view_head <= account_head:
            found.settings, found.viewed = row.settings, True
            if row.head >= found.head:
                found.member = row.member
        if row.head >= found.head:
            found.head, found.n, found.time = row.head, row.n, row.time
            found.read, found.unread, found.mentions = row.read, row.unread, row.mentions
            found.stale, found.counted = False, True
        elif not found.counted:
            found.stale = True  # events came meanwhile that the row does not know of
        if not found.viewed:
            found.stale = True  # settings changed meanwhile, and what they were before is not known
        if row.last_seq:
            self._load_item(found, row.last_seq, row.last, row.last_fold, row.head)

    def load_opened(self, opened: messages.Opened) -> None:
        found = self.stream(opened.stream)
        if not found.head:
            found.head, found.n = opened.head, opened.n
        found.rules_head = opened.head
        found.timer, found.request_for = opened.timer, opened.request_for
        self._load_marks(found, opened.marks)

    def load_group(
        self,
        state: messages.GroupState,
        members: Sequence[messages.Member] | None = None,
        admin: messages.GroupAdmin | None = None,
        members_head: int = 0,
    ) -> bool:
        """A group; all its members (as of `members_head`; 0: as of the group's head) and what admins see, where they were
        fetched too. False: events came meanwhile that one of the three does not know of; fetch them again."""
        found = self.stream(state.stream)
        members_head = members_head or state.head
        admin_head = (admin.head if admin is not None else 0) or state.head
        if min(state.head, members_head, admin_head) < found.group_head:
            return False
        if not found.head:
            found.head, found.n = state.head, state.n
        found.rules_head = state.head
        found.timer, found.member = state.timer, True
        group = found.group = Group(state.title, state.description, state.picture, state.permissions)
        group.members_head, group.admin_head = members_head, admin_head
        if members is not None:
            group.members = {each.user: Member(each.role, each.joined) for each in members}
        if admin is not None:
            group.invites = {
                each.invite: Invite(each.uses, each.used, each.expires_at, each.approval, each.code) for each in admin.invites
            }
            group.requests = list(admin.requests)
            group.banned = set(admin.banned)
        self._load_marks(found, state.marks)
        return True

    def load_history(
        self, stream: bytes, items: Sequence[messages.HistoryItem], whole_from: int = 0, head: int | None = None
    ) -> None:
        """Items of a page. `whole_from`: with this page, all items from there on are here. `head`: up to there the page knows
        everything; it need not know what came after that."""
        found = self.stream(stream)
        for each in items:
            self._load_item(found, each.seq, each.event, each.fold, head)
        if whole_from and (not found.whole_from or whole_from < found.whole_from):
            found.whole_from = whole_from

    def _load_item(self, found: Stream, seq: int, event: msgspec.Raw, fold: msgspec.Raw, head: int | None) -> None:
        """`head`: it contains all changes up to there, and besides those up to the newest in its fold."""
        try:
            decoded = events.decode(bytes(event))
        except msgspec.ValidationError:
            return  # a kind of a newer protocol
        item = Item(seq, decoded, events.Fold() if fold == events.NIL else events.decode_fold(bytes(fold)))
        if head is not None and found.touched.get(seq, 0) > max(head, item.fold.changed):
            found.stale = found.stale or seq not in found.items
            return
        found.items[seq] = item
        self._answered(found, decoded)

    def _answered(self, found: Stream, event: events.Event) -> None:
        if event.sender != self.user and isinstance(event, events.Message | events.RequestAccepted):
            found.answered = True

    def _load_marks(self, found: Stream, marks: Sequence[messages.PeerMarks]) -> None:
        for mark in marks:
            self._mark(found, mark.user, mark.delivered, mark.read)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def apply(self, update: Numbered) -> None:
        """The next event of a stream, or what is left of expired ones."""
        if isinstance(update, StreamGone):
            found = self.stream(update.stream)
            if update.seq > found.head:
                found.head = update.seq
                found.stale = True  # how many messages were among them, nobody says
        elif update.stream[0] == ids.Kind.ACCOUNT:
            if update.seq > self.account.head:
                event = update.event
                if "upto" in update.missing and isinstance(event, events.Cleared):
                    newest = max(self.stream(event.stream).items, default=0)
                    event = msgspec.structs.replace(event, upto=min(event.upto, newest))
                folding.account(self.account, self.stream, update.seq, event, self.user)
                self.account.head = update.seq
        else:
            self._apply(update)

    def _apply(self, update: StreamEvent) -> None:
        found, event, seq = self.stream(update.stream), update.event, update.seq
        if event is None:
            found.head = max(found.head, seq)
            found.stale = True
            return
        if isinstance(event, events.JoinRequested) and event.sender == self.user:
            found.asked, found.member = True, False  # the stream is not read (yet)
            return
        if update.own and isinstance(event, events.Message):
            event = self._filled_in(found, event, update.missing)
        self._answered(found, event)
        if seq > found.rules_head:
            folding.rules(found, seq, event, self.user)
            if found.rules_head:
                found.rules_head = seq
        if seq > found.head:
            self._count(found, seq, event)
            found.head, found.n, found.time = seq, event.n, event.time
        folding.items(found, seq, event)

    @staticmethod
    def _filled_in(found: Stream, event: events.Message, missing: tuple[str, ...]) -> events.Message:
        """What a device cannot say of its own message, its knowledge of the stream can."""
        expires_at, flags = event.expires_at, event.flags
        if "expires_at" in missing and found.timer:
            expires_at = event.time + found.timer * 1000
        if "flags" in missing and found.stream[0] == ids.Kind.DIRECT and not found.answered:
            # A message request if the last one was; but the other may have changed what strangers may do.
            found.stale = found.stale or ids.parties(found.stream) != (event.sender, event.sender)
            flags |= events.Flag.REQUEST if found.request_for else 0
        return msgspec.structs.replace(event, expires_at=expires_at, flags=flags)

    def _count(self, found: Stream, seq: int, event: events.Event) -> None:
        """Unread messages and mentions; own messages move the own mark."""
        if seq == 1 and not found.head:
            found.whole_from, found.counted = 1, True
        if not isinstance(event, events.Message):
            return
        if event.sender == self.user:
            found.read, found.unread, found.mentions = seq, 0, 0
            return
        found.unread += 1
        found.mentions += folding.names(event.body, self.user)
        self._mark(found, event.sender, seq, seq)

    def heard(self, notice: Notice) -> None:
        """Receipts move watermarks; the rest is no state."""
        if isinstance(notice, messages.Receipt):
            self._mark(self.stream(notice.stream), notice.user, notice.delivered, notice.read)

    def _mark(self, found: Stream, user: int, delivered: int, read: int) -> None:
        mark = found.marks.get(user)
        if mark is None:
            mark = found.marks[user] = Mark()
        mark.read = max(mark.read, read)
        mark.delivered = max(mark.delivered, delivered, mark.read)
