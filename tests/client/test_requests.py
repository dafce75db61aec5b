"""Requests: asked until answered, whole answers only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from client import requests
from protocol import events, messages


def fresh() -> requests.Requests:
    rids = itertools.count(1)
    return requests.Requests(lambda: next(rids))


def ask(waiting: requests.Requests, count: int) -> None:
    for number in range(count):
        waiting.ask(messages.Open(0, number + 1), number)


def sent(waiting: requests.Requests, now: float) -> list[int]:
    found = []
    while (request := waiting.next(now)) is not None:
        found.append(request.frame.rid)
    return found


def item(rid: int, seq: int) -> messages.HistoryItem:
    return messages.HistoryItem(rid, b"d" * 15, seq, events.NIL)


def test_an_answer_in_parts_is_handed_over_whole() -> None:
    waiting = fresh()
    waiting.ask(messages.FetchHistory(0, b"d" * 15), "me")
    assert sent(waiting, 0.0) == [1]
    assert waiting.answer(item(1, 9)) is None
    assert waiting.answer(item(1, 8)) is None
    found = waiting.answer(messages.PageEnd(1, True, 7))
    assert found is not None
    request, (parts, end) = found
    assert request.waiter == "me"
    assert [part.seq for part in parts] == [9, 8]
    assert end.next == 7


def test_parts_of_an_earlier_try_do_not_mix_with_those_of_a_later_one() -> None:
    waiting = fresh()
    waiting.ask(messages.FetchHistory(0, b"d" * 15), "me")
    sent(waiting, 0.0)
    waiting.answer(item(1, 9))
    waiting.connected()
    assert sent(waiting, 1.0) == [2]
    assert waiting.answer(item(1, 8)) is None
    waiting.answer(item(2, 9))
    found = waiting.answer(messages.PageEnd(2))
    assert found is not None
    assert len(found[1][0]) == 1


def test_only_a_few_are_out_at_once() -> None:
    waiting = fresh()
    ask(waiting, 20)
    assert sent(waiting, 0.0) == list(range(1, requests.OUT + 1))
    waiting.answer(messages.Done(3))
    assert sent(waiting, 0.0) == [requests.OUT + 1]


def test_one_without_an_answer_is_asked_again() -> None:
    waiting = fresh()
    ask(waiting, 1)
    sent(waiting, 0.0)
    assert waiting.deadline() == (None, 10.0)
    assert sent(waiting, 9.9) == []
    assert sent(waiting, 10.0) == [2]


def test_a_temporary_refusal_is_waited_out() -> None:
    waiting = fresh()
    ask(waiting, 1)
    sent(waiting, 0.0)
    assert waiting.later(1, 3.0, 1.0)
    assert waiting.deadline() == (4.0, None)
    assert sent(waiting, 3.9) == []
    assert sent(waiting, 4.0) == [2]


def test_what_is_not_repeated_is_given_up_with_its_connection() -> None:
    waiting = fresh()
    waiting.ask(messages.Logout(0), "bye", once=True)
    waiting.ask(messages.Open(0, 1), "stay")
    assert not waiting.disconnected(), "it was not sent yet"
    sent(waiting, 0.0)
    assert not waiting.later(1, 1.0, 0.0)
    assert [request.waiter for request in waiting.disconnected()] == ["bye"]
    waiting.connected()
    assert sent(waiting, 1.0) == [3]


def test_a_request_that_nobody_waits_for_is_forgotten() -> None:
    waiting = fresh()
    ask(waiting, 2)
    waiting.withdraw(0)
    assert sent(waiting, 0.0) == [2]
    assert len(waiting) == 1


def test_what_is_answered_or_withdrawn_makes_room_whatever_it_was() -> None:
    waiting = fresh()
    ask(waiting, 3 * requests.OUT)
    assert sent(waiting, 0.0) == list(range(1, requests.OUT + 1))
    waiting.withdraw(0)
    assert waiting.refused(2) is not None
    assert waiting.later(3, 60.0, 0.0)
    assert sent(waiting, 0.0) == [requests.OUT + 1, requests.OUT + 2, requests.OUT + 3]


class Counted(dict[int, requests.Request]):
    """Counts how often all of it was looked at."""

    looks = 0

    def __iter__(self) -> Iterator[int]:
        self.looks += 1
        return super().__iter__()

    def values(self) -> Any:
        self.looks += 1
        return super().values()

    def items(self) -> Any:
        self.looks += 1
        return super().items()


def test_an_answer_looks_at_what_is_out_and_not_at_all_that_wait() -> None:
    waiting = fresh()
    ask(waiting, 100)
    all_of_them = waiting._by_rid = Counted(waiting._by_rid)
    for rid in sent(waiting, 0.0):
        waiting.answer(messages.Done(rid))
        waiting.next(0.0)
        waiting.deadline()
    waiting.withdraw(99)
    assert all_of_them.looks == 0
