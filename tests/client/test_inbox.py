"""What waits for the application, and what a newer one replaces."""

from __future__ import annotations

import asyncio

import pytest

from client import errors, inbox
from client.updates import Connected, Numbered, StreamEvent
from protocol import ids, messages
from tests.client import model

STREAM = ids.direct_stream(7, 9)
OTHER = ids.direct_stream(7, 8)


def event(seq: int) -> StreamEvent:
    return StreamEvent(STREAM, seq, None, 50)


class Box(inbox.Inbox):
    def __init__(self, limit: int = 1000, *, listen: bool = True) -> None:
        self.dealt_with: list[Numbered | Connected] = []
        super().__init__(limit, self.dealt_with.append, listen=listen)

    def everything(self) -> list[object]:
        found: list[object] = []
        while (update := self.next_nowait()) is not None:
            found.append(update)
        return found


async def test_events_come_in_order_and_count_when_the_next_one_is_asked_for() -> None:
    box = Box()
    for seq in (1, 2):
        box.put(event(seq))
    assert await box.next() == event(1)
    assert box.dealt_with == []
    assert await box.next() == event(2)
    assert box.dealt_with == [event(1)]
    box.forget_out()
    assert box.next_nowait() is None
    assert box.dealt_with == [event(1)], "it was not dealt with"


async def test_of_receipts_presence_and_typing_the_newest_of_each_waits() -> None:
    box = Box()
    for seq in range(1, 1000):
        box.put(messages.Receipt(0, STREAM, 9, seq, 0))
        box.put(messages.ReceiptCount(0, STREAM, seq, 1, 1))
        box.put(messages.Presence(0, 9, seq % 2 == 1, seq))
        box.put(messages.MemberTyping(0, STREAM, 9, seq % 2 == 1))
    box.put(event(1))
    box.put(messages.Receipt(0, OTHER, 9, 5, 0))
    assert box.everything() == [
        messages.Receipt(0, STREAM, 9, 999, 0),
        messages.ReceiptCount(0, STREAM, 999, 1, 1),
        messages.Presence(0, 9, True, 999),
        messages.MemberTyping(0, STREAM, 9, True),
        event(1),
        messages.Receipt(0, OTHER, 9, 5, 0),
    ]
    box.put(messages.Receipt(0, STREAM, 9, 1000, 0))
    assert box.everything() == [messages.Receipt(0, STREAM, 9, 1000, 0)]


async def test_ephemeral_messages_are_dropped_while_it_is_full() -> None:
    box = Box(limit=2)
    passing = messages.Ephemeral(0, STREAM, 9, 90, 5, b"x")  # type: ignore[arg-type]
    for _ in range(5):
        box.put(passing)
    box.put(event(1))
    assert box.everything() == [passing, passing, event(1)]


async def test_who_does_not_listen_has_dealt_with_everything_at_once() -> None:
    box = Box(listen=False)
    box.put(event(1))
    box.put(messages.CaughtUp(0))
    assert len(box) == 0
    assert box.dealt_with == [event(1)]


async def test_what_ended_it_comes_after_the_last_update() -> None:
    box = Box()
    waiting = asyncio.create_task(box.next())
    box.put(event(1))
    box.end(errors.Closed("over"))
    assert await waiting == event(1)
    with pytest.raises(errors.Closed):
        await box.next()


@pytest.mark.parametrize("listen", [True, False])
async def test_that_all_begins_anew_is_told_when_what_came_before_is_dealt_with(listen: bool) -> None:
    welcome = messages.Welcome(1, 1, b"s", 1, 2, "asha", b"", 25, model.LIMITS, 5, incarnation=2)
    box = Box(listen=listen)
    for update in (Connected(welcome), event(7), Connected(welcome, anew=True), event(4)):
        box.put(update)
    box.everything()
    assert box.dealt_with == [event(7), Connected(welcome, anew=True), event(4)]
