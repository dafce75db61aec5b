"""How each kind of event changes the local state (`client.state`): items, the rules of a stream, the account.

Mirrors what the server's streams do with the same events; where an event does not say enough, the stream becomes stale.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from client.streams import Account, Group, Invite, Item, Member, Stream
from protocol import events, ids
from protocol.events import Role

#: Kinds below are items of a history page; kinds from here on change an item or the stream (`protocol.events`).
FIRST_CHANGE_KIND = 32
#: Marks of a kept message, as `messages.Settings.kept` has them.
STARRED = 1
PINNED = 2


def names(body: msgspec.Raw, user: int) -> bool:
    """Whether a message's body mentions `user`."""
    try:
        decoded = events.decode_body(body)
    except msgspec.ValidationError:
        return False  # a kind of body of a newer protocol
    return any(mention.user == user for mention in getattr(decoded, "mentions", ()))


# --- items ------------------------------------------------------------------------------------------------------------


def items(found: Stream, seq: int, event: events.Event) -> None:
    """Messages and group changes become items; edits, deletions and reactions change them."""
    match event:
        case events.Edited() | events.Deleted() | events.Reacted():
            _touch(found, seq, event)
        case _ if events.kind_of(event) < FIRST_CHANGE_KIND:
            found.items.setdefault(seq, Item(seq, event))


def _touch(found: Stream, seq: int, event: events.Edited | events.Deleted | events.Reacted) -> None:
    found.touched[event.target] = seq
    item = found.items.get(event.target)
    if item is None:
        return  # older than what was loaded; a later page brings it as it is then
    fold = item.fold
    if seq <= fold.changed:
        return  # the page that the item is from knew of it
    match event:
        case events.Edited():
            edits = (*fold.edits, seq)
            item.fold = msgspec.structs.replace(fold, body=event.body, edited_at=event.time, edits=edits, changed=seq)
        case events.Deleted():
            item.fold = events.Fold(edits=fold.edits, deleted=True, changed=seq)
            if isinstance(item.event, events.Message):
                item.event = msgspec.structs.replace(item.event, body=events.NIL)
        case events.Reacted():
            reactions = {**fold.reactions, event.sender: event.emoji}
            if not event.emoji:
                reactions.pop(event.sender, None)
            item.fold = msgspec.structs.replace(fold, reactions=reactions, changed=seq)


# --- rules of a stream ------------------------------------------------------------------------------------------------


def rules(found: Stream, seq: int, event: events.Event, user: int) -> None:
    """The timer, the message request, the group. `user`: oneself."""
    match event:
        case events.Message():
            if event.flags & events.Flag.REQUEST:
                found.request_for = _other(found.stream, event.sender)
            elif event.sender == found.request_for:
                found.request_for = 0
        case events.RequestAccepted():
            if event.sender == found.request_for:
                found.request_for = 0
        case events.TimerChanged():
            found.timer = event.seconds
        case _:
            if isinstance(event, _OF_GROUP):
                found.group_head = seq
            _group(found, seq, event, user)


#: Events after which a group is another one.
_OF_GROUP = (
    events.GroupCreated,
    events.MembersAdded,
    events.MemberRemoved,
    events.MemberLeft,
    events.RoleChanged,
    events.GroupProfileChanged,
    events.PermissionsChanged,
    events.MemberJoined,
    events.InviteCreated,
    events.InviteRevoked,
    events.JoinRequested,
    events.JoinRefused,
    events.Unbanned,
)


def _other(stream: bytes, user: int) -> int:
    one, two = ids.parties(stream)
    return two if user == one else one


def _group(found: Stream, seq: int, event: events.Event, user: int) -> None:
    if isinstance(event, events.GroupCreated):
        owner = {event.sender: Member(Role.OWNER, seq)}
        members = owner | {each: Member(Role.MEMBER, seq) for each in event.members}
        found.group = Group(event.title, event.description, event.picture, members=members, invites={}, requests=[])
        found.group.banned = set()
        found.member, found.rules_head = True, seq
        _caught(found, seq, user in members)
        _administers(found, user)
        return
    if _came(event) and user in _came(event):
        found.member = True
        _caught(found, seq, True)
        found.stale = found.group is None
    if (isinstance(event, events.MemberRemoved) and event.user == user) or (
        isinstance(event, events.MemberLeft) and event.sender == user
    ):
        found.member, found.group = False, None
        return
    if found.group is None:
        return
    if seq > found.group.members_head:
        _members(found, seq, event)
    _profile(found, event)
    if seq > found.group.admin_head:
        _admin(found, event)
    _administers(found, user)


def _caught(found: Stream, seq: int, me: bool) -> None:
    """Who joins has read what stands above."""
    if me and seq > found.read:
        found.read, found.unread, found.mentions = seq, 0, 0


def _came(event: events.Event) -> tuple[int, ...]:
    if isinstance(event, events.MembersAdded):
        return event.users
    return (event.user,) if isinstance(event, events.MemberJoined) else ()


def _members(found: Stream, seq: int, event: events.Event) -> None:
    group = found.group
    assert group is not None
    members = group.members
    if members is None:
        return
    for user in _came(event):
        members[user] = Member(Role.MEMBER, seq)
    match event:
        case events.MemberRemoved():
            members.pop(event.user, None)
        case events.MemberLeft():
            members.pop(event.sender, None)
            if event.successor in members:
                members[event.successor].role = Role.OWNER
        case events.RoleChanged() if event.user in members:
            if event.role is Role.OWNER and group.owner:
                members[group.owner].role = Role.ADMIN
            members[event.user].role = event.role


def _profile(found: Stream, event: events.Event) -> None:
    group = found.group
    assert group is not None
    match event:
        case events.GroupProfileChanged():
            group.title, group.description, group.picture = event.title, event.description, event.picture
        case events.PermissionsChanged():
            group.permissions = event.permissions


def _admin(found: Stream, event: events.Event) -> None:
    group = found.group
    assert group is not None
    if group.invites is None or group.requests is None or group.banned is None:
        return
    for user in _came(event):
        if user in group.requests:
            group.requests.remove(user)
    match event:
        case events.MemberJoined() if event.invite in group.invites:
            group.invites[event.invite].used += 1
        case events.InviteCreated():
            group.invites[event.invite] = Invite(event.uses, 0, event.expires_at, event.approval)
        case events.InviteRevoked():
            group.invites.pop(event.invite, None)
        case events.JoinRequested() if event.sender not in group.requests:
            group.requests.append(event.sender)
        case events.JoinRefused() if event.user in group.requests:
            group.requests.remove(event.user)
        case events.MemberRemoved() if event.banned:
            group.banned.add(event.user)
            if event.user in group.requests:
                group.requests.remove(event.user)
        case events.Unbanned():
            group.banned.discard(event.user)


def _administers(found: Stream, user: int) -> None:
    """Invites, requests and bans are known to who may add members: whoever may from now on has to fetch them."""
    group = found.group
    assert group is not None
    me = group.members.get(user) if group.members is not None else None
    if me is None or me.role < group.permissions.add:
        group.invites = group.requests = group.banned = None
    elif group.invites is None:
        found.stale = True


# --- the account ------------------------------------------------------------------------------------------------------


_Find = Callable[[bytes], Stream]


def account(mine: Account, find: _Find, seq: int, event: events.Event | None, user: int) -> None:
    """What concerns only oneself: the account, and the own view of conversations. `find`: stream id -> Stream."""
    match event:
        case events.ProfileChanged():
            mine.profile = event.profile
        case events.Renamed():
            mine.name = event.name
        case events.PrivacySet():
            mine.privacy = event.privacy
        case events.ContactSet():
            mine.contacts.pop(event.user, None)
            if event.on:
                mine.contacts[event.user] = event.label
        case events.BlockSet():
            (mine.blocked.add if event.on else mine.blocked.discard)(event.user)
        case events.DeviceAdded():
            mine.devices[event.added] = event.name
        case events.DeviceRenamed():
            if event.renamed in mine.devices:
                mine.devices[event.renamed] = event.name
        case events.DeviceRevoked():
            mine.devices.pop(event.revoked, None)
        case events.PasswordChanged():
            if event.revoked:
                mine.devices = {device: name for device, name in mine.devices.items() if device == event.device}
        case events.Joined() | events.Parted():
            found = find(event.stream)
            found.asked = False
            found.view_head = seq
            if event.seq >= found.head:
                found.member = isinstance(event, events.Joined)
                found.stale = found.stale or found.member
        case events.TurnedDown():
            find(event.stream).asked = False
        case events.OwnRead():
            _own_read(find(event.stream), event.seq, user)
        case _:
            _settings(find, seq, event)


def _own_read(found: Stream, seq: int, user: int) -> None:
    if seq <= found.read:
        return
    found.read = seq
    if seq >= found.head:
        found.unread = found.mentions = 0
    elif 0 < found.whole_from <= seq + 1:
        later = [item.event for number, item in found.items.items() if number > seq]
        others = [event for event in later if isinstance(event, events.Message) and event.sender != user]
        found.unread = len(others)
        found.mentions = sum(names(event.body, user) for event in others if event.body != events.NIL)
    else:
        found.stale = True


def _settings(find: _Find, seq: int, event: events.Event | None) -> None:
    match event:
        case events.ConversationSet():
            new = {"pinned": event.pinned, "muted_until": event.muted_until, "archived": event.archived}
            _change(find(event.stream), seq, **new)
        case events.Cleared():
            view = find(event.stream).settings
            upto = max(event.upto, view.cleared)
            _change(
                find(event.stream),
                seq,
                cleared=upto,
                deleted=event.deleted,
                hidden=tuple(each for each in view.hidden if each > upto),
                kept={each: marks for each, marks in view.kept.items() if each > upto},
            )
        case events.DraftSet():
            _change(find(event.stream), seq, draft=event.text, draft_reply_to=event.reply_to)
        case events.Kept():
            view = find(event.stream).settings
            kept = {each: marks for each, marks in view.kept.items() if each != event.seq}
            if event.starred or event.pinned:
                kept[event.seq] = (STARRED if event.starred else 0) | (PINNED if event.pinned else 0)
            _change(find(event.stream), seq, kept=kept)
        case events.Hidden():
            view = find(event.stream).settings
            fresh = {each for each in event.seqs if each > view.cleared}
            _change(find(event.stream), seq, hidden=tuple(sorted(fresh.union(view.hidden))))


def _change(found: Stream, seq: int, **changes: object) -> None:
    found.view_head = seq
    found.settings = msgspec.structs.replace(found.settings, **changes)
