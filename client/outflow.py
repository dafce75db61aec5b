"""The outgoing half: state-changing commands until they are answered, whatever happens to connections meanwhile.

A command keeps its bytes, and they are sent again as they are: after a reconnect, after a time without an answer, after a
temporary refusal. Commands of one stream form a lane; in a lane they go out in order, at most WINDOW of them from the oldest
unanswered one on (the server remembers the last 64 of a device, so that one further back could not be recognised as a
repeat). A temporary refusal holds its lane, so that later ones do not overtake any further. Time is a monotonic clock in
seconds, given with each call.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any

from protocol import messages

#: Commands of one stream from the oldest unanswered one on (docs/protocol.md, Commands: at most 63 beyond it).
WINDOW = 64
#: Seconds without an answer after which a command is sent again; doubled with every try up to LONGEST_ANSWER_S.
ANSWER_S = 10.0
LONGEST_ANSWER_S = 120.0
#: Seconds of the first wait after a temporary refusal without a hint; doubled with every try up to LONGEST_HOLD_S.
HOLD_S = 0.1
LONGEST_HOLD_S = 10.0


class Pending:
    """One unanswered command. `data`: its bytes. `waiter`: whatever the shell wants back with the answer."""

    __slots__ = ("counter", "data", "deadline", "frame", "index", "lane", "rid", "sent", "tries", "waiter")

    def __init__(self, frame: messages.Change, data: bytes, lane: Lane, waiter: Any) -> None:
        self.frame = frame
        self.rid = frame.rid
        self.counter = frame.counter
        self.data = data
        self.lane = lane
        self.waiter = waiter
        self.index = lane.next_index
        self.sent = False
        self.tries = 0
        self.deadline = 0.0

    def __lt__(self, other: Pending) -> bool:
        return self.index < other.index


class Lane:
    """The commands of one stream. `unanswered`: by rid, oldest first. `unsent`: a heap by index. `hold`: not before."""

    __slots__ = ("hold", "next_index", "stream", "unanswered", "unsent")

    def __init__(self, stream: bytes) -> None:
        self.stream = stream
        self.unanswered: dict[int, Pending] = {}
        self.unsent: list[Pending] = []
        self.next_index = 0
        self.hold = 0.0

    def is_kept(self, upto: float) -> bool:
        """Whether the first unsent command is among those that may go out."""
        return self.unsent[0].rid <= upto

    def may_send(self, window: int) -> bool:
        """Whether the first unsent command is within the window."""
        oldest = next(iter(self.unanswered.values()))
        return self.unsent[0].index - oldest.index < window


class Outflow:
    """All lanes. `window`: commands of one lane from the oldest unanswered one on. `kept`: the highest rid that may go out;
    where commands are stored, those after it are not stored yet."""

    def __init__(self) -> None:
        self.window = WINDOW
        self.kept: float = math.inf
        self._lanes: dict[bytes, Lane] = {}
        self._by_rid: dict[int, Pending] = {}
        self._by_counter: dict[int, Pending] = {}
        #: Lanes with something unsent, in the order in which they take turns.
        self._ready: dict[bytes, Lane] = {}
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._by_rid)

    def __iter__(self) -> Iterator[Pending]:
        """Every unanswered command, in the order of submission."""
        return iter(self._by_rid.values())

    def submit(self, frame: messages.Change, data: bytes, stream: bytes, waiter: Any) -> None:
        """A new command; its rid and counter are set."""
        lane = self._lanes.get(stream)
        if lane is None:
            lane = self._lanes[stream] = Lane(stream)
        pending = Pending(frame, data, lane, waiter)
        lane.next_index += 1
        lane.unanswered[pending.rid] = pending
        self._by_rid[pending.rid] = self._by_counter[pending.counter] = pending
        heapq.heappush(lane.unsent, pending)
        self._ready[stream] = lane

    def connected(self) -> None:
        """A new connection: everything unanswered goes out again, each lane in its order, without waiting."""
        self._deadlines.clear()
        for stream, lane in self._lanes.items():
            lane.unsent = list(lane.unanswered.values())  # by index already, which makes it a heap
            lane.hold = 0.0
            self._ready[stream] = lane
            for pending in lane.unsent:
                pending.sent = False

    def next(self, now: float) -> Pending | None:
        """The next command to send now, or None. Lanes take turns, so that a full one does not stand before the others."""
        self._overdue(now)
        held: list[Lane] = []
        found = None
        while self._ready and found is None:
            stream, lane = next(iter(self._ready.items()))
            del self._ready[stream]
            if now < lane.hold or (lane.unsent and not lane.is_kept(self.kept)):
                held.append(lane)
            elif lane.unsent and lane.may_send(self.window):
                found = heapq.heappop(lane.unsent)
                if lane.unsent:
                    held.append(lane)
            # A lane whose window is full comes back with the answer to its oldest.
        for lane in held:
            self._ready[lane.stream] = lane
        if found is not None:
            found.sent = True
            found.deadline = now + min(LONGEST_ANSWER_S, ANSWER_S * 2.0 ** min(found.tries, 8))
            found.tries += 1
            heapq.heappush(self._deadlines, (found.deadline, found.rid))
        return found

    def _overdue(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, rid = heapq.heappop(self._deadlines)
            pending = self._by_rid.get(rid)
            if pending is not None and pending.sent and pending.deadline == deadline:
                self._again(pending)

    def _again(self, pending: Pending) -> None:
        pending.sent = False
        heapq.heappush(pending.lane.unsent, pending)
        self._ready[pending.lane.stream] = pending.lane

    def later(self, rid: int, retry_after_s: float, now: float) -> bool:
        """A temporary refusal: the same bytes after a while, and the lane waits with it. False: no such command."""
        pending = self._by_rid.get(rid)
        if pending is None:
            return False
        wait = retry_after_s or min(LONGEST_HOLD_S, HOLD_S * 2.0 ** min(pending.tries, 16))
        pending.lane.hold = max(pending.lane.hold, now + wait)
        if pending.sent:
            self._again(pending)
        return True

    def answered(self, rid: int) -> Pending | None:
        """The answer came: forget the command, and give it back."""
        pending = self._by_rid.pop(rid, None)
        if pending is None:
            return None
        del self._by_counter[pending.counter]
        lane = pending.lane
        del lane.unanswered[rid]
        if not pending.sent:
            lane.unsent.remove(pending)
            heapq.heapify(lane.unsent)
        if not lane.unanswered:
            del self._lanes[lane.stream]
            self._ready.pop(lane.stream, None)
        elif lane.unsent:
            self._ready[lane.stream] = lane
        return pending

    def with_counter(self, counter: int) -> Pending | None:
        """The unanswered command with this counter: its event came by itself."""
        return self._by_counter.get(counter)

    def deadline(self) -> float | None:
        """When something is to be sent (again) without anything else happening, or None. May be early."""
        times = [lane.hold for lane in self._ready.values() if lane.unsent and lane.is_kept(self.kept)]
        while self._deadlines:
            deadline, rid = self._deadlines[0]
            pending = self._by_rid.get(rid)
            if pending is not None and pending.sent and pending.deadline == deadline:
                times.append(deadline)
                break
            heapq.heappop(self._deadlines)  # answered long before: nothing to wake up for
        return min(times, default=None)
