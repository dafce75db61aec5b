"""One's own account: profile, name, contacts, devices, password, export, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.line import Refused
from tests.e2e.independent.tables import ANSWERS, EVENTS, Record, row
from tests.e2e.world import PASSWORD, World

CUT_OFF_S = 1.0
"""After the answer to its revocation, a device hears nothing more."""


async def account(client: Client) -> tuple[Record, dict[int, str]]:
    """The state of one's account, and one's contacts with their labels."""
    state, *others = await client.pages("FetchAccount")
    assert state.kind == "AccountState"
    contacts = [row("Contact", each) for frame in others[:-1] for each in frame.contacts]
    assert [each.user for each in contacts] == sorted(each.user for each in contacts)
    return state, {each.user: each.label for each in contacts}


async def log_in(world: World, name: str, password: str) -> str:
    """What a log-in is answered: Welcome, or the symbol of the error."""
    client = world.client(f"{name} again")
    await client.open()
    values = {"name": name, "password": password, "request": wire.request()}
    try:
        return (await client.hello(wire.credential("PasswordCredential", **values))).kind
    except Refused as refused:
        return refused.symbol


async def test_every_change_reaches_the_other_device_and_the_state(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("asha")
    steps: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
        ("SetProfile", {"profile": ["Asha", "here", "pic"]}, "ProfileChanged", {"profile": ["Asha", "here", "pic"]}),
        ("Rename", {"name": "asha_the_first"}, "Renamed", {"name": "asha_the_first"}),
        ("SetContact", {"user": ben.user, "label": "Benny"}, "ContactSet", {"user": ben.user, "label": "Benny", "on": True}),
        ("SetBlock", {"user": 4711}, "", {}),
        ("SetBlock", {"user": ben.user}, "BlockSet", {"user": ben.user, "on": True}),
        ("SetPrivacy", {"privacy": [2, 3, False, 2, False, 3]}, "PrivacySet", {"privacy": [2, 3, False, 2, False, 3]}),
        (
            "RenameDevice",
            {"device": asha.device, "name": "tablet"},
            "DeviceRenamed",
            {"renamed": asha.device, "name": "tablet"},
        ),
    ]
    for kind, fields, event_kind, event_fields in steps:
        if not event_kind:
            continue
        sent = await asha.change(kind, **fields)
        event = await second.event(asha.account, sent.seq)
        assert (event.kind, event.sender, event.device) == (event_kind, asha.user, asha.device)
        assert event.fields.items() >= event_fields.items()
    for device in (asha, second):
        state, contacts = await account(device)
        assert (state.user, state.fields["name"]) == (asha.user, "asha_the_first")
        assert (state.profile, state.privacy) == (["Asha", "here", "pic"], [2, 3, False, 2, False, 3])
        assert (state.blocked, contacts) == ([ben.user], {ben.user: "Benny"})
        assert state.head == asha.inbox.positions[asha.account]
        names = {each.device: each.fields["name"] for each in (row("DeviceInfo", device) for device in state.devices)}
        assert names == {asha.device: "tablet", second.device: "another"}
    await asha.change("SetContact", user=ben.user, on=False)
    await asha.change("SetBlock", user=ben.user, on=False)
    state, contacts = await account(asha)
    assert (state.blocked, contacts) == ([], {})


async def test_users_are_found_by_the_beginning_of_their_name(world: World) -> None:
    asha, *others = await world.people("asha", "bella", "belinda", "ben")
    await others[0].change("SetProfile", profile=["Bella!", "about me", ""])
    found = await asha.ask("FindUsers", prefix="bel")
    rows = [row("ProfileRow", each) for each in found.profiles]
    assert {each.fields["name"] for each in rows} == {"bella", "belinda"}
    assert len((await asha.ask("FindUsers", prefix="b", limit=2)).profiles) == 2
    assert (await asha.ask("FindUsers", prefix="zz")).profiles == []
    profiles = await asha.ask("FetchProfiles", users=[others[0].user, 4711])
    assert profiles.profiles == [[others[0].user, "bella", ["Bella!", "about me", ""]]]


@pytest.mark.usefixtures("bystanders")
async def test_a_taken_name_stays_taken(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    assert await asha.refusal("Rename", name="ben") == "name_taken"
    assert await asha.refusal("Rename", name="a b\n") == "bad_name"
    await asha.change("Rename", name="cleo")
    assert [row("ProfileRow", each).fields["name"] for each in (await ben.ask("FindUsers", prefix="c")).profiles] == ["cleo"]
    assert await log_in(world, "cleo", PASSWORD) == "Welcome"
    assert await log_in(world, "asha", PASSWORD) == "bad_credentials"


@pytest.mark.usefixtures("bystanders")
async def test_a_device_is_revoked_and_cut_off(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second, third = await world.device("asha"), await world.device("asha")
    revoked = await asha.change("RevokeDevice", device=second.device)
    async with asyncio.timeout(CUT_OFF_S):
        assert await second.lost() == 4504
    event = await third.event(asha.account, revoked.seq)
    assert (event.kind, event.revoked) == ("DeviceRevoked", second.device)
    assert second.device not in [row("DeviceInfo", each).device for each in (await account(asha))[0].devices]
    await second.open()
    with pytest.raises(Refused, match="bad_credentials"):
        await second.hello(wire.credential("TokenCredential", token=second.memory.token))
    assert await second.lost() == 4503
    sent = await ben.send(ben.with_(asha), "still there?")
    await asha.event(ben.with_(asha), sent.seq)


@pytest.mark.usefixtures("bystanders")
async def test_a_device_of_another_is_none_of_ones_business(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    for device in (ben.device, 4711):
        assert await asha.refusal("RenameDevice", device=device, name="mine") == "not_allowed"
        assert await asha.refusal("RevokeDevice", device=device) == "not_allowed"
    await ben.close()
    await ben.come_back()


@pytest.mark.usefixtures("bystanders")
async def test_a_device_logs_out(world: World) -> None:
    asha = await world.person("asha")
    second = await world.device("asha")
    await second.tell("Logout")
    assert await second.lost() == 4504
    await asha.until(lambda: bool(asha.events(asha.account, "DeviceRevoked")))
    assert asha.events(asha.account, "DeviceRevoked")[0].event.revoked == second.device
    await second.open()
    with pytest.raises(Refused, match="bad_credentials"):
        await second.hello(wire.credential("TokenCredential", token=second.memory.token))


async def test_the_password_is_changed_and_others_are_logged_out(world: World) -> None:
    asha = await world.person("asha")
    second = await world.device("asha")
    new = "another long password"
    assert await asha.refusal("ChangePassword", old="wrong", new=new) == "bad_credentials"
    assert await asha.refusal("ChangePassword", old=PASSWORD, new="1") == "weak_password"
    await asha.change("ChangePassword", old=PASSWORD, new=new, revoke_others=False)
    await second.until(lambda: bool(second.events(asha.account, "PasswordChanged")))
    assert second.events(asha.account, "PasswordChanged")[0].event.revoked is False
    await asha.change("ChangePassword", old=new, new=PASSWORD + "!", revoke_others=True)
    assert await second.lost() == 4504
    assert await log_in(world, "asha", PASSWORD) == "bad_credentials"
    assert await log_in(world, "asha", PASSWORD + "!") == "Welcome"
    await asha.close()
    await asha.come_back()


async def test_an_account_is_deleted(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("asha")
    stream = asha.with_(ben)
    await asha.send(stream, "farewell")
    await ben.event(stream, 1)
    assert await asha.refusal("DeleteAccount", confirmation="wrong") == "bad_credentials"
    command, data = asha.command("DeleteAccount", confirmation=PASSWORD)
    await asha.send_bytes(data)
    assert (await asha.lost(), await second.lost()) == (4507, 4507)
    assert command.kind == "DeleteAccount"
    assert await log_in(world, "asha", PASSWORD) == "bad_credentials"
    assert (await ben.ask("FetchProfiles", users=[asha.user])).profiles == []
    assert (await ben.ask("FindUsers", prefix="asha")).profiles == []
    assert await ben.refusal("Send", stream=stream, body=wire.text("are you there?")) == "not_allowed"
    assert "farewell" in str([each.event for each in (await ben.pages("FetchHistory", stream=stream))[:-1]])


async def test_the_export_holds_what_one_wrote(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    await asha.change("SetContact", user=ben.user, label="Benny")
    for number in range(5):
        await asha.send(asha.with_(ben), f"message {number}")
        await ben.send(asha.with_(ben), "somebody else's")
    parts: list[Record] = []
    cursor, more = b"", True
    while more:
        *page, end = await asha.pages("Export", cursor=cursor)
        parts += page
        cursor, more = end.next, end.more
    frames = [(part.fields["name"], ANSWERS.read(part.data)) for part in parts]
    assert [(name, frame.kind) for name, frame in frames if frame is not None] == [
        ("account", "AccountState"),
        ("account", "Contacts"),
        *[("message", "HistoryItem")] * 5,
    ]
    account, contacts, *items = [frame for _, frame in frames if frame is not None]
    assert (account.user, account.fields["name"], contacts.contacts) == (asha.user, "asha", [[ben.user, "Benny"]])
    events = [EVENTS.read(item.event) for item in items]
    assert [event.body for event in events if event is not None] == [wire.text(f"message {number}") for number in range(5)]
    assert {(item.rid, item.stream) for item in items} == {(0, asha.with_(ben))}
