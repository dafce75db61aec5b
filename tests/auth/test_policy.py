"""May X do Y to Z: each cell of the privacy matrix, and blocks, which come before all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth import policy
from auth.policy import Facts, Writing
from protocol.events import Audience, Privacy

FRIEND, STRANGER, BLOCKED = 1, 2, 3
USERS = (FRIEND, STRANGER, BLOCKED)

Check = Callable[[int, Facts], Any]
AUDIENCES: list[tuple[str, Check]] = [
    ("add_to_groups", policy.may_add),
    ("last_seen", policy.sees_last_seen),
    ("profile", policy.sees_profile),
    ("write", lambda sender, facts: policy.may_write(sender, facts) is Writing.YES),
]


def facts(**privacy: Any) -> Facts:
    return Facts("ben", privacy=Privacy(**privacy), contacts=frozenset({FRIEND, BLOCKED}), blocked=frozenset({BLOCKED}))


@pytest.mark.parametrize(("cell", "check"), AUDIENCES, ids=[cell for cell, _ in AUDIENCES])
@pytest.mark.parametrize(
    ("audience", "allowed"),
    [(Audience.EVERYONE, {FRIEND, STRANGER}), (Audience.CONTACTS, {FRIEND}), (Audience.NOBODY, set())],
    ids=lambda value: value.name if isinstance(value, Audience) else "",
)
def test_a_cell_admits_its_audience_and_never_who_is_blocked(
    cell: str, check: Check, audience: Audience, allowed: set[int]
) -> None:
    assert {user for user in USERS if check(user, facts(**{cell: audience}))} == allowed


@pytest.mark.parametrize(("cell", "check"), AUDIENCES, ids=[cell for cell, _ in AUDIENCES])
def test_each_cell_is_decided_by_itself_alone(cell: str, check: Check) -> None:
    cells = [other for other, _ in AUDIENCES]
    only = facts(**{other: Audience.NOBODY for other in cells if other != cell})
    assert check(STRANGER, only)
    but = facts(**{cell: Audience.NOBODY})
    assert not check(STRANGER, but)


@pytest.mark.parametrize("audience", [Audience.CONTACTS, Audience.NOBODY])
def test_who_is_outside_the_audience_may_ask_where_requests_are_taken(audience: Audience) -> None:
    assert policy.may_write(STRANGER, facts(write=audience)) is Writing.REQUEST
    assert policy.may_write(STRANGER, facts(write=audience, requests=False)) is Writing.NO
    assert policy.may_write(BLOCKED, facts(write=audience)) is Writing.NO


def test_to_be_somebodys_contact_opens_that_ones_doors_and_not_ones_own() -> None:
    asha = Facts("asha", privacy=Privacy(write=Audience.CONTACTS, requests=False))
    assert policy.may_write(FRIEND, facts(write=Audience.CONTACTS)) is Writing.YES
    assert policy.may_write(9, asha) is Writing.NO


@given(st.booleans(), st.booleans())
def test_a_block_stands_between_two_whoever_set_it(one_blocks: bool, other_blocks: bool) -> None:
    one = Facts("one", blocked=frozenset({2} if one_blocks else ()))
    other = Facts("other", blocked=frozenset({1} if other_blocks else ()))
    assert policy.blocked_between(1, one, 2, other) is (one_blocks or other_blocks)
    assert policy.blocked_between(2, other, 1, one) is (one_blocks or other_blocks)


def test_facts_survive_being_stored() -> None:
    found = facts(write=Audience.CONTACTS)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Facts) == found
