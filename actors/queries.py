"""Questions that the store answers without waking an owner: history, the conversation list, profiles, the account, export.

Each gives encoded frames in order, the last of them a PageEnd where the answer may be of several. They may show what is durable
a moment later than a live device heard of it, never what one may not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from actors.services import Services
from actors.state import account
from auth import names, policy
from protocol import codec, codes, events, ids, messages
from storage import records

T = TypeVar("T")

#: Bytes of the rows of one frame: what stands around them, also in an export, takes less than the rest.
ROWS_BYTES = codec.MAX_MESSAGE - 1024
#: Bytes of the id of a conversation or a group.
_STREAM_BYTES = 15


async def answer(services: Services, user: int, frame: messages.ClientFrame, space: int) -> Sequence[bytes]:
    """The frames that answer a question. `space`: bytes after which a page ends; one item is always on it. codes.Refused,
    storage.errors.StorageError, ids.BadStream."""
    match frame:
        case messages.FetchHistory():
            if ids.kind(frame.stream) is ids.Kind.ACCOUNT:
                raise codes.Refused(codes.NOT_ALLOWED)
            return await _history(services, user, frame, space)
        case messages.FetchConversations():
            return await _conversations(services, user, frame, space)
        case messages.FetchProfiles():
            rows = await _profiles(services, user, frame.users)
            first, *rest = _cut(rows) if rows else [()]
            if rest:
                text = f"only {len(first)} of these profiles fit into one frame; ask for fewer users at once"
                raise codes.Refused(codes.TOO_MANY, text)
            return [codec.encode(messages.Profiles(frame.rid, first))]
        case messages.FindUsers():
            return await _find(services, user, frame)
        case messages.FetchAccount():
            return await _account(services, user, frame)
        case messages.Export():
            return await _export(services, user, frame, space)
        case _:
            raise codes.Refused(codes.NOT_ALLOWED)


async def own_settings(services: Services, user: int, stream: bytes) -> messages.Settings:
    """A user's own view of a conversation, as stored now."""
    key = account.SETTINGS_PREFIX + stream
    part = (await services.store.parts(ids.account_stream(user), key)).get(key)
    return account.decode_settings(part) if part is not None else messages.Settings()


# --- history ----------------------------------------------------------------------------------------------------------


async def _history(services: Services, user: int, frame: messages.FetchHistory, space: int) -> Sequence[bytes]:
    store, stream = services.store, frame.stream
    # The head is asked for before the items: they may be newer than it, never older.
    head, intervals, view = await asyncio.gather(
        store.head(stream), store.memberships(user, stream), own_settings(services, user, stream)
    )
    if not intervals:
        raise codes.Refused(codes.NOT_ALLOWED)
    limit = min(frame.limit, services.page_items)
    now = services.clock()
    newest = frame.newest_first
    position = frame.start or (records.OPEN_END if newest else 1)
    frames: list[bytes] = []
    left, more, reached = limit, False, 0
    gone = _Gone(frame.rid, stream, frames)
    for joined, removed in reversed(intervals) if newest else intervals:
        first = max(joined, view.cleared + 1, 1 if newest else position)
        last = min(removed, position) if newest else removed
        if first > last:
            continue
        if left <= 0 or space <= 0:
            more = True
            break
        page = await store.page(stream, first, last, newest, left, space)
        for item in page.items:
            reached = item.event.seq
            space -= len(item.event.data) + len(item.fold or b"")
            if item.event.seq in view.hidden or _is_gone(item, now):
                gone.add(item.event.seq)
            else:
                gone.flush()
                frames.append(_history_item(frame.rid, stream, await readable(services, stream, item, intervals)))
        left -= len(page.items)
        if page.more:
            more = True
            break
    gone.flush()
    following = (reached - 1 if newest else reached + 1) if more and reached else 0
    # Of what came after a removal not even the number is told.
    frames.append(codec.encode(messages.PageEnd(frame.rid, more, following, min(head, intervals[-1][1]))))
    return frames


class _Gone:
    """Joins runs of items that have nothing to show any more."""

    def __init__(self, rid: int, stream: bytes, frames: list[bytes]) -> None:
        self._rid = rid
        self._stream = stream
        self._frames = frames
        self._seqs: list[int] = []

    def add(self, seq: int) -> None:
        self._seqs.append(seq)

    def flush(self) -> None:
        if self._seqs:
            frame = messages.Gone(self._rid, self._stream, min(self._seqs), max(self._seqs))
            self._frames.append(codec.encode(frame))
            self._seqs.clear()


def _is_gone(item: records.Item, now: int) -> bool:
    """Whether a message has expired, erased by now or not. (One deleted for everyone stays an item: people are shown that there
    was one, and whose.)"""
    return 0 < item.event.expires_at <= now


async def readable(services: Services, stream: bytes, item: records.Item, intervals: Sequence[tuple[int, int]]) -> records.Item:
    """The item as somebody may see it who reads these intervals alone: without what was done to it outside of them.

    An edit outside is left out, and the body is that of the last edit inside. When a reaction was given does not stand in the
    fold, so where the newest change lies beyond the interval of the item itself all reactions are left out."""
    if item.fold is None:
        return item
    fold = events.decode_fold(item.fold)
    seq = item.event.seq
    if any(joined <= seq and fold.changed <= removed for joined, removed in intervals):
        return item
    edits = tuple(edit for edit in fold.edits if any(joined <= edit <= removed for joined, removed in intervals))
    cut = events.Fold(edits=edits, deleted=fold.deleted, changed=edits[-1] if edits else 0)
    if edits and not fold.deleted:
        found = await services.store.item(stream, edits[-1])
        edit = events.decode(found.event.data) if found is not None else None
        if isinstance(edit, events.Edited):
            cut.body, cut.edited_at = edit.body, edit.time
    return records.Item(item.event, events.encode_fold(cut))


def _history_item(rid: int, stream: bytes, item: records.Item) -> bytes:
    fold = msgspec.Raw(item.fold) if item.fold is not None else events.NIL
    return codec.encode(messages.HistoryItem(rid, stream, item.event.seq, msgspec.Raw(item.event.data), fold))


# --- conversation list ------------------------------------------------------------------------------------------------


async def _conversations(services: Services, user: int, frame: messages.FetchConversations, space: int) -> Sequence[bytes]:
    store, now = services.store, services.clock()
    limit = min(frame.limit, services.page_items)
    head = await store.head(ids.account_stream(user))  # before the settings, as in `_history`
    summaries = await store.conversations(user, frame.after, limit + 1)
    shown = summaries[:limit]
    views = await asyncio.gather(*(own_settings(services, user, summary.stream) for summary in shown))
    frames = []
    for index, (summary, view) in enumerate(zip(shown, views, strict=True)):
        if space <= 0:
            shown = shown[:index]
            break
        last = summary.last
        if view.deleted and (last is None or last.event.seq <= view.cleared):
            continue
        if last is not None:
            last = await readable(services, summary.stream, last, summary.intervals)
        unread, mentions = await _unread(services, summary, view)
        row = _row(frame.rid, summary, last, view, now, unread, mentions)
        frames.append(codec.encode(row))
        if len(frames[-1]) > codec.MAX_MESSAGE and last is not None:
            frames[-1] = codec.encode(_row(frame.rid, summary, _shortened(last), view, now, unread, mentions))
        space -= len(frames[-1])
    more = len(summaries) > len(shown)
    following: int | bytes = shown[-1].stream if more else b""
    frames.append(codec.encode(messages.PageEnd(frame.rid, more, following, head)))
    return frames


async def _unread(services: Services, summary: records.Summary, view: messages.Settings) -> tuple[int, int]:
    """Messages, and mentions, beyond what was read, and beyond what was cleared. (Where both lie apart the mentions between
    are not known one by one: there are never more of them than messages.)"""
    read_n = summary.read_n
    if view.cleared > summary.read:
        found = await services.store.range(summary.stream, view.cleared, view.cleared, 1, 1)
        if found:
            read_n = max(read_n, events.decode(found[0].data).n)
    unread = max(summary.n - read_n, 0)
    return unread, min(summary.mentions, unread)


def _shortened(item: records.Item) -> records.Item:
    """An item for a row that would not fit into a frame, with the longest settings beside: without its reactions, and without
    the first body where there is a newer one."""
    fold = events.decode_fold(item.fold or events.encode_fold(events.Fold()))
    event = item.event
    if fold.body != events.NIL:
        event = records.Event(event.seq, event.kind, event.epoch, events.redact(event.data), event.expires_at, event.digest)
    return records.Item(event, events.encode_fold(msgspec.structs.replace(fold, reactions={})))


def _row(
    rid: int,
    summary: records.Summary,
    last: records.Item | None,
    view: messages.Settings,
    now: int,
    unread: int,
    mentions: int,
) -> messages.Conversation:
    if last is not None and (last.event.seq <= view.cleared or last.event.seq in view.hidden or _is_gone(last, now)):
        last = None
    return messages.Conversation(
        rid,
        summary.stream,
        summary.head,
        summary.n,
        summary.time,
        unread,
        mentions,
        summary.delivered,
        summary.read,
        summary.intervals[-1][1] == records.OPEN_END,
        view,
        last.event.seq if last is not None else 0,
        msgspec.Raw(last.event.data) if last is not None else events.NIL,
        msgspec.Raw(last.fold) if last is not None and last.fold is not None else events.NIL,
    )


def _cut(rows: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Rows, as many at a time as fit into one frame."""
    fitting: list[T] = []
    size = 0
    for row in rows:
        length = len(msgspec.msgpack.encode(row))
        if fitting and size + length > ROWS_BYTES:
            yield tuple(fitting)
            fitting, size = [], 0
        fitting.append(row)
        size += length
    if fitting:
        yield tuple(fitting)


# --- people -----------------------------------------------------------------------------------------------------------


async def _profiles(services: Services, viewer: int, users: Sequence[int]) -> list[messages.ProfileRow]:
    found = await asyncio.gather(*(services.people.load(user) for user in dict.fromkeys(users)))
    rows = []
    for user, facts in zip(dict.fromkeys(users), found, strict=True):
        if facts is not None and (viewer not in facts.blocked or viewer == user):
            shown = viewer == user or policy.sees_profile(viewer, facts)
            rows.append(messages.ProfileRow(user, facts.name, facts.profile if shown else events.Profile()))
    return rows


async def _find(services: Services, user: int, frame: messages.FindUsers) -> Sequence[bytes]:
    found = await services.store.find_users(names.search_key(frame.prefix), frame.limit)
    rows = await _profiles(services, user, [each.id for each in found])
    return [codec.encode(messages.Profiles(frame.rid, next(_cut(rows), ())))]


async def _account(services: Services, user: int, frame: messages.FetchAccount) -> Sequence[bytes]:
    store = services.store
    # The head is read first: what the answer shows may be newer, and its event comes again, never older.
    head = await store.head(ids.account_stream(user))
    facts = await services.people.read(user)  # what is at hand may be older than the head by a moment
    devices = await store.devices(user)
    if facts is None:
        raise codes.Refused(codes.NOT_ALLOWED)
    frames = [
        codec.encode(
            messages.AccountState(
                frame.rid,
                head,
                user,
                facts.name,
                facts.profile,
                facts.privacy,
                tuple(sorted(facts.blocked)),
                tuple(messages.DeviceInfo(each.id, each.name, each.created, each.last_seen) for each in devices),
            )
        )
    ]
    labels = account.decode_labels(await store.parts(ids.account_stream(user), account.LABEL_PREFIX))
    contacts = [messages.Contact(contact, labels.get(contact, "")) for contact in sorted(facts.contacts)]
    frames.extend(codec.encode(messages.Contacts(frame.rid, rows)) for rows in _cut(contacts))
    frames.append(codec.encode(messages.PageEnd(frame.rid)))
    return frames


# --- export -----------------------------------------------------------------------------------------------------------


async def _export(services: Services, user: int, frame: messages.Export, space: int) -> Sequence[bytes]:
    """Step one is the account; each further step the user's own messages of one stretch of one conversation.

    A cursor is empty, or the stream id that comes next after its 15 bytes with the seq to go on from behind it."""
    store = services.store
    if not frame.cursor:
        parts = await _account(services, user, messages.FetchAccount(frame.rid))
        frames = [codec.encode(messages.ExportPart(frame.rid, "account", msgspec.Raw(part))) for part in parts[:-1]]
        return [*frames, codec.encode(messages.PageEnd(frame.rid, True, b"\x00"))]
    stream, start = _export_position(frame.cursor)
    if start == 0:
        summaries = await store.conversations(user, stream, 1)
        if not summaries:
            return [codec.encode(messages.PageEnd(frame.rid))]
        stream, start = summaries[0].stream, 1
    intervals = await store.memberships(user, stream)
    if not intervals:
        raise codes.Refused(codes.NOT_ALLOWED)
    page = await store.page(stream, start, intervals[-1][1], False, services.page_items, space)
    now, frames = services.clock(), []
    for item in page.items:
        event = events.decode(item.event.data)
        if event.sender == user and not _is_gone(item, now):
            row = _history_item(0, stream, await readable(services, stream, item, intervals))
            frames.append(codec.encode(messages.ExportPart(frame.rid, "message", msgspec.Raw(row))))
    following = page.items[-1].event.seq + 1 if page.more else 0
    cursor = stream + following.to_bytes(7, "big")
    return [*frames, codec.encode(messages.PageEnd(frame.rid, True, cursor))]


def _export_position(cursor: bytes) -> tuple[bytes, int]:
    """The stream to go on from, and the seq in it (0: it is done). codes.Refused for a cursor that this server did not make."""
    if cursor == b"\x00":
        return b"", 0
    stream, start = cursor[:_STREAM_BYTES], int.from_bytes(cursor[_STREAM_BYTES:], "big")
    if len(cursor) != _STREAM_BYTES + 7 or start > ids.MAX_ID or ids.kind(stream) is ids.Kind.ACCOUNT:
        raise codes.Refused(codes.NOT_ALLOWED)
    return stream, start
