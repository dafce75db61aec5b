"""Every command of the protocol as a typed coroutine method.

All of them raise codes.Refused (what it says in `error` is in `protocol.codes`), Closed, and Full. They wait for as long as
it takes: through reconnects, repeats and temporary refusals. Bound that with `asyncio.timeout`; a state-changing command
then still goes on, and its event tells. Streams are ids as in `protocol.ids`; times are milliseconds since the epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from protocol import events, ids, messages


@dataclass(slots=True, frozen=True)
class AccountPage:
    """One's own account, whole."""

    state: messages.AccountState
    contacts: tuple[messages.Contact, ...]


@dataclass(slots=True, frozen=True)
class HistoryPage:
    """One page of a stream, in the order asked for. `gone`: runs first..last that hold nothing to show any more. `head`: the
    seq of the stream up to which everything is contained in it (0: not told); it may know of later events, too."""

    items: list[messages.HistoryItem]
    more: bool
    next: int
    gone: list[messages.Gone] = field(default_factory=list)
    head: int = 0


@dataclass(slots=True, frozen=True)
class ConversationPage:
    """One page of the conversation list, in order of stream id. `head`: the seq of the account stream up to which everything
    is contained in the settings (0: not told)."""

    conversations: list[messages.Conversation]
    more: bool
    next: bytes
    head: int = 0


@dataclass(slots=True, frozen=True)
class MemberList:
    """All members of a group, in order of user id. `head`: the seq up to which everything is contained in it (0: not told)."""

    members: list[messages.Member]
    head: int = 0


@dataclass(slots=True, frozen=True)
class CreatedGroup:
    """A new group's stream, and its first event."""

    stream: bytes
    sent: messages.Sent


def text_body(text: str, mentions: Sequence[events.Mention] = ()) -> msgspec.Raw:
    """The body of a text message."""
    return msgspec.Raw(msgspec.msgpack.encode(events.Text(text, tuple(mentions))))


def mention(text: str, name: str, user: int) -> events.Mention:
    """A mention of `user` where `text` says `name` first. ValueError if it does not."""
    at = text.index(name)
    return events.Mention(user, len(text[:at].encode()), len(name.encode()))


class Commands:
    """`call` and `tell` come from the client; the first 0 of a frame is its rid, the second one its counter: both are
    set there."""

    async def call(self, frame: messages.Frame) -> Any:
        """Send a command and wait for its answer."""
        raise NotImplementedError

    def submit(self, frame: messages.Frame) -> asyncio.Future[Any]:
        """Send a command; the future has its answer."""
        raise NotImplementedError

    def tell(self, frame: messages.Typing | messages.Look) -> None:
        """Send what has no answer."""
        raise NotImplementedError

    async def _change(self, frame: messages.Change) -> messages.Sent:
        sent: messages.Sent = await self.call(frame)
        return sent

    # --- messages -----------------------------------------------------------------------------------------------------

    async def open(self, user: int) -> messages.Opened:
        """The direct conversation with `user`; with oneself: the note to self."""
        opened: messages.Opened = await self.call(messages.Open(0, user))
        return opened

    async def send_text(
        self, stream: bytes, text: str, *, mentions: Sequence[events.Mention] = (), reply_to: int = 0, flags: int = 0
    ) -> messages.Sent:
        """Send a text. `reply_to`: a seq of the same stream. `flags`: `events.Flag`."""
        return await self.send(stream, text_body(text, mentions), reply_to=reply_to, flags=flags)

    async def send(self, stream: bytes, body: msgspec.Raw, *, reply_to: int = 0, flags: int = 0) -> messages.Sent:
        """Send a message with an encoded body."""
        return await self._change(messages.Send(0, 0, stream, body, reply_to, flags & ~events.Flag.EPHEMERAL))

    async def send_ephemeral(self, stream: bytes, body: msgspec.Raw) -> None:
        """Offer a message to who is connected now; it is not stored, and not sent again: Lost."""
        await self.call(messages.Send(0, 0, stream, body, 0, events.Flag.EPHEMERAL))

    async def edit(self, stream: bytes, target: int, text: str, *, mentions: Sequence[events.Mention] = ()) -> messages.Sent:
        """Replace the text of an own message."""
        return await self._change(messages.Edit(0, 0, stream, target, text_body(text, mentions)))

    async def delete(self, stream: bytes, target: int) -> messages.Sent:
        """Delete a message for everyone."""
        return await self._change(messages.Delete(0, 0, stream, target))

    async def react(self, stream: bytes, target: int, emoji: str) -> messages.Sent:
        """Set one's reaction; "" takes it back."""
        return await self._change(messages.React(0, 0, stream, target, emoji))

    async def forward(self, stream: bytes, source: bytes, target: int, *, flags: int = 0) -> messages.Sent:
        """Send the body of message `target` of `source` to `stream`."""
        return await self._change(messages.Forward(0, 0, stream, source, target, flags))

    async def set_timer(self, stream: bytes, seconds: int) -> messages.Sent:
        """Messages from now on disappear after so long; 0: never."""
        return await self._change(messages.SetTimer(0, 0, stream, seconds))

    async def accept_request(self, stream: bytes) -> messages.Sent:
        return await self._change(messages.AcceptRequest(0, 0, stream))

    async def info(self, stream: bytes, target: int) -> messages.MessageInfo:
        """Who has and who read an own message."""
        info: messages.MessageInfo = await self.call(messages.Info(0, stream, target))
        return info

    async def read(self, stream: bytes, seq: int) -> None:
        """The person has read up to `seq`."""
        await self.call(messages.Read(0, stream, seq))

    def typing(self, stream: bytes, on: bool = True) -> None:
        """The person types, or has stopped. Repeat it every few seconds."""
        self.tell(messages.Typing(0, stream, on))

    def look(self, stream: bytes = b"") -> None:
        """This device shows `stream` now, and wants to see who types there; b"": none."""
        self.tell(messages.Look(0, stream))

    async def watch(self, add: Sequence[int] = (), drop: Sequence[int] = ()) -> None:
        """Follow the presence of some users, and of others no longer; what is followed stays so over reconnects."""
        await self.call(messages.WatchPresence(0, tuple(add), tuple(drop)))

    # --- groups -------------------------------------------------------------------------------------------------------

    async def create_group(
        self, title: str, members: Sequence[int] = (), *, description: str = "", picture: str = ""
    ) -> CreatedGroup:
        frame = messages.CreateGroup(0, 0, title, tuple(members), description, picture)
        sent = await self._change(frame)
        return CreatedGroup(ids.group_stream(self._device(), frame.counter), sent)

    def _device(self) -> int:
        raise NotImplementedError

    async def add_members(self, stream: bytes, users: Sequence[int]) -> messages.Sent:
        return await self._change(messages.AddMembers(0, 0, stream, tuple(users)))

    async def remove_member(self, stream: bytes, user: int, *, ban: bool = False) -> messages.Sent:
        return await self._change(messages.RemoveMember(0, 0, stream, user, ban))

    async def unban(self, stream: bytes, user: int) -> messages.Sent:
        return await self._change(messages.Unban(0, 0, stream, user))

    async def leave(self, stream: bytes) -> messages.Sent:
        return await self._change(messages.Leave(0, 0, stream))

    async def set_role(self, stream: bytes, user: int, role: events.Role) -> messages.Sent:
        return await self._change(messages.SetRole(0, 0, stream, user, role))

    async def set_group_profile(self, stream: bytes, title: str, *, description: str = "", picture: str = "") -> messages.Sent:
        return await self._change(messages.SetGroupProfile(0, 0, stream, title, description, picture))

    async def set_permissions(self, stream: bytes, permissions: events.Permissions) -> messages.Sent:
        return await self._change(messages.SetPermissions(0, 0, stream, permissions))

    async def create_invite(
        self, stream: bytes, *, uses: int = 0, expires_at: int = 0, approval: bool = False
    ) -> messages.Invite:
        """Make an invite link, and fetch its code."""
        sent = await self._change(messages.CreateInvite(0, 0, stream, uses, expires_at, approval))
        admin = await self.group_admin(stream)
        return next(invite for invite in admin.invites if invite.invite == sent.seq)

    async def revoke_invite(self, stream: bytes, invite: int) -> messages.Sent:
        return await self._change(messages.RevokeInvite(0, 0, stream, invite))

    async def join(self, stream: bytes, code: bytes) -> messages.Sent:
        """Join by an invite link, or ask to, where approval is needed: then one is no member yet."""
        return await self._change(messages.Join(0, 0, stream, code))

    async def answer_join(self, stream: bytes, user: int, accept: bool) -> messages.Sent:
        return await self._change(messages.AnswerJoin(0, 0, stream, user, accept))

    async def group(self, stream: bytes) -> messages.GroupState:
        state: messages.GroupState = await self.call(messages.FetchGroup(0, stream))
        return state

    async def members(self, stream: bytes) -> list[messages.Member]:
        """All members, in order of user id."""
        return (await self.member_list(stream)).members

    async def member_list(self, stream: bytes) -> MemberList:
        """All members, and as of when."""
        found: list[messages.Member] = []
        heads: list[int] = []
        more = True
        while more:
            page: messages.MembersPage = await self.call(messages.FetchMembers(0, stream, found[-1].user if found else 0))
            found += page.members
            heads.append(page.head)
            more = page.more
        return MemberList(found, min(heads))

    async def group_admin(self, stream: bytes) -> messages.GroupAdmin:
        """Invite links, requests to join and bans; for who may add members."""
        admin: messages.GroupAdmin = await self.call(messages.FetchGroupAdmin(0, stream))
        return admin

    # --- account ------------------------------------------------------------------------------------------------------

    async def set_profile(self, profile: events.Profile) -> messages.Sent:
        return await self._change(messages.SetProfile(0, 0, profile))

    async def rename(self, name: str) -> messages.Sent:
        """Take another user name."""
        return await self._change(messages.Rename(0, 0, name))

    async def set_contact(self, user: int, *, on: bool = True, label: str = "") -> messages.Sent:
        return await self._change(messages.SetContact(0, 0, user, on, label))

    async def block(self, user: int, on: bool = True) -> messages.Sent:
        return await self._change(messages.SetBlock(0, 0, user, on))

    async def set_privacy(self, privacy: events.Privacy) -> messages.Sent:
        return await self._change(messages.SetPrivacy(0, 0, privacy))

    async def rename_device(self, device: int, name: str) -> messages.Sent:
        return await self._change(messages.RenameDevice(0, 0, device, name))

    async def revoke_device(self, device: int) -> messages.Sent:
        """Log another device out."""
        return await self._change(messages.RevokeDevice(0, 0, device))

    async def set_conversation(
        self, stream: bytes, *, pinned: bool = False, muted_until: int = 0, archived: bool = False
    ) -> messages.Sent:
        return await self._change(messages.SetConversation(0, 0, stream, pinned, muted_until, archived))

    async def clear(self, stream: bytes, upto: int, *, delete: bool = False) -> messages.Sent:
        """Hide all up to `upto` from oneself; `delete`: and take the conversation off the list."""
        return await self._change(messages.Clear(0, 0, stream, upto, delete))

    async def set_draft(self, stream: bytes, text: str, *, reply_to: int = 0) -> messages.Sent:
        return await self._change(messages.SetDraft(0, 0, stream, text, reply_to))

    async def keep(self, stream: bytes, seq: int, *, starred: bool = False, pinned: bool = False) -> messages.Sent:
        """Star and / or pin a message for oneself; neither: no longer."""
        return await self._change(messages.Keep(0, 0, stream, seq, starred, pinned))

    async def hide(self, stream: bytes, seqs: Sequence[int]) -> messages.Sent:
        """Delete messages for oneself."""
        return await self._change(messages.Hide(0, 0, stream, tuple(seqs)))

    async def change_password(self, old: str, new: str, *, revoke_others: bool = True) -> messages.Sent:
        return await self._change(messages.ChangePassword(0, 0, old, new, revoke_others))

    async def delete_account(self, confirmation: str) -> None:
        """Delete one's account for ever; the client ends with it. `confirmation`: the password, or the user name of who
        has none."""
        await self.call(messages.DeleteAccount(0, 0, confirmation))

    async def logout(self) -> None:
        """Revoke this device; the client ends with it."""
        await self.call(messages.Logout(0))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def account(self) -> AccountPage:
        parts, _ = await self.call(messages.FetchAccount(0))
        state = next(part for part in parts if isinstance(part, messages.AccountState))
        contacts = tuple(c for part in parts if isinstance(part, messages.Contacts) for c in part.contacts)
        return AccountPage(state, contacts)

    async def conversations(self, after: bytes = b"", limit: int = 100) -> ConversationPage:
        """One page of the conversation list."""
        parts, end = await self.call(messages.FetchConversations(0, after, limit))
        return ConversationPage(parts, end.more, end.next if end.more else b"", end.head)

    async def all_conversations(self) -> list[messages.Conversation]:
        """The whole list, in order of stream id."""
        page = await self.conversations()
        found = page.conversations
        while page.more:
            page = await self.conversations(page.next)
            found += page.conversations
        return found

    async def history(self, stream: bytes, start: int = 0, *, newest_first: bool = True, limit: int = 50) -> HistoryPage:
        """One page: from seq `start` on towards the past or the future; `start` 0: from the newest."""
        parts, end = await self.call(messages.FetchHistory(0, stream, start, newest_first, limit))
        items = [part for part in parts if isinstance(part, messages.HistoryItem)]
        gone = [part for part in parts if isinstance(part, messages.Gone)]
        return HistoryPage(items, end.more, end.next if end.more else 0, gone, end.head)

    async def profiles(self, users: Sequence[int]) -> list[messages.ProfileRow]:
        """Those of `users` that exist and may be seen."""
        found: messages.Profiles = await self.call(messages.FetchProfiles(0, tuple(users)))
        return list(found.profiles)

    async def find(self, prefix: str, limit: int = 20) -> list[messages.ProfileRow]:
        """Users whose name begins with `prefix`."""
        found: messages.Profiles = await self.call(messages.FindUsers(0, prefix, limit))
        return list(found.profiles)

    async def export(self) -> AsyncIterator[messages.ExportPart]:
        """One's own data, piece by piece."""
        cursor, more = b"", True
        while more:
            parts, end = await self.call(messages.Export(0, cursor))
            for part in parts:
                yield part
            more, cursor = end.more, end.next
