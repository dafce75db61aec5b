"""A server in memory that keeps the delivery contract, and nothing else: what the client is tested against.

It is synchronous and has no clock: frames go in, frames come out of each `Link`. A test cuts links, loses what stands in
`Link.out`, and plants refusals with `refuse`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from client import own
from protocol import codec, codes, connection, events, ids, messages

LIMITS = messages.Limits(
    frame=65536,
    body=16384,
    window_events=256,
    window_bytes=262144,
    commands_per_s=0,
    burst=0,
    unanswered=64,
    group_members=1024,
    subscriptions=256,
    edit_window_s=900,
)


@dataclass
class Log:
    """One stream. `answers`: (device, counter) -> (seq, bytes of the command), the last 64 of each device."""

    entries: list[bytes] = field(default_factory=list)
    n: int = 0
    answers: dict[int, dict[int, tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(dict))
    joined: dict[int, int] = field(default_factory=dict)  # user -> first seq that the user may read


@dataclass
class Link:
    """One connection. `out`: what the server has said and the network has not delivered yet. `behind`: the device is not
    offered events as they commit, only answers; `offered` says how far it is in each stream."""

    server: Server
    out: list[bytes] = field(default_factory=list)
    user: int = 0
    device: int = 0
    open: bool = True
    closed: codes.Close | None = None
    received: list[messages.ClientFrame] = field(default_factory=list)
    behind: bool = False
    offered: dict[bytes, int] = field(default_factory=dict)

    def say(self, frame: messages.Frame) -> None:
        if self.open:
            self.out.append(codec.encode(frame))

    def receive(self, data: bytes) -> None:
        """One WebSocket message of the client."""
        assert len(data) <= codec.MAX_MESSAGE
        for part in codec.split(data) if codec.is_batch(data) else [msgspec.Raw(data)]:
            raw = bytes(part)
            frame = codec.decode_client(raw)
            self.received.append(frame)
            self.server.command(self, frame, raw)

    def close(self, reason: codes.Close) -> None:
        self.closed = reason
        self.cut()

    def read_on(self) -> None:
        """The device is live again: it gets what it lacks, own events among it, from the log."""
        self.behind = False
        for stream in list(self.server.logs):
            self.server.offer(self, stream)

    def cut(self) -> None:
        """The connection is over, for the server too."""
        self.open = False
        self.server.links.discard(id(self))
        self.server.by_id.pop(id(self), None)


class Server:
    def __init__(self, limits: messages.Limits = LIMITS) -> None:
        self.limits = limits
        self.time = 1_000_000
        self.links: set[int] = set()
        self.by_id: dict[int, Link] = {}
        self.logs: dict[bytes, Log] = defaultdict(Log)
        self.users: dict[str, tuple[int, str]] = {}
        self.devices: dict[bytes, tuple[int, int, str]] = {}  # token -> user, device, name
        self.requests: dict[bytes, bytes] = {}  # request of a log-in -> token
        self.cursors: dict[tuple[int, bytes], int] = {}
        self.refuse: list[codes.Refused] = []  # answers to the next commands, instead of carrying them out
        self.heartbeat_s = 25

    def connect(self) -> Link:
        link = Link(self)
        self.links.add(id(link))
        self.by_id[id(link)] = link
        return link

    def command(self, link: Link, frame: messages.ClientFrame, raw: bytes) -> None:
        if not link.open:
            return
        if isinstance(frame, messages.Hello):
            self._hello(link, frame)
        elif isinstance(frame, messages.Ack):
            for stream, seq in frame.cursors:
                assert seq <= len(self.logs[stream].entries), "acknowledged what was never said"
                key = (link.device, stream)
                self.cursors[key] = max(self.cursors.get(key, 0), seq)
        elif isinstance(frame, messages.ClientHeartbeat | messages.Typing | messages.Look):
            pass
        elif self.refuse:
            link.say(connection.error_frame(frame.rid, self.refuse.pop(0)))
        elif isinstance(frame, messages.Change):
            self._change(link, frame, raw)
        elif type(frame) in _ANSWERS:
            _ANSWERS[type(frame)](self, link, frame)
        elif isinstance(frame, messages.Logout):
            self.devices = {token: who for token, who in self.devices.items() if who[1] != link.device}
            link.close(codes.REVOKED)
        else:
            link.say(messages.Done(frame.rid))

    # --- who is it ----------------------------------------------------------------------------------------------------

    def _hello(self, link: Link, hello: messages.Hello) -> None:
        credential = hello.credential
        token = b""
        if isinstance(credential, messages.TokenCredential):
            token = credential.token
        elif isinstance(credential, messages.RegisterCredential | messages.PasswordCredential):
            token = self.requests.get(credential.request, b"") or self._device(link, hello.rid, credential)
        if token not in self.devices:
            if link.open and not link.out:
                link.say(connection.error_frame(hello.rid, codes.Refused(codes.BAD_CREDENTIALS)))
            link.close(codes.REFUSED)
            return
        link.user, link.device, name = self.devices[token]
        new = b"" if isinstance(credential, messages.TokenCredential) else token
        link.say(
            messages.Welcome(
                hello.rid, 1, b"session", link.user, link.device, name, new, self.heartbeat_s, self.limits, self.time
            )
        )
        for stream in self.logs:
            link.offered[stream] = self.cursors.get((link.device, stream), 0)
            self.offer(link, stream)
        link.say(messages.CaughtUp(0))

    def _device(self, link: Link, rid: int, credential: messages.RegisterCredential | messages.PasswordCredential) -> bytes:
        if isinstance(credential, messages.RegisterCredential):
            if credential.name in self.users:
                link.say(connection.error_frame(rid, codes.Refused(codes.NAME_TAKEN)))
                return b""
            user = len(self.users) + 1
            self.users[credential.name] = (user, credential.password)
            self.logs[ids.account_stream(user)].joined[user] = 1
        user, password = self.users.get(credential.name, (0, ""))
        if password != credential.password:
            return b""
        device = 1001 + len(self.requests)
        token = b"token-of-device-" + str(device).encode()
        self.devices[token] = (user, device, credential.name)
        self.requests[credential.request] = token
        for stream, log in self.logs.items():
            if user in log.joined:
                self.cursors[device, stream] = len(log.entries)
        return token

    # --- streams ------------------------------------------------------------------------------------------------------

    def _change(self, link: Link, frame: messages.Change, raw: bytes) -> None:
        if isinstance(frame, messages.Send) and frame.flags & events.Flag.EPHEMERAL:
            link.say(messages.Done(frame.rid))
            return
        stream = own.stream_of(frame, link.user, link.device)
        log = self.logs[stream]
        answers = log.answers[link.device]
        if frame.counter in answers:
            seq, before = answers[frame.counter]
            if before != raw:
                link.say(connection.error_frame(frame.rid, codes.Refused(codes.COUNTER_REUSED)))
                return
            event = events.decode(log.entries[seq - 1])
            link.say(messages.Sent(frame.rid, seq, event.n, event.time))
            return
        if len(answers) >= 64 and frame.counter < min(answers):
            link.say(connection.error_frame(frame.rid, codes.Refused(codes.ALREADY)))
            return
        event = self._event_of(stream, log, frame, link)
        seq = len(log.entries)
        answers[frame.counter] = (seq, raw)
        if len(answers) > 64:
            del answers[min(answers)]
        link.say(messages.Sent(frame.rid, seq, event.n, event.time))
        if not link.behind and link.user in log.joined:
            link.offered[stream] = seq
        for other in self.by_id.values():
            if other is not link and other.user:
                self.offer(other, stream)

    def _event_of(self, stream: bytes, log: Log, frame: messages.Change, link: Link) -> events.AnyEvent:
        """Append the event that the command becomes."""
        if ids.kind(stream) is ids.Kind.DIRECT:
            log.joined |= dict.fromkeys(ids.parties(stream), 1)
        self.time += 1
        log.n += isinstance(frame, messages.Send | messages.Forward)
        sent = messages.Sent(0, 0, log.n, self.time)
        mine = own.event_of(frame, sent, link.user, link.device)
        assert mine is not None
        event = mine.event
        if isinstance(frame, messages.Forward):
            source = events.decode(self.logs[frame.source].entries[frame.target - 1])
            assert isinstance(source, events.Message)
            assert isinstance(event, events.Message)
            event.body, event.hops = source.body, source.hops + 1
        log.entries.append(events.encode(event))
        members = event.members if isinstance(event, events.GroupCreated) else ()
        members += event.users if isinstance(event, events.MembersAdded) else ()
        for user in (*members, link.user):
            log.joined.setdefault(user, len(log.entries))
        return event

    def append(self, stream: bytes, event: events.AnyEvent) -> None:
        """An event that no connected device caused."""
        log = self.logs[stream]
        log.n = event.n
        log.entries.append(events.encode(event))
        if ids.kind(stream) is ids.Kind.DIRECT:
            log.joined |= dict.fromkeys(ids.parties(stream), 1)
        for link in list(self.by_id.values()):
            self.offer(link, stream)

    def offer(self, link: Link, stream: bytes) -> None:
        """Bring a device to the head of a stream that its user may read."""
        log = self.logs[stream]
        joined = log.joined.get(link.user)
        if joined is None or link.behind:
            return
        first = max(link.offered.get(stream, 0) + 1, joined)
        for seq in range(first, len(log.entries) + 1):
            link.say(messages.Event(0, stream, seq, msgspec.Raw(log.entries[seq - 1])))
        link.offered[stream] = len(log.entries)

    # --- questions ----------------------------------------------------------------------------------------------------

    def _open(self, link: Link, frame: messages.Open) -> None:
        stream = ids.direct_stream(link.user, frame.user)
        log = self.logs[stream]
        link.say(messages.Opened(frame.rid, stream, len(log.entries), log.n, 0, 0, ()))

    def _history(self, link: Link, frame: messages.FetchHistory) -> None:
        log = self.logs[frame.stream]
        if link.user not in log.joined:
            link.say(connection.error_frame(frame.rid, codes.Refused(codes.NOT_ALLOWED)))
            return
        last = len(log.entries)
        start = frame.start or last
        seqs = range(start, 0, -1) if frame.newest_first else range(start, last + 1)
        page = seqs[: frame.limit]
        for seq in page:
            event, fold = self._item(log, seq)
            if fold.deleted:
                link.say(messages.Gone(frame.rid, frame.stream, seq, seq))
            elif events.kind_of(event) < 32:
                raw = msgspec.Raw(log.entries[seq - 1]), msgspec.Raw(events.encode_fold(fold))
                link.say(messages.HistoryItem(frame.rid, frame.stream, seq, *raw))
        more = len(seqs) > len(page)
        link.say(messages.PageEnd(frame.rid, more, seqs[frame.limit] if more else 0))

    @staticmethod
    def _item(log: Log, seq: int) -> tuple[events.AnyEvent, events.Fold]:
        """An item in its current state."""
        fold = events.Fold()
        for at, raw in enumerate(log.entries[seq:], seq + 1):
            event = events.decode(raw)
            if isinstance(event, events.Edited) and event.target == seq:
                fold.body, fold.edited_at, fold.edits = event.body, event.time, (*fold.edits, at)
            elif isinstance(event, events.Deleted) and event.target == seq:
                fold = events.Fold(edits=fold.edits, deleted=True)
            elif isinstance(event, events.Reacted) and event.target == seq:
                fold.reactions[event.sender] = event.emoji
        return events.decode(log.entries[seq - 1]), fold

    def _account(self, link: Link, frame: messages.FetchAccount) -> None:
        head = len(self.logs[ids.account_stream(link.user)].entries)
        devices = tuple(messages.DeviceInfo(d, "", 1, 2) for user, d, _ in self.devices.values() if user == link.user)
        name = self._name(link.user)
        link.say(messages.AccountState(frame.rid, head, link.user, name, events.Profile(), events.Privacy(), (), devices))
        link.say(messages.PageEnd(frame.rid))

    def _conversations(self, link: Link, frame: messages.FetchConversations) -> None:
        for stream, log in sorted(self.logs.items()):
            if stream[0] != ids.Kind.ACCOUNT and link.user in log.joined and log.entries and stream > frame.after:
                newest = events.decode(log.entries[-1])
                row = (len(log.entries), log.n, newest.time, 0, 0, 0, 0, True, messages.Settings())
                link.say(messages.Conversation(frame.rid, stream, *row))
        link.say(messages.PageEnd(frame.rid))

    def _name(self, user: int) -> str:
        return next(name for name, (number, _) in self.users.items() if number == user)

    def _rows(self, users: list[int]) -> tuple[messages.ProfileRow, ...]:
        return tuple(messages.ProfileRow(user, self._name(user), events.Profile()) for user in users)

    def _profiles(self, link: Link, frame: messages.FetchProfiles) -> None:
        link.say(messages.Profiles(frame.rid, self._rows(list(frame.users))))

    def _find(self, link: Link, frame: messages.FindUsers) -> None:
        found = [user for name, (user, _) in sorted(self.users.items()) if name.startswith(frame.prefix)]
        link.say(messages.Profiles(frame.rid, self._rows(found)))

    def _members(self, stream: bytes) -> list[messages.Member]:
        """Who was ever let in; the maker owns the group."""
        log = self.logs[stream]
        owner = events.decode(log.entries[0]).sender
        return [
            messages.Member(user, events.Role.OWNER if user == owner else events.Role.MEMBER, joined)
            for user, joined in sorted(log.joined.items())
        ]

    def _group(self, link: Link, frame: messages.FetchGroup) -> None:
        log = self.logs[frame.stream]
        made = events.decode(log.entries[0])
        assert isinstance(made, events.GroupCreated)
        members = self._members(frame.stream)
        role = next(member.role for member in members if member.user == link.user)
        link.say(
            messages.GroupState(
                frame.rid,
                frame.stream,
                len(log.entries),
                log.n,
                made.title,
                made.description,
                made.picture,
                events.Permissions(),
                0,
                len(members),
                made.sender,
                role,
                log.joined[link.user],
            )
        )

    def _members_page(self, link: Link, frame: messages.FetchMembers) -> None:
        link.say(messages.MembersPage(frame.rid, tuple(self._members(frame.stream)), False))

    def _admin(self, link: Link, frame: messages.FetchGroupAdmin) -> None:
        link.say(messages.GroupAdmin(frame.rid, (), (), ()))

    def _info(self, link: Link, frame: messages.Info) -> None:
        link.say(messages.MessageInfo(frame.rid, frame.stream, frame.target, (), ()))


_ANSWERS: dict[type, Callable[[Server, Link, Any], None]] = {
    messages.Open: Server._open,
    messages.FetchHistory: Server._history,
    messages.FetchAccount: Server._account,
    messages.FetchConversations: Server._conversations,
    messages.FetchProfiles: Server._profiles,
    messages.FindUsers: Server._find,
    messages.FetchGroup: Server._group,
    messages.FetchMembers: Server._members_page,
    messages.FetchGroupAdmin: Server._admin,
    messages.Info: Server._info,
}
