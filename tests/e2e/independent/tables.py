"""The arrays of the protocol, copied by hand from the tables of docs/protocol.md.

One array a line: its number, its name, and its fields behind what all of its sort begin with. `=` gives a default.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

MAX_INT = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of array: `fields` in order, and the defaults of the last ones."""

    number: int
    name: str
    fields: tuple[str, ...]
    defaults: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One array of that kind, by the names of its fields: `record.seq`. `rest`: trailing items of a later protocol."""

    kind: str
    fields: dict[str, Any]
    rest: tuple[Any, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"{self.kind} has no field {name!r}") from None

    def __str__(self) -> str:
        inside = " ".join(f"{key}={_short(value)}" for key, value in self.fields.items() if key != "rid")
        return f"{self.kind}({inside})"


def _short(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)})"


class Table:
    """All arrays of one sort."""

    def __init__(self, common: str, lines: str) -> None:
        self.by_number: dict[int, Shape] = {}
        self.by_name: dict[str, Shape] = {}
        for line in lines.strip().splitlines():
            number, name, *words = line.split()
            fields, defaults = [], {}
            for word in [*common.split(), *words]:
                field, equals, default = word.partition("=")
                fields.append(field)
                if equals:
                    defaults[field] = ast.literal_eval(default)
            self.by_number[int(number)] = self.by_name[name] = Shape(int(number), name, tuple(fields), defaults)

    def read(self, array: list[Any]) -> Record | None:
        """The record of an array; None for a number that is not in the table. Raises ValueError for a short one."""
        shape = self.by_number.get(array[0])
        if shape is None:
            return None
        values = dict(zip(shape.fields, array[1:], strict=False))
        missing = [field for field in shape.fields if field not in values and field not in shape.defaults]
        if missing:
            raise ValueError(f"{shape.name} without {missing}: {array}")
        whole = shape.defaults | values
        return Record(shape.name, {field: whole[field] for field in shape.fields}, tuple(array[1 + len(shape.fields) :]))

    def write(self, name: str, values: dict[str, Any]) -> list[Any]:
        """The array of a record, all defaults written out. Raises TypeError for a field too many or too few."""
        shape = self.by_name[name]
        given = shape.defaults | values
        if set(given) != set(shape.fields):
            raise TypeError(f"{name} takes {shape.fields}, not {tuple(values)}")
        return [shape.number, *(given[field] for field in shape.fields)]


COMMANDS = Table(
    "rid",
    """
    1 Hello lowest_version highest_version credential agent=""
    2 ClientHeartbeat
    3 Ack cursors
    4 Read stream seq
    5 Typing stream on=True
    6 Look stream=b""
    7 WatchPresence add=[] drop=[]
    10 Open user
    11 Send counter stream body reply_to=0 flags=0
    12 Edit counter stream target body
    13 Delete counter stream target
    14 React counter stream target emoji
    15 Forward counter stream source target flags=0
    16 SetTimer counter stream seconds
    17 AcceptRequest counter stream
    18 Info stream target
    20 CreateGroup counter title members=[] description="" picture=""
    21 AddMembers counter stream users
    22 RemoveMember counter stream user ban=False
    23 Leave counter stream
    24 SetRole counter stream user role
    25 SetGroupProfile counter stream title description="" picture=""
    26 SetPermissions counter stream permissions
    27 CreateInvite counter stream uses=0 expires_at=0 approval=False
    28 RevokeInvite counter stream invite
    29 Join counter stream code
    30 AnswerJoin counter stream user accept
    31 Unban counter stream user
    32 FetchGroup stream
    33 FetchMembers stream after=0 limit=256
    34 FetchGroupAdmin stream
    40 SetProfile counter profile
    41 Rename counter name
    42 SetContact counter user on=True label=""
    43 SetBlock counter user on=True
    44 SetPrivacy counter privacy
    45 RenameDevice counter device name
    46 RevokeDevice counter device
    47 SetConversation counter stream pinned=False muted_until=0 archived=False
    48 Clear counter stream upto delete=False
    49 SetDraft counter stream text reply_to=0
    50 Keep counter stream seq starred=False pinned=False
    51 Hide counter stream seqs
    52 ChangePassword counter old new revoke_others=True
    53 Logout
    54 DeleteAccount counter confirmation
    60 FetchAccount
    61 FetchConversations after=b"" limit=100
    62 FetchHistory stream start=0 newest_first=True limit=50
    63 FetchProfiles users
    64 FindUsers prefix limit=20
    65 Export cursor=b""
    """,
)

CREDENTIALS = Table(
    "",
    """
    1 TokenCredential token
    2 PasswordCredential name password request device_name=""
    3 RegisterCredential name password request device_name="" invitation=""
    4 JwtCredential jwt request device_name=""
    5 ResetCredential name code password request device_name=""
    """,
)

ANSWERS = Table(
    "rid",
    """
    96 Welcome version session user device name token heartbeat_s limits time features=[] incarnation=0
    97 Error number symbol text temporary retry_after_ms=0
    98 Sent seq n time
    99 Event stream seq event
    100 CaughtUp
    101 Heartbeat
    102 GoingAway retry_after_ms url=""
    103 Receipt stream user delivered read
    104 ReceiptCount stream seq delivered read
    105 MemberTyping stream user on
    106 Presence user online last_seen=0
    107 Ephemeral stream sender device time body
    108 Done
    109 Opened stream head n timer request_for marks
    110 MessageInfo stream seq delivered read
    111 GroupState stream head n title description picture permissions timer member_count owner role joined marks=[]
    112 MembersPage members more head=0
    113 GroupAdmin invites requests banned head=0
    114 AccountState head user name profile privacy blocked devices
    115 Contacts contacts
    116 Conversation stream head n time unread mentions delivered read member settings last_seq=0 last=None last_fold=None
    117 HistoryItem stream seq event fold=None
    118 Gone stream first last
    119 PageEnd more=False next=0 head=0
    120 Profiles profiles
    121 ExportPart name data
    """,
)

EVENTS = Table(
    "n time sender device counter",
    """
    1 Message body reply_to=0 hops=0 expires_at=0 flags=0
    2 GroupCreated title description picture members
    3 MembersAdded users
    4 MemberRemoved user banned=False
    5 MemberLeft successor=0
    6 RoleChanged user role
    7 GroupProfileChanged title description picture
    8 PermissionsChanged permissions
    9 MemberJoined user invite
    10 TimerChanged seconds
    11 RequestAccepted
    32 Edited target body
    33 Deleted target
    34 Reacted target emoji
    35 InviteCreated invite uses expires_at approval
    36 InviteRevoked invite
    37 JoinRequested invite
    38 JoinRefused user
    39 Unbanned user
    64 ProfileChanged profile
    65 Renamed name
    66 ContactSet user label on
    67 BlockSet user on
    68 PrivacySet privacy
    69 DeviceAdded added name
    70 DeviceRenamed renamed name
    71 DeviceRevoked revoked
    72 ConversationSet stream pinned muted_until archived
    73 Cleared stream upto deleted
    74 DraftSet stream text reply_to=0
    75 Kept stream seq starred pinned
    76 Hidden stream seqs
    77 OwnRead stream seq
    78 Joined stream seq by=0
    79 Parted stream seq by=0
    80 PasswordChanged revoked
    81 TurnedDown stream
    """,
)

ROWS = Table(
    "",
    """
    0 Permissions send=1 add=2 edit=2
    1 Profile display="" about="" picture=""
    2 Privacy last_seen=1 profile=1 receipts=True write=1 requests=True add_to_groups=1
    3 Limits frame body window_events window_bytes commands_per_s burst unanswered group_members subscriptions \
        edit_window_s questions=8
    4 PeerMarks user delivered read
    5 Member user role joined
    6 Invite invite code uses used expires_at approval
    7 DeviceInfo device name created last_seen
    8 Contact user label
    9 Settings pinned=False muted_until=0 archived=False cleared=0 deleted=False draft="" draft_reply_to=0 kept={} hidden=[]
    10 ProfileRow user name profile
    11 Mention user offset length
    12 Fold body=None edited_at=0 edits=[] deleted=False reactions={} changed=0
    """,
)
"""Arrays inside others. They carry no number on the wire; the one here only tells them apart."""


def row(name: str, array: list[Any]) -> Record:
    """An array of `ROWS` by its name."""
    record = ROWS.read([ROWS.by_name[name].number, *array])
    assert record is not None
    return record
