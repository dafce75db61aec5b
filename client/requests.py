"""Requests: commands that change nothing, and so may be asked any number of times until they are answered.

Every try has a rid of its own, so that parts of the answer to an earlier one do not mix with those of a later one. Time is
a monotonic clock in seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
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
    """`once`: not asked again (ephemeral). `deadline`: when it is asked again; 0: it is not out."""

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
    """`new_rid` draws from the connection's request ids."""

    def __init__(self, new_rid: Callable[[], int]) -> None:
        self._new_rid = new_rid
        self._by_rid: dict[int, Request] = {}
        self._unsent: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._by_rid)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._by_rid.values())

    def ask(self, frame: messages.Frame, waiter: Any, once: bool = False) -> None:
        """A new request; its rid is set here."""
        frame.rid = self._new_rid()
        self._by_rid[frame.rid] = Request(frame, waiter, once)
        heapq.heappush(self._unsent, (0.0, frame.rid))

    def connected(self) -> None:
        """A new connection: ask everything anew."""
        for request in self._by_rid.values():
            request.hold = 0.0
        self._again(list(self._by_rid.items()))

    def disconnected(self) -> list[Request]:
        """The connection is over: those that are not asked again, forgotten here."""
        lost = [request for request in self._by_rid.values() if request.once and request.deadline]
        for request in lost:
            del self._by_rid[request.frame.rid]
        return lost

    def withdraw(self, waiter: Any) -> None:
        """Nobody waits for this answer any more."""
        for rid, request in self._by_rid.items():
            if request.waiter is waiter:
                del self._by_rid[rid]
                return

    def clear(self) -> list[Request]:
        """Forget and return all of them."""
        found = list(self._by_rid.values())
        self._by_rid.clear()
        return found

    def _again(self, requests: Iterable[tuple[int, Request]]) -> None:
        for rid, request in requests:
            del self._by_rid[rid]
            request.frame.rid = self._new_rid()
            request.parts = []
            request.deadline = 0.0
            self._by_rid[request.frame.rid] = request
            heapq.heappush(self._unsent, (request.hold, request.frame.rid))

    def next(self, now: float) -> Request | None:
        """The next one to send now, or None."""
        self._again([(rid, r) for rid, r in self._by_rid.items() if 0 < r.deadline <= now and not r.once])
        while self._may_send() and self._unsent[0][0] <= now:
            request = self._by_rid.get(heapq.heappop(self._unsent)[1])
            if request is not None:
                wait = min(outflow.LONGEST_ANSWER_S, outflow.ANSWER_S * 2.0 ** min(request.tries, 8))
                request.deadline = now + wait
                request.tries += 1
                return request
        return None

    def _may_send(self) -> bool:
        return bool(self._unsent) and sum(1 for request in self._by_rid.values() if request.deadline) < OUT

    def later(self, rid: int, retry_after_s: float, now: float) -> bool:
        """A temporary refusal: ask again after a while. False: there is no such request, or it is not asked again."""
        request = self._by_rid.get(rid)
        if request is None or request.once:
            return False
        wait = retry_after_s or min(outflow.LONGEST_HOLD_S, outflow.HOLD_S * 2.0 ** min(request.tries, 16))
        request.hold = now + wait
        self._again([(rid, request)])
        return True

    def refused(self, rid: int) -> Request | None:
        """It was refused for good: forget it, and give it back."""
        return self._by_rid.pop(rid, None)

    def answer(self, frame: messages.Frame) -> tuple[Request, Any] | None:
        """(Part of) an answer: the request and its whole answer when that is complete, else None. An answer in parts is a
        pair: the list of parts, and the PageEnd."""
        request = self._by_rid.get(frame.rid)
        if request is None:
            return None
        if isinstance(frame, PARTS):
            request.parts.append(frame)
            return None
        del self._by_rid[frame.rid]
        return request, (request.parts, frame) if isinstance(frame, messages.PageEnd) else frame

    def deadline(self) -> tuple[float | None, float | None]:
        """When the next one is to be sent, and when the next one that is out is to be asked again."""
        while self._unsent and self._unsent[0][1] not in self._by_rid:
            heapq.heappop(self._unsent)
        again = [r.deadline for r in self._by_rid.values() if r.deadline and not r.once]
        return self._unsent[0][0] if self._may_send() else None, min(again, default=None)
