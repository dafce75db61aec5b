"""Every frame of the protocol, one typed struct each.

A frame is a msgpack array: item 0 is its number, item 1 the request id `rid` (0: none), then the fields in the order below.
Trailing items that have a default may be left out; unknown trailing items are ignored. Integers stay below 2**53.

Numbers 1-95 go from client to server, 96-127 from server to client. A state-changing command carries the device's
`counter`; the answer is `Sent` (the event it became) or `Error`. Streams, seqs and times as in `protocol.events`.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from protocol.events import (
    NIL,
    Audience,
    Description,
    Emoji,
    Id,
    Number,
    Permissions,
    Picture,
    Privacy,
    Profile,
    Role,
    Seq,
    StreamId,
    Title,
)

__all__ = ["Audience", "Permissions", "Privacy", "Profile", "Role"]

Rid = Annotated[int, Meta(ge=0, le=2**53 - 1, description="request id chosen by the client; 0: none")]
#: Of what is answered by more than an error: with 0, which every frame that is no answer has, nobody could tell whose it is.
AnsweredRid = Annotated[int, Meta(ge=1, le=2**53 - 1, description="request id chosen by the client, quoted in the answer")]
Counter = Annotated[int, Meta(ge=0, le=2**53 - 1, description="rises strictly per device; at least 1")]
UserName = Annotated[str, Meta(min_length=1, max_length=64)]
Password = Annotated[str, Meta(min_length=1, max_length=256)]
DeviceName = Annotated[str, Meta(max_length=64)]
#: 16 random bytes of the client's choice; the same in every repeat of one registration or log-in, so that a repeat finds
#: the account and the device that the first one made.
Request = Annotated[bytes, Meta(min_length=16, max_length=16)]
Users = Annotated[tuple[Id, ...], Meta(max_length=1024)]
Limit = Annotated[int, Meta(ge=1, le=256)]


class Frame(Struct, array_like=True):
    """What all frames have in common."""

    rid: Rid


class Change(Frame):
    """What all state-changing commands have in common."""

    rid: AnsweredRid
    counter: Counter


class Question(Frame):
    """What all that is asked has in common."""

    rid: AnsweredRid


# --- credentials (inside Hello) ---------------------------------------------------------------------------------------


class TokenCredential(Struct, array_like=True, tag=1):
    """The device token of an earlier Welcome."""

    token: Annotated[bytes, Meta(min_length=16, max_length=64)]


class PasswordCredential(Struct, array_like=True, tag=2):
    """Log in; makes a new device."""

    name: UserName
    password: Password
    request: Request
    device_name: DeviceName = ""


class RegisterCredential(Struct, array_like=True, tag=3):
    """Make an account and its first device. `invitation` where registration is by invitation."""

    name: UserName
    password: Password
    request: Request
    device_name: DeviceName = ""
    invitation: Annotated[str, Meta(max_length=64)] = ""


class JwtCredential(Struct, array_like=True, tag=4):
    """A JSON Web Token (RFC 7519) of a configured issuer; makes the account at first sight, and a new device."""

    jwt: Annotated[str, Meta(min_length=1, max_length=8192)]
    request: Request
    device_name: DeviceName = ""


class ResetCredential(Struct, array_like=True, tag=5):
    """Set a new password with a one-time code from the operator; logs out all devices and makes a new one."""

    name: UserName
    code: Annotated[str, Meta(min_length=1, max_length=64)]
    password: Password
    request: Request
    device_name: DeviceName = ""


Credential = TokenCredential | PasswordCredential | RegisterCredential | JwtCredential | ResetCredential

# --- client -> server: connection -------------------------------------------------------------------------------------


class Hello(Frame, tag=1):
    """The first frame. The server picks the highest version that both have. `agent` names the program, for the log."""

    lowest_version: Number
    highest_version: Number
    credential: Credential
    agent: Annotated[str, Meta(max_length=64)] = ""


class ClientHeartbeat(Frame, tag=2):
    """Answer to a Heartbeat when there is nothing else to say. Not answered."""


class Ack(Frame, tag=3):
    """The application has taken everything up to `seq` of `stream`, for each pair. Cumulative; not answered."""

    cursors: Annotated[tuple[tuple[StreamId, Seq], ...], Meta(min_length=1, max_length=256)]


class Read(Frame, tag=4):
    """The person has read up to `seq`. Cumulative. Answered with Done if rid is not 0."""

    stream: StreamId
    seq: Seq


class Typing(Frame, tag=5):
    """The person is typing, or has stopped. Ephemeral; not answered."""

    stream: StreamId
    on: bool = True


class Look(Frame, tag=6):
    """This device looks at `stream` now (b"": at none), and wants to see who is typing there. Not answered."""

    stream: Annotated[bytes, Meta(max_length=15)] = b""


class WatchPresence(Frame, tag=7):
    """Subscribe to the presence of `add`, unsubscribe from `drop`. At most 256 users a device. Answered with Done if rid is not
    0, and with a Presence for every user of `add` that one may see."""

    add: Users = ()
    drop: Users = ()


# --- client -> server: messages ---------------------------------------------------------------------------------------


class Open(Question, tag=10):
    """Look up the direct conversation with `user` (oneself: the note to self). Answered with Opened."""

    user: Id


class Send(Change, tag=11):
    """Send a message. `body` as `protocol.events.Body`. `reply_to`: a seq of the same stream. `flags`: see Flag; with
    EPHEMERAL it is offered to who is connected, not stored, and answered with Done."""

    stream: StreamId
    body: Raw
    reply_to: Number = 0
    flags: Number = 0


class Edit(Change, tag=12):
    """Replace the body of one's own message, within the edit window."""

    stream: StreamId
    target: Seq
    body: Raw


class Delete(Change, tag=13):
    """Delete a message for everyone: one's own, or in a group anybody's as an admin."""

    stream: StreamId
    target: Seq


class React(Change, tag=14):
    """Set one's reaction to a message; "" takes it back."""

    stream: StreamId
    target: Seq
    emoji: Emoji


class Forward(Change, tag=15):
    """Send the current body of message `target` of `source` to `stream`; the server copies it and counts the hop."""

    stream: StreamId
    source: StreamId
    target: Seq
    flags: Number = 0


class SetTimer(Change, tag=16):
    """Messages from now on disappear after `seconds`; 0: never. At most 400 days."""

    stream: StreamId
    seconds: Annotated[int, Meta(ge=0, le=400 * 86400)]


class AcceptRequest(Change, tag=17):
    """Accept the message request of the other party of a direct conversation."""

    stream: StreamId


class Info(Question, tag=18):
    """Who has and who read message `target`. For its sender. Answered with MessageInfo."""

    stream: StreamId
    target: Seq


# --- client -> server: groups -----------------------------------------------------------------------------------------


class CreateGroup(Change, tag=20):
    """Make a group. Its stream id is b"g" + own device id + counter (7 bytes each, big-endian)."""

    title: Title
    members: Users = ()
    description: Description = ""
    picture: Picture = ""


class AddMembers(Change, tag=21):
    stream: StreamId
    users: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1024)]


class RemoveMember(Change, tag=22):
    """Remove a member, and with `ban` keep them out. `ban` also takes one who is no member."""

    stream: StreamId
    user: Id
    ban: bool = False


class Leave(Change, tag=23):
    """Leave a group. An owner is followed by the longest-serving admin, else the longest-serving member."""

    stream: StreamId


class SetRole(Change, tag=24):
    """Give a member a role; OWNER hands the group over."""

    stream: StreamId
    user: Id
    role: Role


class SetGroupProfile(Change, tag=25):
    stream: StreamId
    title: Title
    description: Description = ""
    picture: Picture = ""


class SetPermissions(Change, tag=26):
    stream: StreamId
    permissions: Permissions


class CreateInvite(Change, tag=27):
    """Make an invite link. Its id is the seq of the event; admins read the code with FetchGroupAdmin."""

    stream: StreamId
    uses: Number = 0
    expires_at: Number = 0
    approval: bool = False


class RevokeInvite(Change, tag=28):
    stream: StreamId
    invite: Id


class Join(Change, tag=29):
    """Join a group by the code of an invite link, or ask to, where approval is needed."""

    stream: StreamId
    code: Annotated[bytes, Meta(min_length=1, max_length=64)]


class AnswerJoin(Change, tag=30):
    """Let in, or not, a user who asked to join."""

    stream: StreamId
    user: Id
    accept: bool


class Unban(Change, tag=31):
    stream: StreamId
    user: Id


class FetchGroup(Question, tag=32):
    """Answered with GroupState."""

    stream: StreamId


class FetchMembers(Question, tag=33):
    """Members in order of user id, beginning after `after`. Answered with MembersPage."""

    stream: StreamId
    after: Number = 0
    limit: Limit = 256


class FetchGroupAdmin(Question, tag=34):
    """Invite links, join requests and bans, for who may add members. Answered with GroupAdmin."""

    stream: StreamId


# --- client -> server: account ----------------------------------------------------------------------------------------


class SetProfile(Change, tag=40):
    profile: Profile


class Rename(Change, tag=41):
    """Take another user name."""

    name: UserName


class SetContact(Change, tag=42):
    user: Id
    on: bool = True
    label: Annotated[str, Meta(max_length=64)] = ""


class SetBlock(Change, tag=43):
    user: Id
    on: bool = True


class SetPrivacy(Change, tag=44):
    privacy: Privacy


class RenameDevice(Change, tag=45):
    device: Id
    name: DeviceName


class RevokeDevice(Change, tag=46):
    """Log another device out; it is cut off within a second."""

    device: Id


class SetConversation(Change, tag=47):
    """Own settings of one conversation. `muted_until`: 0 not muted, 2**53-1 for ever."""

    stream: StreamId
    pinned: bool = False
    muted_until: Number = 0
    archived: bool = False


class Clear(Change, tag=48):
    """Hide all up to `upto` from oneself; `delete`: and take the conversation off the list until something new comes."""

    stream: StreamId
    upto: Number
    delete: bool = False


class SetDraft(Change, tag=49):
    """An unsent text, at most 4096 characters; "" removes it."""

    stream: StreamId
    text: Annotated[str, Meta(max_length=4096)]
    reply_to: Number = 0


class Keep(Change, tag=50):
    """Star and / or pin a message for oneself; neither: no longer."""

    stream: StreamId
    seq: Seq
    starred: bool = False
    pinned: bool = False


class Hide(Change, tag=51):
    """Delete messages for oneself."""

    stream: StreamId
    seqs: Annotated[tuple[Seq, ...], Meta(min_length=1, max_length=256)]


class ChangePassword(Change, tag=52):
    """`revoke_others` logs out every other device."""

    old: Password
    new: Password
    revoke_others: bool = True


class Logout(Frame, tag=53):
    """Revoke this device. Answered by the close."""


class DeleteAccount(Change, tag=54):
    """Delete one's account for ever: name, profile, devices; messages of others stay theirs. Password users confirm with
    the password, others with their user name."""

    confirmation: Password


class FetchAccount(Question, tag=60):
    """Answered with AccountState, Contacts frames, and PageEnd."""


class FetchConversations(Question, tag=61):
    """The conversation list in order of stream id, after `after`. Answered with Conversation frames and PageEnd."""

    after: Annotated[bytes, Meta(max_length=15)] = b""
    limit: Limit = 100


class FetchHistory(Question, tag=62):
    """Messages and group changes in their current state, from seq `start` on, towards the past or the future. `start` 0: from
    the newest, or towards the future from the oldest. Answered with HistoryItem and Gone frames and PageEnd."""

    stream: StreamId
    start: Number = 0
    newest_first: bool = True
    limit: Limit = 50


class FetchProfiles(Question, tag=63):
    """Answered with Profiles: those of `users` that exist and that one may see."""

    users: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=256)]


class FindUsers(Question, tag=64):
    """Users whose name begins with `prefix`. Answered with Profiles."""

    prefix: Annotated[str, Meta(min_length=1, max_length=64)]
    limit: Annotated[int, Meta(ge=1, le=50)] = 20


class Export(Question, tag=65):
    """One's own data, piece by piece: ask with `cursor` b"" and then with each PageEnd's `next`. Answered with ExportPart
    frames and PageEnd."""

    cursor: Annotated[bytes, Meta(max_length=64)] = b""


ClientFrame = (
    Hello
    | ClientHeartbeat
    | Ack
    | Read
    | Typing
    | Look
    | WatchPresence
    | Open
    | Send
    | Edit
    | Delete
    | React
    | Forward
    | SetTimer
    | AcceptRequest
    | Info
    | CreateGroup
    | AddMembers
    | RemoveMember
    | Leave
    | SetRole
    | SetGroupProfile
    | SetPermissions
    | CreateInvite
    | RevokeInvite
    | Join
    | AnswerJoin
    | Unban
    | FetchGroup
    | FetchMembers
    | FetchGroupAdmin
    | SetProfile
    | Rename
    | SetContact
    | SetBlock
    | SetPrivacy
    | RenameDevice
    | RevokeDevice
    | SetConversation
    | Clear
    | SetDraft
    | Keep
    | Hide
    | ChangePassword
    | Logout
    | DeleteAccount
    | FetchAccount
    | FetchConversations
    | FetchHistory
    | FetchProfiles
    | FindUsers
    | Export
)

# --- server -> client -------------------------------------------------------------------------------------------------


class Limits(Struct, array_like=True, frozen=True):
    """What the server holds the client to. Bytes unless said otherwise."""

    frame: int
    body: int
    window_events: int
    window_bytes: int
    commands_per_s: int
    burst: int
    unanswered: int
    group_members: int
    subscriptions: int
    edit_window_s: int
    questions: int = 8


class Welcome(Frame, tag=96):
    """The answer to Hello. `token` is b"" when the one sent stays in use; otherwise it is to be kept and used from now on.
    `heartbeat_s`: the server speaks at least this often, and closes when the client is silent for twice as long.
    `incarnation` is another one after the server's data were set back to an earlier moment (a backup was restored): whatever
    the client knows of seqs is void then, and it begins anew. 0: from a server that does not tell."""

    version: int
    session: bytes
    user: Id
    device: Id
    name: str
    token: bytes
    heartbeat_s: int
    limits: Limits
    time: Number
    features: tuple[str, ...] = ()
    incarnation: Number = 0


class Error(Frame, tag=97):
    """A refusal of the command with this rid. `temporary`: the same bytes may be sent again after `retry_after_ms`."""

    number: int
    symbol: str
    text: str
    temporary: bool
    retry_after_ms: Number = 0


class Sent(Frame, tag=98):
    """The command became event `seq` of its stream, and is durable. It stands for that event on this device."""

    seq: Seq
    n: Number
    time: Number


class Event(Frame, tag=99):
    """Event `seq` of `stream`; `event` as in `protocol.events`. rid is 0."""

    stream: StreamId
    seq: Seq
    event: Raw


class CaughtUp(Frame, tag=100):
    """Everything that had been committed when this connection began has been sent."""


class Heartbeat(Frame, tag=101):
    """Sent on a connection that was silent for a while; to be answered with any frame."""


class GoingAway(Frame, tag=102):
    """The connection is about to close; come back after `retry_after_ms`, to `url` if it is not ""."""

    retry_after_ms: Number
    url: str = ""


class Receipt(Frame, tag=103):
    """`user` has everything up to `delivered` and has read up to `read`. Collapsible."""

    stream: StreamId
    user: Id
    delivered: Number
    read: Number


class ReceiptCount(Frame, tag=104):
    """In a group above 32 members: how many have, and how many read, one's own newest message `seq`. Collapsible."""

    stream: StreamId
    seq: Seq
    delivered: Number
    read: Number


class MemberTyping(Frame, tag=105):
    """`user` types, or stopped. Ephemeral; forgotten after 6 s without another."""

    stream: StreamId
    user: Id
    on: bool


class Presence(Frame, tag=106):
    """`user` is online, or was last seen then (0: not known). Collapsible."""

    user: Id
    online: bool
    last_seen: Number = 0


class Ephemeral(Frame, tag=107):
    """A message that is not stored."""

    stream: StreamId
    sender: Id
    device: Id
    time: Number
    body: Raw


class Done(Frame, tag=108):
    """A command without an event of its own was carried out."""


class PeerMarks(Struct, array_like=True, frozen=True):
    """Watermarks of one user."""

    user: Id
    delivered: Number
    read: Number


class Opened(Frame, tag=109):
    """A direct conversation. `request_for`: the user who has yet to accept the other's message request, or 0."""

    stream: StreamId
    head: Number
    n: Number
    timer: Number
    request_for: Number
    marks: tuple[PeerMarks, ...]


class MessageInfo(Frame, tag=110):
    """Users to whom a message was delivered, and those who read it (and so are not named again in `delivered`)."""

    stream: StreamId
    seq: Seq
    delivered: tuple[int, ...]
    read: tuple[int, ...]


class GroupState(Frame, tag=111):
    """A group as of `head`. `joined`: from which seq on one may read. `marks`: the watermarks of the others, in groups of at
    most 32."""

    stream: StreamId
    head: Number
    n: Number
    title: str
    description: str
    picture: str
    permissions: Permissions
    timer: Number
    member_count: int
    owner: Number
    role: Role
    joined: Number
    marks: tuple[PeerMarks, ...] = ()


class Member(Struct, array_like=True, frozen=True):
    user: Id
    role: Role
    joined: Seq


class MembersPage(Frame, tag=112):
    """Members as of seq `head` of the group."""

    members: tuple[Member, ...]
    more: bool
    head: Number = 0


class Invite(Struct, array_like=True, frozen=True):
    """An invite link; `used` of `uses` (0: no limit)."""

    invite: Id
    code: bytes
    uses: Number
    used: Number
    expires_at: Number
    approval: bool


class GroupAdmin(Frame, tag=113):
    """Invite links, who asks to join, and who is banned, as of seq `head` of the group."""

    invites: tuple[Invite, ...]
    requests: tuple[int, ...]
    banned: tuple[int, ...]
    head: Number = 0


class DeviceInfo(Struct, array_like=True, frozen=True):
    device: Id
    name: str
    created: Number
    last_seen: Number


class AccountState(Frame, tag=114):
    """One's own account as of seq `head` of the account stream."""

    head: Number
    user: Id
    name: str
    profile: Profile
    privacy: Privacy
    blocked: tuple[int, ...]
    devices: tuple[DeviceInfo, ...]


class Contact(Struct, array_like=True, frozen=True):
    user: Id
    label: str


class Contacts(Frame, tag=115):
    """Some of one's contacts; in order of user id over all frames of one answer."""

    contacts: tuple[Contact, ...]


class Settings(Struct, array_like=True):
    """One user's own view of one conversation. `kept` maps seq to 1 starred, 2 pinned, 3 both."""

    pinned: bool = False
    muted_until: Number = 0
    archived: bool = False
    cleared: Number = 0
    deleted: bool = False
    draft: str = ""
    draft_reply_to: Number = 0
    kept: dict[int, int] = {}
    hidden: tuple[int, ...] = ()


class Conversation(Frame, tag=116):
    """One row of the conversation list. `last` and `last_fold` as in HistoryItem, nil if there is nothing to show."""

    stream: StreamId
    head: Number
    n: Number
    time: Number
    unread: Number
    mentions: Number
    delivered: Number
    read: Number
    member: bool
    settings: Settings
    last_seq: Number = 0
    last: Raw = NIL
    last_fold: Raw = NIL


class HistoryItem(Frame, tag=117):
    """One item in its current state: the event, and its Fold (nil: untouched)."""

    stream: StreamId
    seq: Seq
    event: Raw
    fold: Raw = NIL


class Gone(Frame, tag=118):
    """The seqs first..last hold nothing to show any more (expired, or hidden by oneself)."""

    stream: StreamId
    first: Seq
    last: Seq


class PageEnd(Frame, tag=119):
    """The end of an answer of several frames. `next` continues it where `more` is set: a seq, a stream id or a cursor, as
    the request takes it. `head`: the answer contains everything up to this seq, of the account stream for FetchConversations,
    of the stream asked for with FetchHistory; it may contain later events, too. 0: not told."""

    more: bool = False
    next: Number | bytes = 0
    head: Number = 0


class ProfileRow(Struct, array_like=True, frozen=True):
    """A user as one may see them; `profile` empty where it is not shown."""

    user: Id
    name: str
    profile: Profile


class Profiles(Frame, tag=120):
    profiles: tuple[ProfileRow, ...]


class ExportPart(Frame, tag=121):
    """One piece of an export: `name` says what, `data` is the frame that would tell it."""

    name: str
    data: Raw


ServerFrame = (
    Welcome
    | Error
    | Sent
    | Event
    | CaughtUp
    | Heartbeat
    | GoingAway
    | Receipt
    | ReceiptCount
    | MemberTyping
    | Presence
    | Ephemeral
    | Done
    | Opened
    | MessageInfo
    | GroupState
    | MembersPage
    | GroupAdmin
    | AccountState
    | Contacts
    | Conversation
    | HistoryItem
    | Gone
    | PageEnd
    | Profiles
    | ExportPart
)


def number_of(frame: type[Frame] | Frame) -> int:
    """The frame number of a struct or its class."""
    tag: Any = frame.__struct_config__.tag
    assert isinstance(tag, int)
    return tag
