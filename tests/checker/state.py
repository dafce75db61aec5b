"""K10 and K11: what is fetched is what the events say, and nobody reads what is not theirs."""

from __future__ import annotations

from collections.abc import Iterator

from protocol import events, ids
from tests.checker import history, model
from tests.checker.findings import Case, Finding, stream_of_answers


def fetched(case: Case) -> Iterator[Finding]:
    """K10: state before + events = state fetched after. The events are those that a device of the user received, from the first
    one on, so the state before is the empty one."""
    for view in case.seen.views:
        for device in case.seen.devices.values():
            if device.user == view.user and device.present and not device.since.get(view.stream, 0):
                yield from _compare(case, view, device)


def _events(case: Case, device: history.Device, stream: bytes, head: int) -> list[tuple[int, events.AnyEvent]]:
    """What the device was given of a stream, in order of seq: frames, and the events that its own commands became."""
    streams = stream_of_answers(device)
    found: dict[int, bytes] = {}
    for entry in device.entries:
        if isinstance(entry, history.Got) and entry.stream == stream:
            found[entry.seq] = entry.data
        elif isinstance(entry, history.Stored) and streams[entry.counter] == stream:
            row = case.row(stream, entry.seq)
            if row is not None and case.may_read(device.user, stream, entry.seq):
                found.setdefault(entry.seq, row.data)
    return [(seq, events.decode(data)) for seq, data in sorted(found.items()) if seq <= head]


def _compare(case: Case, view: history.View, device: history.Device) -> Iterator[Finding]:
    state = model.State()
    for seq, event in _events(case, device, view.stream, view.head):
        state.apply(seq, event)
    own = case.intervals.get(view.stream, {}).get(view.user, [])
    if not own or own[-1][1] != model.OPEN:
        return
    # What happened to older items while the user was out, no event told: they are compared from the last coming in on.
    since = own[-1][0]
    shown = {seq: (data, events.decode_fold(fold)) for seq, data, fold in view.items if seq >= since}
    for seq, item in state.items.items():
        if seq < since:
            continue
        if seq not in shown:
            if not item.deleted:
                yield Finding("K10", "received, and missing in history", view.stream, seq, device.id)
            continue
        data, fold = shown.pop(seq)
        text = _difference(item, data, fold)
        if text:
            yield Finding("K10", text, view.stream, seq, device.id)
    for seq in shown:
        yield Finding("K10", "in history, and never received", view.stream, seq, device.id)
    if view.group is not None:
        yield from _compare_group(view, state, device)


def _difference(item: model.Item, data: bytes, fold: events.Fold) -> str:
    event = events.decode(data)
    if history.without_body(data) != history.without_body(events.encode(item.event)):
        return "history shows another event than was received"
    if item.deleted != fold.deleted:
        return f"deleted: received {item.deleted}, fetched {fold.deleted}"
    if list(fold.edits) != item.edits or (not item.deleted and fold.edited_at != item.edited_at):
        return f"edits: received {item.edits} at {item.edited_at}, fetched {list(fold.edits)} at {fold.edited_at}"
    if not item.deleted and dict(fold.reactions) != item.reactions:
        return f"reactions: received {item.reactions}, fetched {dict(fold.reactions)}"
    body = bytes(fold.body) if fold.edits else bytes(event.body) if isinstance(event, events.Message) else None
    if not item.deleted and body != item.body:
        return "history shows another body than was received"
    return ""


def _compare_group(view: history.View, state: model.State, device: history.Device) -> Iterator[Finding]:
    group = view.group
    assert group is not None
    known = (state.head, state.n)
    if known != (group.head, group.n):
        yield Finding("K10", f"head and n: received {known}, fetched {(group.head, group.n)}", view.stream, 0, device.id)
    joined = state.roles.get(view.user, (events.Role.MEMBER, 0))[1]
    if joined != group.joined:
        yield Finding("K10", f"joined: received {joined}, fetched {group.joined}", view.stream, 0, device.id)
    if joined != 1:
        return  # who came later was not told who was there, nor the title
    if (state.title, state.timer, state.permissions) != (group.title, group.timer, group.permissions):
        yield Finding("K10", "title, timer or permissions differ from the events", view.stream, 0, device.id)
    members = {member.user: (member.role, member.joined) for member in view.members}
    if members != state.roles:
        yield Finding("K10", f"members: received {state.roles}, fetched {members}", view.stream, 0, device.id)


def accounts(case: Case) -> Iterator[Finding]:
    """K10 of account streams: what a device was told from the first event on makes the account that is fetched."""
    for view in case.seen.accounts:
        stream = ids.account_stream(view.user)
        for device in case.seen.devices.values():
            if device.user == view.user and device.present and not device.since.get(stream, 0):
                told = model.Account(name=view.state.name)
                for _, event in _events(case, device, stream, view.state.head):
                    told.apply(event)
                for text in _account_differences(view, told):
                    yield Finding("K10", text, stream, 0, device.id)


def _account_differences(view: history.Account, told: model.Account) -> Iterator[str]:
    state = view.state
    for what, received, fetched in (
        ("name", told.name, state.name),
        ("profile", told.profile, state.profile),
        ("privacy", told.privacy, state.privacy),
        ("blocked", told.blocked, set(state.blocked)),
        ("devices", told.devices, {each.device for each in state.devices}),
        ("contacts", told.contacts, {each.user: each.label for each in view.contacts}),
    ):
        if received != fetched:
            yield f"{what}: received {received}, fetched {fetched}"
    for row in view.rows:
        if told.of(row.stream) != row.settings:
            yield f"settings of {row.stream.hex()}: received {told.of(row.stream)}, fetched {row.settings}"
        if row.read < told.reads.get(row.stream, 0):
            yield f"said to have read {told.reads[row.stream]} of {row.stream.hex()}, fetched {row.read}"


def inside_intervals(case: Case) -> Iterator[Finding]:
    """K11: nobody is given an event outside their intervals, neither live nor on resume nor in history; and the intervals
    that are stored are those that follow from the events."""
    for device in case.seen.devices.values():
        for entry in device.entries:
            if isinstance(entry, history.Got) and not _allowed(case, device.user, entry.stream, entry.seq):
                yield Finding("K11", f"user {device.user} may not read it", entry.stream, entry.seq, device.id)
    for view in case.seen.views:
        for seq, _, _ in view.items:
            if not _allowed(case, view.user, view.stream, seq):
                yield Finding("K11", f"user {view.user} may not read it, and history shows it", view.stream, seq)
    for (stream, user), stored in case.seen.intervals.items():
        own = tuple(case.intervals.get(stream, {}).get(user, ()))
        if stored != own and ids.kind(stream) is ids.Kind.GROUP:
            yield Finding("K11", f"user {user}: the events say {own}, the store {stored}", stream)


def _allowed(case: Case, user: int, stream: bytes, seq: int) -> bool:
    if stream in case.intervals:
        return case.may_read(user, stream, seq)
    return user in model.intervals(stream, ())  # not among the rows: the kind of stream says it
