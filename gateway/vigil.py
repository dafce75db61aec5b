"""When a connection is looked at again, and whether it still takes bytes. Pure: sizes in bytes, times in seconds, passed in."""

from __future__ import annotations

from protocol.connection import Connection, State, Terms

#: Seconds that a client has to answer our close frame before TCP is cut.
CLOSE_GRACE_S = 5.0
#: Spread of heartbeats as a part of the silence before them, so that those who came together are not asked together. With the
#: lateness of the wheel it stays below the half of it after which clients give up, and the 30 s after which routers forget.
HEARTBEAT_JITTER = 0.1
#: Seconds between two looks at a connection that is not open yet.
PENDING_LOOK_S = 1.0

#: (bytes that were not sent, since when none of them has left); None: nothing is known to wait.
Stall = tuple[int, float] | None


def next_look(state: Connection, terms: Terms, now: float, jitter: float, stall: Stall, stalled_write_s: float) -> float:
    """When something may be due next. `jitter`: from 0 to 1."""
    if state.state is not State.OPEN:
        return now + PENDING_LOOK_S
    when = min(state.heard, state.spoke) + terms.heartbeat_s
    if when <= now:  # asked, and not answered yet
        when = min(now + terms.heartbeat_s, state.heard + terms.lost_s)
    else:
        when += jitter * HEARTBEAT_JITTER * terms.heartbeat_s
    if stall is not None:
        when = min(when, stall[1] + stalled_write_s)
    return when


def observed(stall: Stall, unsent: int, now: float) -> Stall:
    """What is known now that `unsent` bytes were seen. One byte taken since the last look starts the time anew."""
    if not unsent:
        return None
    if stall is None or unsent < stall[0]:
        return unsent, now
    return stall


def added(stall: Stall, size: int) -> Stall:
    """What is known after more is written: as much more would be unsent if none were taken."""
    return None if stall is None else (stall[0] + size, stall[1])


def is_slow(stall: Stall, now: float, stalled_write_s: float) -> bool:
    """Whether no byte was taken for too long."""
    return stall is not None and now - stall[1] >= stalled_write_s
