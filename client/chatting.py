"""The terminal chat without its terminal: keeps the view true as updates come, and does what the person wants.

Everything about the protocol is the client library's; this looks up names, loads pages, says what was read, and puts answers
and refusals into words.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from client import errors, wording
from client.client import Client
from client.state import State
from client.streams import Member
from client.updates import Connected, Disconnected, NotKept, StreamEvent, StreamGone, Update
from client.view import View, Waiting
from protocol import events, ids, messages

#: Items of one page of history: more than fits a large terminal.
PAGE = 100
#: Users asked for by name at once (`messages.FetchProfiles`).
NAMES = 256
#: Seconds between two typing notices while somebody types; they are forgotten after 6 s.
TYPING_EVERY_S = 3.0


@dataclass(slots=True, frozen=True)
class Question:
    """Something the person is asked, and answers unseen."""

    text: str
    answer: asyncio.Future[str]


class Chat:
    """`changed` is called when something on the screen may be different. `clock`: monotonic seconds. `question`: what the next
    line answers. `left`: the person wanted this device to be logged out."""

    def __init__(
        self, client: Client, changed: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.client = client
        self.state = State(client.identity.user)
        self.view = View(self.state)
        self.changed = changed
        self.over: asyncio.Event = asyncio.Event()
        self.question: Question | None = None
        self.left = False
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._loaded: set[bytes] = set()  # streams whose newest page was fetched on this connection
        self._oldest: dict[bytes, int] = {}  # stream -> where the next older page begins; 0: there is none
        self._paging: set[int] = set()
        self._watched: set[int] = set()
        self._asked: set[int] = set()
        self._reading: set[bytes] = set()
        self._typed_at = float("-inf")

    # --- updates ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the client until it ends; says why in the status line."""
        try:
            async for update in self.client.updates():
                self.take(update)
        except Exception as error:
            self.view.connection = "over"
            self.say("This device is logged out" if self.client.revoked else wording.failure(error))
        finally:
            self.over.set()

    def take(self, update: Update) -> None:
        """One update of the client into the view."""
        view = self.view
        match update:
            case StreamEvent() | StreamGone():
                self.state.apply(update)
                if isinstance(update, StreamEvent):
                    self._event(update)
            case Connected():
                self.state.user = self.client.identity.user
                view.connection = "online"
                self._loaded.clear()
                self._do(self._load())
            case Disconnected():
                view.connection = "offline"
                view.reason, view.again_at = update.reason, self._clock() + update.retry_in_s
                view.presence.clear()
            case NotKept():
                self.say(f"This device cannot be saved ({update.reason}): what you send waits")
            case messages.Receipt():
                self.state.heard(update)
            case messages.ReceiptCount():
                view.counts[update.stream] = update
            case messages.MemberTyping():
                view.typed(update, self._clock())
            case messages.Presence():
                view.presence[update.user] = update
        self.refresh()

    def _event(self, update: StreamEvent) -> None:
        event = update.event
        if isinstance(event, events.Message):
            self.view.typing.get(update.stream, {}).pop(event.sender, None)
            if update.stream != self.view.selected:
                return
            self.view.scroll = 0 if event.sender == self.state.user else self.view.scroll

    def refresh(self) -> None:
        """Something changed: look up what is missing for it, and draw."""
        selected = self.view.selected
        if self.view.connection == "online":
            self._watch()
        if selected and self.view.connection == "online":
            found = self.state.stream(selected)
            if found.stale or (selected not in self._loaded and found.head):
                found.stale = False
                self._loaded.add(selected)
                self._do(self._load_stream(selected))
            self._read(selected)
        unknown = self.view.strangers() - self._asked
        if unknown and self.view.connection == "online":
            self._asked |= unknown
            self._do(self._look_up(unknown))
        self.changed()

    def _watch(self) -> None:
        """Follow who is on the list, as far as the server lets one follow."""
        limits = self.client.limits
        room = (limits.subscriptions if limits is not None else 0) - len(self._watched)
        others = {self.view.other(s) for s in self.state.streams if s[0] == ids.Kind.DIRECT} - {self.state.user}
        new = sorted(others - self._watched)[: max(room, 0)]
        if new:
            self._watched.update(new)
            self._do(self.client.watch(new))

    def _read(self, stream: bytes) -> None:
        """What is on the screen is read."""
        found = self.state.stream(stream)
        if found.unread and found.member and not self.view.scroll and stream not in self._reading and not self.view.panel:
            self._reading.add(stream)
            self._do(self._tell_read(stream, found.head))

    async def _tell_read(self, stream: bytes, seq: int) -> None:
        try:
            await self.client.read(stream, seq)
            found = self.state.stream(stream)
            if seq >= found.head:
                found.read, found.unread, found.mentions = seq, 0, 0
        finally:
            self._reading.discard(stream)

    # --- loading ------------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        account = await self.client.account()
        while not self.state.load_account(account.state, account.contacts):
            account = await self.client.account()
        after, more = b"", True
        while more:
            page = await self.client.conversations(after)
            for row in page.conversations:
                self.state.load_conversation(row, page.head)
            after, more = page.next, page.more
        for stream, found in list(self.state.streams.items()):
            while stream[0] == ids.Kind.GROUP and found.member and found.group is None:
                self.state.load_group(await self.client.group(stream))
        if not self.view.selected and (rows := self.view.conversations()):
            self.select(rows[0].stream)

    async def _load_stream(self, stream: bytes) -> None:
        """The newest page of a conversation, and what it is like now."""
        if stream[0] == ids.Kind.DIRECT:
            self.state.load_opened(await self.client.open(self.view.other(stream)))
        elif self.state.stream(stream).member:
            while not await self._load_group(stream):
                pass
        before = (int.from_bytes(stream, "big") - 1).to_bytes(len(stream), "big")  # the list begins after this one
        page = await self.client.conversations(before, 1)
        for row in page.conversations:
            if row.stream == stream:
                self.state.load_conversation(row, page.head)
        await self._page(stream, 0)

    async def _load_group(self, stream: bytes) -> bool:
        """The group, its members, and what admins see. False: it has changed meanwhile."""
        group = await self.client.group(stream)
        found = await self.client.member_list(stream)
        admin = await self._admin(stream, group, found.members)
        return self.state.load_group(group, found.members, admin, found.head)

    async def _admin(
        self, stream: bytes, group: messages.GroupState, members: list[messages.Member]
    ) -> messages.GroupAdmin | None:
        if group.role < group.permissions.add or not members:
            return None
        return await self.client.group_admin(stream)

    async def _page(self, stream: bytes, start: int) -> None:
        """One page towards the past, from `start` on (0: from the newest)."""
        asked_at = self.state.stream(stream).head
        page = await self.client.history(stream, start, limit=PAGE)
        self.state.load_history(stream, page.items, page.next + 1 if page.more else 1, max(asked_at, page.head))
        items = self.state.stream(stream).items
        for gone in page.gone:
            for seq in range(gone.first, gone.last + 1):
                items.pop(seq, None)
        if start or stream not in self._oldest:
            self._oldest[stream] = page.next if page.more else 0

    def older(self) -> None:
        """Load the page before the oldest that is here."""
        stream = self.view.selected
        start = self._oldest.get(stream, 0)
        if start and start not in self._paging:
            self._paging.add(start)
            self._do(self._older(stream, start))

    async def _older(self, stream: bytes, start: int) -> None:
        try:
            await self._page(stream, start)
        finally:
            self._paging.discard(start)

    async def _look_up(self, users: set[int]) -> None:
        wanted = sorted(users)
        for at in range(0, len(wanted), NAMES):
            for row in await self.client.profiles(wanted[at : at + NAMES]):
                self.know(row)

    def know(self, row: messages.ProfileRow) -> None:
        """A user's name: what they show, with the unique name where that is another."""
        shown = row.profile.display
        self.view.names[row.user] = f"{shown} ({row.name})" if shown and shown != row.name else row.name

    # --- what the person does -----------------------------------------------------------------------------------------

    def select(self, stream: bytes) -> None:
        """Look at a conversation."""
        if not stream:
            return
        self.view.selected, self.view.scroll, self.view.panel = stream, 0, []
        self.client.look(stream)
        self.refresh()

    async def open(self, user: int) -> None:
        """Look at the conversation with `user`, a new one perhaps."""
        opened = await self.client.open(user)
        self.state.load_opened(opened)
        self.select(opened.stream)

    def send(self, text: str, reply_to: int = 0) -> None:
        """Send a text to the selected conversation; it shows at once, and its mark tells how far it is."""
        stream = self.view.selected
        if not stream:
            self.say("No conversation is open: /find NAME, then /open NAME")
            return
        waiting = Waiting(text)
        self.view.waiting.setdefault(stream, []).append(waiting)
        self.view.scroll = 0
        self._typed_at = float("-inf")
        self._do(self._send(stream, waiting, reply_to))

    async def _send(self, stream: bytes, waiting: Waiting, reply_to: int) -> None:
        try:
            await self.client.send_text(stream, waiting.text, mentions=self.mentions(stream, waiting.text), reply_to=reply_to)
        except Exception as error:
            waiting.failed = wording.failure(error)
            return
        self.view.waiting[stream].remove(waiting)

    def dismiss(self) -> None:
        """Back to the newest message: no panel, no question, no text that was refused."""
        view = self.view
        self.answer(None)
        view.panel, view.scroll = [], 0
        view.waiting[view.selected] = [waiting for waiting in view.waiting.get(view.selected, ()) if not waiting.failed]
        self.changed()

    async def ask(self, text: str) -> str:
        """What the person answers. LookupError if they would rather not."""
        self.answer(None)
        question = self.question = Question(text, asyncio.get_running_loop().create_future())
        self.changed()
        return await question.answer

    def answer(self, text: str | None) -> None:
        """The person's answer to the question, if there is one; None: none."""
        question, self.question = self.question, None
        if question is None or question.answer.done():
            return
        if text is None:
            question.answer.set_exception(LookupError("Nothing was changed"))
        else:
            question.answer.set_result(text)

    def mentions(self, stream: bytes, text: str) -> list[events.Mention]:
        """Every @name of a member, as the protocol names it: offsets in bytes of UTF-8."""
        if stream[0] == ids.Kind.DIRECT:
            users = set(ids.parties(stream))
        else:
            group = self.state.stream(stream).group
            known: dict[int, Member] = (group.members if group is not None else None) or {}
            users = set(known)
        found = []
        for user in sorted(users):
            name = "@" + self.unique_name(user)
            at = text.lower().find(name.lower())
            while name != "@" and at >= 0:
                found.append(events.Mention(user, len(text[:at].encode()), len(text[at : at + len(name)].encode())))
                at = text.lower().find(name.lower(), at + len(name))
        return sorted(found, key=lambda each: each.offset)[:64]

    def unique_name(self, user: int) -> str:
        """The user name without what else is shown; "" if it is not known."""
        if user == self.state.user:
            return self.client.identity.name
        shown = self.view.names.get(user, "")
        return shown.rsplit("(", 1)[1].rstrip(")") if shown.endswith(")") and "(" in shown else shown

    def typing(self) -> None:
        """The person types."""
        now = self._clock()
        if self.view.selected and now - self._typed_at >= TYPING_EVERY_S:
            self._typed_at = now
            self.client.typing(self.view.selected)

    async def user_named(self, name: str) -> int:
        """The user with this name. LookupError if there is none, or if the beginning of a name fits several."""
        wanted = name.lstrip("@")
        if wanted.lower() in ("me", self.client.identity.name.lower()):
            return self.state.user
        rows = await self.client.find(wanted)
        for row in rows:
            self.know(row)
        exact = [row for row in rows if row.name.lower() == wanted.lower()]
        if len(exact or rows) != 1:
            raise LookupError(
                f"Nobody is called {wanted}" if not rows else f"{wanted} is not one: " + ", ".join(r.name for r in rows)
            )
        return (exact or rows)[0].user

    def say(self, text: str) -> None:
        """One line for the person."""
        self.view.status = text
        self.changed()

    def do(self, work: Awaitable[Any]) -> None:
        """Do something for the person in the background; what goes wrong is said."""
        self._do(_as_coroutine(work))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.say(wording.failure(error))
        self.refresh()

    async def settled(self) -> None:
        """Wait until nothing is being done in the background (for tests)."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(errors.ClientError):
            await self.client.close()


async def _as_coroutine(work: Awaitable[Any]) -> None:
    await work
