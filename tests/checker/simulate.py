"""Histories of a server that keeps every promise, for tests of the checker: random, by seed, with cuts, repeats, refusals, lost
answers, restarts, and people who come and go.
"""

from __future__ import annotations

import random

import msgspec

from protocol import codec, codes, events, ids, messages
from tests.checker import history, model

ASHA, BEN, CARA = 1, 2, 3
#: Devices by user: Asha has two.
DEVICES = {11: ASHA, 12: ASHA, 21: BEN, 31: CARA}
DIRECT = ids.direct_stream(ASHA, BEN)
#: Made by Asha's first device with its first command.
GROUP = ids.group_stream(11, 1)


class Simulation:
    """`seen` is the history. Every step takes one unit of time."""

    def __init__(self, seed: int, steps: int = 250) -> None:
        self.random = random.Random(seed)
        self.seen = history.History(devices={number: history.Device(user, number) for number, user in DEVICES.items()})
        self.now = 0.0
        self.epoch = 1
        self.states: dict[bytes, model.State] = {DIRECT: model.State(), GROUP: model.State()}
        self.rows: dict[bytes, list[history.Row]] = {DIRECT: [], GROUP: []}
        self.intervals = {stream: model.intervals(stream, ()) for stream in self.rows}
        self.online = dict.fromkeys(DEVICES, False)
        self.acked: dict[tuple[int, bytes], int] = {}
        self.sent_to: dict[tuple[int, bytes], int] = {}
        self.counters = dict.fromkeys(DEVICES, 0)
        self.unanswered: dict[int, list[tuple[bytes, int, bytes]]] = {number: [] for number in DEVICES}
        self.marks: dict[tuple[bytes, int], int] = {}
        self.accepted: dict[tuple[int, int], tuple[bytes, int]] = {}
        for number in DEVICES:
            self.connect(number)
        self.ask(11, GROUP, messages.CreateGroup(1, 1, "Verona", (BEN, CARA)), fate="answered")
        for _ in range(steps):
            self.step()
        self.settle()

    # --- steps --------------------------------------------------------------------------------------------------------

    def put(self, device: int, entry: history.Entry) -> None:
        self.seen.devices[device].entries.append(entry)

    def tick(self) -> float:
        self.now += 1
        return self.now

    def step(self) -> None:
        device = self.random.choice(list(DEVICES))
        if not self.online[device]:
            self.connect(device)
            return
        match self.random.randrange(12):
            case 0:
                self.cut(device)
            case 1:
                self.epoch += 1
                for each in DEVICES:
                    if self.online[each]:
                        self.cut(each)
            case 2:
                self.receipts(device)
            case 3 | 4:
                self.ack(device)
            case _:
                self.command(device)

    def connect(self, device: int) -> None:
        self.put(device, history.Connected(self.tick()))
        self.online[device] = True
        for stream in self.rows:
            self.sent_to[device, stream] = self.acked.get((device, stream), 0)
            self.deliver(device, stream)
        for stream, counter, data in list(self.unanswered[device]):
            self.put(device, history.Asked(self.tick(), stream, counter, data))
            self.commit(device, stream, counter, data, "answered")

    def cut(self, device: int) -> None:
        self.put(device, history.Disconnected(self.tick()))
        self.online[device] = False

    def ack(self, device: int) -> None:
        for stream in self.rows:
            reached = self.sent_to.get((device, stream), 0)
            if reached > self.acked.get((device, stream), 0):
                self.acked[device, stream] = reached
                self.put(device, history.Marked(self.tick(), stream, reached))
                key = (stream, DEVICES[device])
                self.marks[key] = max(self.marks.get(key, 0), reached)

    def receipts(self, device: int) -> None:
        for (stream, user), mark in self.marks.items():
            if user != DEVICES[device] and self.may_read(DEVICES[device], stream, len(self.rows[stream])):
                self.put(device, history.Receipt(self.tick(), stream, user, mark, 0))

    def may_read(self, user: int, stream: bytes, seq: int) -> bool:
        return model.may_read(self.intervals[stream].get(user, []), seq)

    def command(self, device: int) -> None:
        stream = self.random.choice([DIRECT, GROUP])
        user = DEVICES[device]
        messages_there = [seq for seq, item in self.states[stream].items.items() if isinstance(item.event, events.Message)]
        self.counters[device] += self.random.randint(1, 3)
        counter = max(self.counters[device], 2)
        self.counters[device] = counter
        body = msgspec.Raw(msgspec.msgpack.encode(events.Text(f"{device} {counter}")))
        target = self.random.choice(messages_there) if messages_there else 1
        other = self.random.choice([BEN, CARA])
        choices: list[messages.Change] = [messages.Send(counter, counter, stream, body)] * 6
        choices += [messages.Edit(counter, counter, stream, target, body), messages.Delete(counter, counter, stream, target)]
        choices += [messages.React(counter, counter, stream, target, self.random.choice(["", "x", "y"]))]
        if stream == GROUP and user == ASHA:
            choices += [messages.AddMembers(counter, counter, stream, (other,))] * 2
            choices += [messages.RemoveMember(counter, counter, stream, other)]
        fate = self.random.choice(["answered"] * 6 + ["answer lost", "lost", "unknown", "refused first"])
        self.ask(device, stream, self.random.choice(choices), fate)

    def ask(self, device: int, stream: bytes, frame: messages.Change, fate: str) -> None:
        data = codec.encode(frame)
        self.counters[device] = max(self.counters[device], frame.counter)
        self.put(device, history.Asked(self.tick(), stream, frame.counter, data))
        self.unanswered[device].append((stream, frame.counter, data))
        if fate == "lost":
            self.cut(device)
        elif fate == "refused first":
            self.put(device, history.Refused(self.tick(), frame.counter, codes.UNAVAILABLE.number))
            self.put(device, history.Asked(self.tick(), stream, frame.counter, data))
            self.commit(device, stream, frame.counter, data, "answered")
        elif fate == "unknown":
            self.commit(device, stream, frame.counter, data, "unknown")
            self.put(device, history.Asked(self.tick(), stream, frame.counter, data))
            self.commit(device, stream, frame.counter, data, "answered")
        else:
            self.commit(device, stream, frame.counter, data, fate)

    # --- the server ---------------------------------------------------------------------------------------------------

    def commit(self, device: int, stream: bytes, counter: int, data: bytes, fate: str) -> None:
        known = self.accepted.get((device, counter))
        if known is None:
            event = self.event(device, stream, codec.decode_client(data))
            if event is None:
                if self.online[device]:
                    self.put(device, history.Refused(self.tick(), counter, codes.NOT_ALLOWED.number))
                    self.forget(device, counter)
                return
            state = self.states[stream]
            seq = state.head + 1
            event.n, event.time = state.n + isinstance(event, events.Message), int(self.tick())
            event.sender, event.device, event.counter = DEVICES[device], device, counter
            if isinstance(event, events.Deleted):
                self.erase(stream, event.target)
            state.apply(seq, event)
            self.rows[stream].append(history.Row(seq, self.epoch, events.encode(event)))
            self.accepted[device, counter] = known = (stream, seq)
            if any(model.moves(event)):
                log = [(row.seq, events.decode(row.data)) for row in self.rows[stream]]
                self.intervals[stream] = model.intervals(stream, log)
        seq = known[1]
        if fate == "answer lost":
            self.cut(device)
        elif fate == "unknown":
            self.put(device, history.Refused(self.tick(), counter, codes.UNKNOWN.number))
        elif self.online[device]:
            event = events.decode(self.rows[stream][seq - 1].data)
            if self.sent_to.get((device, stream), 0) == seq - 1:
                self.sent_to[device, stream] = seq
            self.put(device, history.Stored(self.tick(), counter, seq, event.n, event.time))
            self.forget(device, counter)
        for each in DEVICES:
            if self.online[each]:
                self.deliver(each, stream)

    def forget(self, device: int, counter: int) -> None:
        self.unanswered[device] = [each for each in self.unanswered[device] if each[1] != counter]

    def erase(self, stream: bytes, target: int) -> None:
        rows = self.rows[stream]
        for seq in (target, *self.states[stream].items[target].edits):
            rows[seq - 1] = history.Row(seq, rows[seq - 1].epoch, events.redact(rows[seq - 1].data))

    def event(self, device: int, stream: bytes, frame: messages.ClientFrame) -> events.AnyEvent | None:
        state, user = self.states[stream], DEVICES[device]
        head = events.UNFILLED
        if isinstance(frame, messages.CreateGroup):
            return events.GroupCreated(*head, frame.title, "", "", frame.members)
        if stream == GROUP and user not in state.roles:
            return None
        if isinstance(frame, messages.Send):
            return events.Message(*head, frame.body)
        if isinstance(frame, messages.AddMembers):
            fresh = tuple(each for each in frame.users if each not in state.roles)
            return events.MembersAdded(*head, fresh) if fresh else None
        if isinstance(frame, messages.RemoveMember):
            return events.MemberRemoved(*head, frame.user) if frame.user in state.roles else None
        assert isinstance(frame, messages.Edit | messages.Delete | messages.React)
        item = state.items.get(frame.target)
        if item is None or item.deleted or not self.may_read(user, stream, frame.target):
            return None
        if isinstance(frame, messages.React):
            same = item.reactions.get(user, "") == frame.emoji
            return None if same else events.Reacted(*head, frame.target, frame.emoji)
        if item.event.sender != user:
            return None
        if isinstance(frame, messages.Edit):
            return events.Edited(*head, frame.target, frame.body)
        return events.Deleted(*head, frame.target)

    def deliver(self, device: int, stream: bytes) -> None:
        for row in self.rows[stream][self.sent_to.get((device, stream), 0) :]:
            if self.may_read(DEVICES[device], stream, row.seq):
                event = events.decode(row.data)
                mine = event.device == device and any(each[1] == event.counter for each in self.unanswered[device])
                self.put(device, history.Got(self.tick(), stream, row.seq, row.data))
                if mine:
                    self.put(device, history.Stored(self.tick(), event.counter, row.seq, event.n, event.time))
                    self.forget(device, event.counter)
            self.sent_to[device, stream] = row.seq

    def settle(self) -> None:
        """Everybody comes back and catches up; then all is fetched."""
        for device, online in self.online.items():
            if not online:
                self.connect(device)
            self.ack(device)
        for user in (ASHA, BEN, CARA):
            self.account(user)
        self.seen.converged = self.now
        self.seen.healed = self.now - 1
        self.seen.rows |= {stream: list(rows) for stream, rows in self.rows.items()}
        self.seen.marks = {key: (mark, 0) for key, mark in self.marks.items()}
        for stream in self.rows:
            for user, own in self.intervals[stream].items():
                self.seen.intervals[stream, user] = tuple(own)
                if own[-1][1] == model.OPEN:
                    self.fetch(user, stream)

    def account(self, user: int) -> None:
        """The user's account stream, as all the user's devices got it, and the account as it is fetched."""
        stream = ids.account_stream(user)
        own = [device for device, owner in DEVICES.items() if owner == user]
        other = self.random.choice([each for each in (ASHA, BEN, CARA) if each != user])
        drafts = [events.DraftSet(*events.UNFILLED, GROUP, f"draft {number}") for number in range(2)]
        told: list[events.AnyEvent] = [events.DeviceAdded(*events.UNFILLED, device, "") for device in own]
        told += [events.ContactSet(*events.UNFILLED, other, "a label", True), *drafts]
        told += [events.ConversationSet(*events.UNFILLED, GROUP, True, 0, False), events.OwnRead(*events.UNFILLED, GROUP, 1)]
        account = model.Account(name=f"user {user}")
        rows: list[history.Row] = []
        for seq, event in enumerate(told, start=1):
            event.time, event.sender = int(self.tick()), user
            account.apply(event)
            rows.append(history.Row(seq, self.epoch, events.encode(event)))
            for device in own:
                self.put(device, history.Got(self.tick(), stream, seq, rows[-1].data))
        self.seen.rows[stream] = rows
        devices = tuple(messages.DeviceInfo(device, "", 1, 1) for device in own)
        facts = (len(rows), user, account.name, account.profile, account.privacy, (), devices)
        contacts = tuple(messages.Contact(*each) for each in account.contacts.items())
        row = messages.Conversation(0, GROUP, 1, 0, 0, 0, 0, 1, 1, True, account.of(GROUP))
        self.seen.accounts.append(history.Account(user, messages.AccountState(0, *facts), contacts, (row,)))

    def fetch(self, user: int, stream: bytes) -> None:
        state = self.states[stream]
        items = []
        for seq, item in state.items.items():
            if not item.deleted and self.may_read(user, stream, seq):
                body = msgspec.Raw(item.body) if item.edits and item.body else events.NIL
                fold = events.Fold(body, item.edited_at, tuple(item.edits), False, item.reactions)
                items.append((seq, self.rows[stream][seq - 1].data, events.encode_fold(fold)))
        group = None
        members: tuple[messages.Member, ...] = ()
        if stream == GROUP:
            members = tuple(messages.Member(each, role, joined) for each, (role, joined) in state.roles.items())
            role, joined = state.roles[user]
            facts = (state.title, "", "", state.permissions, state.timer, len(members), ASHA, role, joined)
            group = messages.GroupState(0, stream, state.head, state.n, *facts)
        self.seen.views.append(history.View(user, stream, state.head, tuple(items), group, members))
