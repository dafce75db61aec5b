"""An own command and its answer give the event that everybody else sees."""

from __future__ import annotations

from typing import Any

import pytest

from client import own
from client.api import text_body
from protocol import events, ids, messages

SENT = messages.Sent(1, 9, 4, 5000)
HEAD = (4, 5000, 7, 70, 33)
GROUP = ids.group_stream(70, 33)
BODY = text_body("x")
COMMANDS = [kind for kind in messages.ClientFrame.__args__ if issubclass(kind, messages.Change)]


def example(kind: type[messages.Change]) -> messages.Change:
    """A command of a kind with some value in every field."""
    values: dict[str, Any] = {
        "rid": 1,
        "counter": 33,
        "stream": GROUP,
        "source": GROUP,
        "body": BODY,
        "users": (8, 9),
        "members": (8, 9),
        "role": events.Role.ADMIN,
        "permissions": events.Permissions(),
        "profile": events.Profile("A"),
        "privacy": events.Privacy(receipts=False),
        "seqs": (3, 4),
        "code": b"code",
    }
    flags = ("accept", "ban", "on", "approval", "pinned", "archived", "delete", "starred", "revoke_others")
    values |= dict.fromkeys(flags, True)
    texts = ("title", "description", "picture", "emoji", "name", "label", "text", "old", "new", "confirmation")
    fields: list[Any] = [values.get(name, name if name in texts else 6) for name in kind.__struct_fields__]
    return kind(*fields)


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_has_its_event(kind: type[messages.Change]) -> None:
    found = own.event_of(example(kind), SENT, 7, 70)
    assert found is not None
    event = found.event
    assert (event.n, event.time, event.sender, event.device, event.counter) == HEAD
    assert events.decode(events.encode(event)) == event


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_command_has_its_stream(kind: type[messages.Change]) -> None:
    stream = own.stream_of(example(kind), 7, 70)
    account = 40 <= messages.number_of(kind) <= 54
    assert stream == (ids.account_stream(7) if account else GROUP)


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (messages.Send(1, 33, GROUP, BODY, 3, 1), events.Message(*HEAD, BODY, 3, 0, 0, 1)),
        (messages.Edit(1, 33, GROUP, 3, BODY), events.Edited(*HEAD, 3, BODY)),
        (messages.RemoveMember(1, 33, GROUP, 8, True), events.MemberRemoved(*HEAD, 8, True)),
        (messages.AnswerJoin(1, 33, GROUP, 8, False), events.JoinRefused(*HEAD, 8)),
        (messages.CreateInvite(1, 33, GROUP, 5, 0, True), events.InviteCreated(*HEAD, 9, 5, 0, True)),
        (messages.SetContact(1, 33, 8, False, "Ben"), events.ContactSet(*HEAD, 8, "", False)),
        (messages.Clear(1, 33, GROUP, 5, True), events.Cleared(*HEAD, GROUP, 5, True)),
        (messages.CreateGroup(1, 33, "T"), events.GroupCreated(*HEAD, "T", "", "", ())),
    ],
)
def test_an_event_says_what_the_command_said(command: messages.Change, event: events.Event) -> None:
    found = own.event_of(command, SENT, 7, 70)
    assert found is not None
    assert found.event == event


def test_what_only_the_server_knows_is_named() -> None:
    found = own.event_of(messages.Forward(1, 33, GROUP, GROUP, 3), SENT, 7, 70)
    assert found is not None
    assert found.missing == ("body", "hops", "expires_at")
    assert found.fetch is own.Fetch.HISTORY


@pytest.mark.parametrize(
    ("event", "yes"),
    [
        (events.GroupCreated(0, 1, 2, 3, 4, "T", "", "", (7,)), True),
        (events.MembersAdded(0, 1, 2, 3, 4, (6, 7)), True),
        (events.MembersAdded(0, 1, 2, 3, 4, (6,)), False),
        (events.MemberJoined(0, 1, 2, 3, 4, 7, 1), True),
        (events.MemberJoined(0, 1, 7, 3, 4, 8, 1), False),
        (events.MemberLeft(0, 1, 7, 3, 4), False),
        (None, False),
    ],
)
def test_only_what_lets_one_in_begins_an_interval(event: events.AnyEvent | None, yes: bool) -> None:
    assert own.lets_in(event, 7) is yes
