"""Updates that wait for the application: in order, one consumer, and no more of them than is said here.

Events and what tells of the connection wait in the order in which they came. Of receipts, presence and typing only the newest
of each user and stream waits, in the place of the older one; ephemeral messages are dropped while the queue is full. What else
makes a queue grow is bounded by the server (the window of each stream, while nothing is acknowledged) and by `Client.submit`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeGuard

from client.updates import Connected, NotKept, Numbered, StreamEvent, StreamGone, Update
from protocol import messages

_NUMBERED = (StreamEvent, StreamGone)
#: Kind, stream and user of what a newer one replaces.
_Key = tuple[type, bytes, int]


class Inbox:
    """`taken` is called with each event that the application has dealt with, and with each Connected that is `anew` when all
    before it is dealt with. `limit`: from so many on it is full. `listen`
    False: the application declines updates: events count as dealt with as they come, and nothing waits."""

    def __init__(self, limit: int, taken: Callable[[Numbered | Connected], None], *, listen: bool = True) -> None:
        self._limit = limit
        self._taken = taken
        self._listen = listen
        self._queue: deque[Update | _Key] = deque()
        self._newest: dict[_Key, Update] = {}
        self._out: Numbered | None = None  # given out, and not known to be dealt with
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._ended: Exception | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._limit

    # --- the client's side --------------------------------------------------------------------------------------------

    def put(self, update: Update) -> None:
        if not self._listen:
            if isinstance(update, _NUMBERED) or _is_anew(update):
                self._taken(update)
            return
        key = _key(update)
        if key is None:
            if self.is_full and type(update) is messages.Ephemeral:
                return
            self._queue.append(update)
        else:
            if key not in self._newest:
                self._queue.append(key)
            self._newest[key] = update
        self._arrived.set()

    def end(self, error: Exception) -> None:
        """Nothing more comes: when the last one is taken, `error` is raised."""
        self._ended = error
        self._arrived.set()

    async def room(self) -> None:
        """Wait until it may not be full any more, or somebody calls `stir`."""
        self._room.clear()
        await self._room.wait()

    def stir(self) -> None:
        """Whoever waits for room has a reason to look again."""
        self._room.set()

    # --- the application's side ---------------------------------------------------------------------------------------

    async def next(self) -> Update:
        """The next update; asking for it says that the last event is dealt with. Raises what ended the client."""
        self._dealt_with()
        while not self._queue:
            if self._ended is not None:
                raise self._ended
            self._arrived.clear()
            await self._arrived.wait()
        return self._pop()

    def next_nowait(self) -> Update | None:
        """The next update if there is one; otherwise as `next`."""
        self._dealt_with()
        return self._pop() if self._queue else None

    def taken(self, event: Numbered) -> None:
        """The application has dealt with `event`, and with all before it in its stream."""
        if self._out is event:
            self._out = None
        self._taken(event)

    def forget_out(self) -> None:
        """The event that is out was not dealt with, as far as anybody can tell: it comes again in the next run."""
        self._out = None

    def _dealt_with(self) -> None:
        if self._out is not None:
            self.taken(self._out)

    def _pop(self) -> Update:
        entry = self._queue.popleft()
        update = self._newest.pop(entry) if isinstance(entry, tuple) else entry
        if isinstance(update, _NUMBERED):
            self._out = update
        elif _is_anew(update):
            self._taken(update)
        if not self.is_full:
            self._room.set()
        return update


def _is_anew(update: Update) -> TypeGuard[Connected]:
    return isinstance(update, Connected) and update.anew


def _key(update: Update) -> _Key | None:
    """What tells which older update this one replaces; None: it replaces none."""
    kind = type(update)
    match update:
        case messages.Receipt() | messages.MemberTyping():
            return kind, update.stream, update.user
        case messages.ReceiptCount():
            return kind, update.stream, 0
        case messages.Presence():
            return kind, b"", update.user
        case NotKept():
            return kind, b"", 0
    return None
