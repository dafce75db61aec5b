"""What a stop, a restart and a crash of the process leave, and what the operator's commands do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.independent import wire
from tests.e2e.independent.line import Refused
from tests.e2e.independent.tables import row
from tests.e2e.process import Server
from tests.e2e.world import PASSWORD

Serve = Callable[[dict[str, str]], Awaitable[Server]]


async def test_a_stop_tells_everybody_when_to_come_back(serve: Serve) -> None:
    server = await serve({})
    asha, ben = await server.world.people("asha", "ben")
    stream = asha.with_(ben)
    await asha.send(stream, "before")
    await ben.event(stream, 1)
    assert await server.stop() == 0
    for who in (asha, ben):
        assert await who.lost() == 1012
        assert who.all("GoingAway")[-1].retry_after_ms > 0
    await server.start()
    await asha.come_back()
    sent = await asha.send(stream, "after")
    await ben.come_back()
    await ben.event(stream, sent.seq)
    assert ben.texts(stream) == ["before", "after"]
    assert ben.inbox.jumps == []


async def test_what_was_answered_survives_a_crash(serve: Serve) -> None:
    server = await serve({})
    asha, ben = await server.world.people("asha", "ben")
    stream = asha.with_(ben)
    await ben.close()
    answered = [await asha.send(stream, f"answered {number}") for number in range(20)]
    for number in range(20):
        await asha.start_sending(stream, f"unknown {number}")
    await server.kill()
    await asha.lost()
    unanswered = len(asha.memory.commands)
    await server.start()
    await asha.come_back()
    await asha.until(lambda: not asha.memory.commands)
    await ben.come_back()
    await ben.event(stream, 40)
    expected = [f"answered {number}" for number in range(20)] + [f"unknown {number}" for number in range(20)]
    assert ben.texts(stream) == expected, f"{unanswered} were unanswered"
    assert asha.texts(stream) == expected
    assert [each.seq for each in answered] == list(range(1, 21))


async def test_a_repeat_is_recognised_after_a_crash(serve: Serve) -> None:
    server = await serve({})
    asha, ben = await server.world.people("asha", "ben")
    stream = asha.with_(ben)
    command, data = asha.command("Send", stream=stream, body=wire.text("once"))
    first = (await asha.answer_to("Send", command.rid, data))[0]
    await server.kill()
    await asha.lost()
    await server.start()
    await asha.come_back()
    assert (await asha.answer_to("Send", command.rid, data))[0].fields == first.fields
    assert await asha.refusal("Send", stream=stream, body=wire.text("else"), counter=command.counter) == "counter_reused"
    assert (await asha.send(stream, "next")).seq == 2


async def test_a_reset_code_gives_a_new_password_and_logs_everybody_out(serve: Serve) -> None:
    server = await serve({})
    asha, ben = await server.world.people("asha", "ben")
    await asha.send(asha.with_(ben), "kept")
    code = (await server.command("user", "reset", "asha")).split()[-1]
    values = {"name": "asha", "code": code, "password": "another long password", "request": wire.request()}
    fresh = server.world.client("fresh")
    welcome = await fresh.enter(wire.credential("ResetCredential", **values))
    assert (welcome.user, welcome.device != asha.device) == (asha.user, True)
    assert await asha.lost() == 4504
    state, *_ = await fresh.pages("FetchAccount")
    assert [row("DeviceInfo", each).device for each in state.devices] == [fresh.device], "no other is left"
    again = await server.world.client("again").enter(wire.credential("ResetCredential", **values))
    assert again.device == welcome.device, "the same request finds the device that the first try made"
    other = server.world.client("other")
    await other.open()
    changed = values | {"request": wire.request(), "password": "a third long password"}
    with pytest.raises(Refused, match="bad_invitation"):
        await other.hello(wire.credential("ResetCredential", **changed))
    await other.lost()
    await other.open()
    with pytest.raises(Refused, match="bad_credentials"):
        await other.hello(wire.credential("PasswordCredential", name="asha", password=PASSWORD, request=wire.request()))


async def test_invitations_let_people_in(serve: Serve) -> None:
    server = await serve({"auth.registration": "invite"})
    invitation = (await server.command("invite", "--uses", "2")).split()[-1]
    asha = await server.world.person("asha", invitation=invitation)
    ben = await server.world.person("ben", invitation=invitation)
    sent = await asha.send(asha.with_(ben), "we are in")
    await ben.event(asha.with_(ben), sent.seq)
    with pytest.raises(Refused, match="bad_invitation"):
        await server.world.person("cleo", invitation=invitation)


async def test_the_operator_revokes_a_device(serve: Serve) -> None:
    server = await serve({})
    asha = await server.world.person("asha")
    second = await server.world.device("asha")
    assert str(second.device) in await server.command("user", "devices", "asha")
    await server.command("revoke", "asha", str(second.device))
    assert await second.lost() == 4504
    await asha.until(lambda: bool(asha.events(asha.account, "DeviceRevoked")))
    assert asha.events(asha.account, "DeviceRevoked")[0].event.revoked == second.device
