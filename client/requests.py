"""Requests: commands that change nothing, and so may be asked any number of times until they are answered.

Every try has a rid of its own, so that parts of the answer to an earlier one do not mix with those of a later one. Time is
a monotonic clock in seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from client import outflow
from protocol import messages

#: Frames that are parts of an answer; any other frame with the request's rid ends it.
PARTS = (
    messages.AccountState,
    messages.Contacts,
    messages.Conversation,
    messages.HistoryItem,
    messages.Gone,
    messages.ExportPart,
)
#: Requests that are out at once. A client that needs more is waited for; a server refuses more than a few.
OUT = 8


class Request:
    """`once`: not asked again (ephemeral). `hold`: not sent before. `deadline`: when it is asked again, once it is out."""

    __slots__ = ("deadline", "frame", "hold", "once", "parts", "tries", "waiter")

    def __init__(self, frame: messages.Frame, waiter: Any, once: bool) -> None:
        self.frame = frame
        self.waiter = waiter
        self.once = once
        self.parts: list[messages.Frame] = []
        self.tries = 0
        self.hold = 0.0
        self.deadline = 0.0


class Requests:
    """`new_rid` draws from the connection's request ids. Waiters are told apart by identity."""

    def __init__(self, new_rid: Callable[[], int]) -> None:
        self._new_rid = new_rid
        self._by_rid: dict[int, Request] = {}
        self._by_waiter: dict[int, Request] = {}
        #: Those that were sent, by rid: OUT, so that looking at all of them costs little.
        self._out: dict[int, Request] = {}
        self._unsent: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._by_rid)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._by_rid.values())

    def ask(self, frame: messages.Frame, waiter: Any, once: bool = False) -> None:
        """A new request; its rid is set here."""
        request = Request(frame, waiter, once)
        self._by_waiter[id(waiter)] = request
        self._enter(request)

    def _enter(self, request: Request) -> None:
        rid = request.frame.rid = self._new_rid()
        self._by_rid[rid] = request
        heapq.heappush(self._unsent, (request.hold, rid))

    def _forget(self, request: Request) -> None:
        del self._by_rid[request.frame.rid]
        self._out.pop(request.frame.rid, None)
        if self._by_waiter.get(id(request.waiter)) is request:
            del self._by_waiter[id(request.waiter)]

    def connected(self) -> None:
        """A new connection: ask everything anew."""
        self._unsent.clear()
        for request in list(self._by_rid.values()):
            request.hold = 0.0
            self._again(request)

    def disconnected(self) -> list[Request]:
        """The connection is over: those that are not asked again, forgotten here."""
        lost = [request for request in self._out.values() if request.once]
        for request in lost:
            self._forget(request)
        return lost

    def withdraw(self, waiter: Any) -> None:
        """Nobody waits for this answer any more."""
        request = self._by_waiter.get(id(waiter))
        if request is not None:
            self._forget(request)

    def clear(self) -> list[Request]:
        """Forget and return all of them."""
        found = list(self._by_rid.values())
        self._by_rid.clear()
        self._by_waiter.clear()
        self._out.clear()
        self._unsent.clear()
        return found

    def _again(self, request: Request) -> None:
        del self._by_rid[request.frame.rid]
        self._out.pop(request.frame.rid, None)
        request.parts = []
        self._enter(request)

    def next(self, now: float) -> Request | None:
        """The next one to send now, or None."""
        for overdue in [request for request in self._out.values() if request.deadline <= now and not request.once]:
            self._again(overdue)
        while self._may_send() and self._unsent[0][0] <= now:
            request = self._by_rid.get(heapq.heappop(self._unsent)[1])
            if request is not None:
                wait = min(outflow.LONGEST_ANSWER_S, outflow.ANSWER_S * 2.0 ** min(request.tries, 8))
                request.deadline = now + wait
                request.tries += 1
                self._out[request.frame.rid] = request
                return request
        return None

    def _may_send(self) -> bool:
        return bool(self._unsent) and len(self._out) < OUT

    def later(self, rid: int, retry_after_s: float, now: float) -> bool:
        """A temporary refusal: ask again after a while. False: there is no such request, or it is not asked again."""
        request = self._by_rid.get(rid)
        if request is None or request.once:
            return False
        wait = retry_after_s or min(outflow.LONGEST_HOLD_S, outflow.HOLD_S * 2.0 ** min(request.tries, 16))
        request.hold = now + wait
        self._again(request)
        return True

    def refused(self, rid: int) -> Request | None:
        """It was refused for good: forget it, and give it back."""
        request = self._by_rid.get(rid)
        if request is not None:
            self._forget(request)
        return request

    def answer(self, frame: messages.Frame) -> tuple[Request, Any] | None:
        """(Part of) an answer: the request and its whole answer when that is complete, else None. An answer in parts is a
        pair: the list of parts, and the PageEnd."""
        request = self._by_rid.get(frame.rid)
        if request is None:
            return None
        if isinstance(frame, PARTS):
            request.parts.append(frame)
            return None
        self._forget(request)
        return request, (request.parts, frame) if isinstance(frame, messages.PageEnd) else frame

    def deadline(self) -> tuple[float | None, float | None]:
        """When the next one is to be sent, and when the next one that is out is to be asked again."""
        while self._unsent and self._unsent[0][1] not in self._by_rid:
            heapq.heappop(self._unsent)
        again = [request.deadline for request in self._out.values() if not request.once]
        return self._unsent[0][0] if self._may_send() else None, min(again, default=None)
