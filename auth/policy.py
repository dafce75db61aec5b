"""May X do Y to Z: the decisions about people, pure. What depends on a stream's own state is decided in `actors.state`."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from protocol.events import Audience, Privacy, Profile


class Facts(Struct, array_like=True, frozen=True):
    """What decisions need to know of one living user. A user without facts does not exist, or no longer."""

    name: str
    profile: Profile = Profile()
    privacy: Privacy = Privacy()
    contacts: frozenset[int] = frozenset()
    blocked: frozenset[int] = frozenset()


class Writing(Enum):
    """Whether one user may open a conversation with another."""

    YES = "yes"
    REQUEST = "as a message request"
    NO = "no"


def _within(audience: Audience, viewer: int, facts: Facts) -> bool:
    if viewer in facts.blocked:
        return False
    return audience is Audience.EVERYONE or (audience is Audience.CONTACTS and viewer in facts.contacts)


def may_write(sender: int, receiver: Facts) -> Writing:
    """Whether `sender` may write to a user who never wrote back."""
    if sender in receiver.blocked:
        return Writing.NO
    if _within(receiver.privacy.write, sender, receiver):
        return Writing.YES
    return Writing.REQUEST if receiver.privacy.requests else Writing.NO


def may_add(adder: int, added: Facts) -> bool:
    """Whether `adder` may put the user into a group."""
    return _within(added.privacy.add_to_groups, adder, added)


def sees_last_seen(viewer: int, facts: Facts) -> bool:
    """Whether `viewer` may see presence and last seen. (Whether the viewer blocks the user is the viewer's own to know: ask
    `blocked_between` where a block is to hide both ways.)"""
    return _within(facts.privacy.last_seen, viewer, facts)


def sees_profile(viewer: int, facts: Facts) -> bool:
    return _within(facts.privacy.profile, viewer, facts)


def blocked_between(one: int, one_facts: Facts, other: int, other_facts: Facts) -> bool:
    """Whether either of two users has blocked the other."""
    return other in one_facts.blocked or one in other_facts.blocked
