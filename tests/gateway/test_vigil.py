"""When a connection is looked at, and whether it is slow, without a clock."""

from __future__ import annotations

from gateway import vigil
from protocol import codec, connection, messages

TERMS = connection.Terms()
HELLO = codec.encode(messages.Hello(1, 1, 1, messages.TokenCredential(bytes(16))))


def an_open(now: float) -> connection.Connection:
    state = connection.Connection(now)
    list(state.receive(HELLO, now))
    state.admitted()
    return state


def test_who_is_not_open_yet_is_looked_at_each_second_and_who_is_at_its_next_heartbeat() -> None:
    assert vigil.next_look(connection.Connection(100.0), TERMS, 103.0, 0.5, None, 30.0) == 104.0
    state = an_open(100.0)
    assert vigil.next_look(state, TERMS, 100.0, 0.0, None, 30.0) == 125.0
    assert vigil.next_look(state, TERMS, 100.0, 1.0, None, 30.0) == 125.0 + 2.5


def test_who_was_asked_and_does_not_answer_is_looked_at_when_it_counts_as_lost() -> None:
    state = an_open(100.0)
    assert vigil.next_look(state, TERMS, 150.0, 0.5, None, 30.0) == 100.0 + TERMS.lost_s


def test_who_has_unsent_bytes_is_looked_at_when_it_may_have_become_slow() -> None:
    assert vigil.next_look(an_open(100.0), TERMS, 100.0, 0.0, (1000, 90.0), 30.0) == 120.0


def test_one_byte_taken_starts_the_time_anew_and_none_does_not() -> None:
    stall = vigil.observed(None, 1000, 100.0)
    assert vigil.observed(stall, 1000, 120.0) == stall
    assert vigil.is_slow(stall, 130.0, 30.0)
    assert not vigil.is_slow(stall, 129.0, 30.0)
    assert not vigil.is_slow(vigil.observed(stall, 999, 129.0), 130.0, 30.0)
    assert not vigil.is_slow(None, 130.0, 30.0)
    assert vigil.observed(stall, 0, 120.0) is None


def test_what_is_written_meanwhile_hides_no_byte_that_was_taken_and_makes_none_up() -> None:
    stall = vigil.added(vigil.observed(None, 1000, 100.0), 500)
    assert vigil.observed(stall, 1499, 120.0) == (1499, 120.0)
    assert vigil.is_slow(vigil.observed(stall, 1500, 120.0), 130.0, 30.0)
    assert vigil.added(None, 500) is None
