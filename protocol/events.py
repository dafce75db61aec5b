"""Events: what a stream consists of, exactly as stored and as relayed to every reader.

An event is a msgpack array. Item 0 is its kind; then come, for every kind,

    n        number of messages in the stream up to and including this event
    time     server time in ms, never going back within a stream
    sender   user id of who caused it
    device   device id that sent the command (0: the server itself)
    counter  the command's counter on that device

and what the kind adds. Unknown trailing items are ignored, unknown kinds are kept and skipped by a reader.
Kinds below 32 are items of a history page; kinds from 32 change an item or the stream; kinds from 64 occur in account
streams alone.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

Id = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**53 - 1)]
StreamId = Annotated[bytes, Meta(min_length=8, max_length=15)]
Seq = Annotated[int, Meta(ge=1, le=2**53 - 1)]
#: A reaction: one emoji, which may be a sequence of several code points; "" takes the reaction back.
Emoji = Annotated[str, Meta(max_length=16)]
Title = Annotated[str, Meta(min_length=1, max_length=100)]
Description = Annotated[str, Meta(max_length=512)]
#: A reference to a stored picture; opaque to the messaging core.
Picture = Annotated[str, Meta(max_length=128)]


class Role(IntEnum):
    MEMBER = 1
    ADMIN = 2
    OWNER = 3


class Flag(IntEnum):
    """Bits of a message's flags. EPHEMERAL is never stored, so it occurs in commands alone; REQUEST is set by the server on
    a message request, so it occurs in events alone."""

    URGENT = 1
    SILENT = 2
    EPHEMERAL = 4
    REQUEST = 8


class Audience(IntEnum):
    """Who is meant by one cell of the privacy matrix."""

    EVERYONE = 1
    CONTACTS = 2
    NOBODY = 3


class Privacy(Struct, array_like=True, frozen=True):
    """The privacy matrix. `requests`: who is not in the audience of `write` may send a message request instead."""

    last_seen: Audience = Audience.EVERYONE
    profile: Audience = Audience.EVERYONE
    receipts: bool = True
    write: Audience = Audience.EVERYONE
    requests: bool = True
    add_to_groups: Audience = Audience.EVERYONE


class Permissions(Struct, array_like=True, frozen=True):
    """The lowest role that may do each thing in a group."""

    send: Role = Role.MEMBER
    add: Role = Role.ADMIN
    edit: Role = Role.ADMIN


class Profile(Struct, array_like=True, frozen=True):
    """What a user shows of themselves besides the unique name."""

    display: Annotated[str, Meta(max_length=64)] = ""
    about: Annotated[str, Meta(max_length=256)] = ""
    picture: Picture = ""


# --- bodies -----------------------------------------------------------------------------------------------------------


class Mention(Struct, array_like=True, frozen=True):
    """`user` is named at `offset`, `length` (both in bytes of UTF-8) of the text."""

    user: Id
    offset: Number
    length: Annotated[int, Meta(ge=1, le=16384)]


class Text(Struct, array_like=True, frozen=True, tag=1):
    """Plain text, with the members it mentions."""

    text: Annotated[str, Meta(max_length=16384)]
    mentions: Annotated[tuple[Mention, ...], Meta(max_length=64)] = ()


class Media(Struct, array_like=True, frozen=True, tag=2):
    """A reference to stored media, with a caption."""

    media: Annotated[bytes, Meta(min_length=1, max_length=64)]
    caption: Annotated[str, Meta(max_length=4096)] = ""
    mentions: Annotated[tuple[Mention, ...], Meta(max_length=64)] = ()


class Encrypted(Struct, array_like=True, frozen=True, tag=3):
    """Opaque to the server."""

    ciphertext: Annotated[bytes, Meta(min_length=1, max_length=16384)]


Body = Text | Media | Encrypted


# --- every event ------------------------------------------------------------------------------------------------------


class Event(Struct, array_like=True):
    """What all kinds have in common."""

    n: Number
    time: Number
    sender: Number
    device: Number
    counter: Number


#: What stands in an event's head (n, time, sender, device, counter) until a log accepts the event and fills it in.
UNFILLED = (0, 0, 0, 0, 0)


class Message(Event, tag=1):
    """A message. `body` is the sender's own bytes (see Body), nil once erased. `reply_to` is a seq or 0. `hops` counts
    forwards. `expires_at` is 0 or the time from which the message is gone."""

    body: Raw
    reply_to: Number = 0
    hops: Number = 0
    expires_at: Number = 0
    flags: Number = 0


class GroupCreated(Event, tag=2):
    """The first event of a group; `members` besides the sender, who is the owner."""

    title: str
    description: str
    picture: str
    members: tuple[int, ...]


class MembersAdded(Event, tag=3):
    users: tuple[int, ...]


class MemberRemoved(Event, tag=4):
    """`user` was removed by the sender; `banned`: and may not come back until unbanned."""

    user: Id
    banned: bool = False


class MemberLeft(Event, tag=5):
    """The sender left. `successor` is the new owner, if the owner left and somebody is there to follow; else 0."""

    successor: Number = 0


class RoleChanged(Event, tag=6):
    """`user` has `role` now. OWNER: the sender handed the group over and is an admin now."""

    user: Id
    role: Role


class GroupProfileChanged(Event, tag=7):
    title: str
    description: str
    picture: str


class PermissionsChanged(Event, tag=8):
    permissions: Permissions


class MemberJoined(Event, tag=9):
    """`user` came by invite link, or the sender let `user` in, who had asked."""

    user: Id
    invite: Number


class TimerChanged(Event, tag=10):
    """Messages sent from now on expire after `seconds`; 0: never."""

    seconds: Number


class RequestAccepted(Event, tag=11):
    """The sender accepted the other's message request (answering with a message accepts as well)."""


class Edited(Event, tag=32):
    """The message at `target` has a new body; nil once erased."""

    target: Seq
    body: Raw


class Deleted(Event, tag=33):
    """The message at `target` is deleted for everyone; its body is erased, and those of its edits."""

    target: Seq


class Reacted(Event, tag=34):
    """The sender's one reaction to `target` is `emoji` now; "" takes it back."""

    target: Seq
    emoji: Emoji


class InviteCreated(Event, tag=35):
    """An invite link exists. `uses` 0: any number. `expires_at` 0: never. `approval`: joiners ask first."""

    invite: Id
    uses: Number
    expires_at: Number
    approval: bool


class InviteRevoked(Event, tag=36):
    invite: Id


class JoinRequested(Event, tag=37):
    """The sender, no member, asks to be let in."""

    invite: Id


class JoinRefused(Event, tag=38):
    user: Id


class Unbanned(Event, tag=39):
    user: Id


# --- account streams --------------------------------------------------------------------------------------------------


class ProfileChanged(Event, tag=64):
    profile: Profile


class Renamed(Event, tag=65):
    name: str


class ContactSet(Event, tag=66):
    """`user` is (or is no longer) a contact, under a label of one's own."""

    user: Id
    label: str
    on: bool


class BlockSet(Event, tag=67):
    user: Id
    on: bool


class PrivacySet(Event, tag=68):
    privacy: Privacy


class DeviceAdded(Event, tag=69):
    added: Id
    name: str


class DeviceRenamed(Event, tag=70):
    renamed: Id
    name: str


class DeviceRevoked(Event, tag=71):
    revoked: Id


class ConversationSet(Event, tag=72):
    """The user's own settings of one conversation. `muted_until`: 0 not muted, 2**53-1 for ever."""

    stream: StreamId
    pinned: bool
    muted_until: Number
    archived: bool


class Cleared(Event, tag=73):
    """All up to `upto` is hidden from this user; `deleted`: and the conversation leaves the list until something new comes."""

    stream: StreamId
    upto: Number
    deleted: bool


class DraftSet(Event, tag=74):
    """An unsent text; "" removes it."""

    stream: StreamId
    text: str
    reply_to: Number = 0


class Kept(Event, tag=75):
    """A message starred and / or pinned by this user; neither: no longer."""

    stream: StreamId
    seq: Seq
    starred: bool
    pinned: bool


class Hidden(Event, tag=76):
    """Deleted for me."""

    stream: StreamId
    seqs: tuple[int, ...]


class OwnRead(Event, tag=77):
    """This user has read up to `seq`."""

    stream: StreamId
    seq: Seq


class Joined(Event, tag=78):
    """This user is a member of a group from `seq` on; `by` let them in (oneself: made the group, or came by a link)."""

    stream: StreamId
    seq: Seq
    by: Number = 0


class Parted(Event, tag=79):
    """This user is no longer a member of a group after `seq`; `by` removed them (oneself: left)."""

    stream: StreamId
    seq: Seq
    by: Number = 0


class TurnedDown(Event, tag=81):
    """This user's wish to join a group was refused."""

    stream: StreamId


class PasswordChanged(Event, tag=80):
    """The password was changed or reset; other devices were logged out if `revoked`."""

    revoked: bool


AnyEvent = (
    Message
    | GroupCreated
    | MembersAdded
    | MemberRemoved
    | MemberLeft
    | RoleChanged
    | GroupProfileChanged
    | PermissionsChanged
    | MemberJoined
    | TimerChanged
    | RequestAccepted
    | Edited
    | Deleted
    | Reacted
    | InviteCreated
    | InviteRevoked
    | JoinRequested
    | JoinRefused
    | Unbanned
    | ProfileChanged
    | Renamed
    | ContactSet
    | BlockSet
    | PrivacySet
    | DeviceAdded
    | DeviceRenamed
    | DeviceRevoked
    | ConversationSet
    | Cleared
    | DraftSet
    | Kept
    | Hidden
    | OwnRead
    | Joined
    | Parted
    | PasswordChanged
    | TurnedDown
)


class Fold(Struct, array_like=True):
    """The current state of one item, beyond the event itself.

    `body` replaces the message's body after an edit (nil: not edited). `edits` are the seqs of its edits, oldest first.
    `reactions` maps user to emoji, as pairs in order of first reaction. `changed` is the seq of the newest event in here."""

    body: Raw = Raw(b"\xc0")
    edited_at: Number = 0
    edits: tuple[int, ...] = ()
    deleted: bool = False
    reactions: dict[int, str] = msgspec.field(default_factory=dict)
    changed: Number = 0


NIL = Raw(b"\xc0")
#: The kind of messages, which alone count in `n`.
MESSAGE = 1

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(AnyEvent)
_fold_decoder = msgspec.msgpack.Decoder(Fold)
_body_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Body)

KINDS: dict[int, type[Event]] = {kind.__struct_config__.tag: kind for kind in AnyEvent.__args__}


def kind_of(event: Event) -> int:
    """The kind number of an event."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def encode(event: Event) -> bytes:
    """Event -> the bytes that are stored and relayed."""
    return _encoder.encode(event)


def decode(data: bytes | Raw) -> AnyEvent:
    """Stored bytes -> event. msgspec.ValidationError for a kind that this program does not know."""
    event: AnyEvent = _decoder.decode(data)
    return event


def encode_fold(fold: Fold) -> bytes:
    return _encoder.encode(fold)


def decode_fold(data: bytes | Raw) -> Fold:
    return _fold_decoder.decode(data)


def decode_body(body: bytes | Raw) -> Body:
    """A body's bytes -> its typed form; msgspec.ValidationError or RecursionError when it is not one."""
    try:
        decoded: Body = _body_decoder.decode(body)
    except UnicodeDecodeError:
        raise msgspec.ValidationError("text that is not UTF-8") from None
    return decoded


def redact(data: bytes) -> bytes:
    """The same event without its body: the form that erasure leaves behind. Idempotent.

    Of an account's event goes what tells of the person: names, texts, and whom they know (they stand for themselves then)."""
    event = decode(data)
    match event:
        case Message() | Edited():
            event.body = NIL
        case ProfileChanged():
            event.profile = Profile()
        case Renamed() | DeviceAdded() | DeviceRenamed():
            event.name = ""
        case ContactSet():
            event.user, event.label, event.on = max(event.sender, 1), "", False
        case BlockSet():
            event.user, event.on = max(event.sender, 1), False
        case DraftSet():
            event.text, event.reply_to = "", 0
    return encode(event)
