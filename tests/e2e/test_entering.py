"""Hello with every credential, and what may stand behind it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e.bystanders import others_talk
from tests.e2e.conftest import running
from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.independent.line import Refused
from tests.e2e.independent.tables import COMMANDS
from tests.e2e.world import PASSWORD, World

KEY = "a shared key of more than 32 bytes, for tests"
DAY_MS = 24 * 3600 * 1000

Start = Callable[[dict[str, str]], Awaitable[World]]


async def refused(client: Client, kind: str, **fields: object) -> tuple[str, int]:
    """The symbol and the close code that answer a credential."""
    await client.open()
    with pytest.raises(Refused) as caught:
        await client.hello(wire.credential(kind, **fields))
    return caught.value.symbol, await client.lost()


def jwt(subject: str, *, key: str = KEY, **claims: object) -> str:
    """A token of the issuer that the node trusts."""
    issued = int(time.time())
    claims = {"iss": "https://id.example", "aud": "kith", "sub": subject, "iat": issued, "exp": issued + 600} | claims
    parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = hmac.new(key.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _base64(signature)])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_register_then_come_back_by_token(world: World) -> None:
    asha = await world.person("asha")
    welcome = asha.welcome
    assert welcome.version == 1
    assert welcome.fields["name"] == "asha"
    assert len(welcome.token) >= 16
    assert welcome.heartbeat_s == 25
    assert list(asha.limits().fields.values())[:4] == [65536, 16384, 256, 262144]
    assert asha.limits().unanswered == 63
    assert (asha.limits().group_members, asha.limits().subscriptions, asha.limits().edit_window_s) == (1024, 256, 900)
    await asha.close()
    await asha.come_back()
    assert (asha.welcome.user, asha.welcome.device, asha.welcome.token) == (welcome.user, welcome.device, b"")


async def test_a_password_makes_a_new_device_and_the_old_one_learns_it(world: World) -> None:
    asha = await world.person("asha")
    second = await world.device("asha")
    assert (second.user, second.device) != (asha.user, asha.device)
    await asha.until(lambda: len(asha.events(asha.account, "DeviceAdded")) == 2)
    added = asha.events(asha.account, "DeviceAdded")[-1].event
    assert (added.added, added.fields["name"]) == (second.device, "another")


async def test_a_repeat_of_the_request_finds_what_the_first_try_made(world: World) -> None:
    values = {"name": "asha", "password": PASSWORD, "request": wire.request()}
    first = await world.client("first").enter(wire.credential("RegisterCredential", **values))
    again = await world.client("again").enter(wire.credential("RegisterCredential", **values))
    assert (again.user, again.device) == (first.user, first.device)
    values["request"] = wire.request()
    logged_in = await world.client("log-in").enter(wire.credential("PasswordCredential", **values))
    repeated = await world.client("repeated").enter(wire.credential("PasswordCredential", **values))
    assert logged_in.device == repeated.device != first.device


@pytest.mark.usefixtures("bystanders")
async def test_wrong_credentials_say_nothing_about_who_exists(world: World) -> None:
    await world.person("asha")
    client = world.client("stranger")
    request = wire.request()
    for name in ("asha", "nobody"):
        assert await refused(client, "PasswordCredential", name=name, password="wrong", request=request) == (
            "bad_credentials",
            4503,
        )
    assert await refused(client, "TokenCredential", token=b"t" * 32) == ("bad_credentials", 4503)
    assert await refused(client, "JwtCredential", jwt="a.b.c", request=request) == ("bad_credentials", 4503)


@pytest.mark.usefixtures("bystanders")
async def test_a_guessed_code_resets_nothing(world: World) -> None:
    asha = await world.person("asha")
    values = {"name": "asha", "code": "12345", "request": wire.request()}
    for password in ("another long password", PASSWORD):
        symbol, code = await refused(world.client("stranger"), "ResetCredential", password=password, **values)
        assert (symbol, code) == ("bad_invitation", 4503)
    assert (await asha.ask("FetchAccount")).kind == "PageEnd", "the device stays"


@pytest.mark.usefixtures("bystanders")
async def test_a_name_or_a_password_that_is_not_taken(world: World) -> None:
    await world.person("asha")
    client = world.client("stranger")
    values = {"name": "ben", "password": PASSWORD, "request": wire.request()}
    for more, symbol in (
        ({"name": "asha"}, "name_taken"),
        ({"name": "ASHA"}, "name_taken"),
        ({"name": "a b\n"}, "bad_name"),
        ({"password": "1"}, "weak_password"),
    ):
        assert await refused(client, "RegisterCredential", **(values | more)) == (symbol, 4503)


@pytest.mark.usefixtures("bystanders")
async def test_an_aged_token_works_until_its_successor_is_first_used(world: World) -> None:
    asha = await world.person("asha")
    old, device = asha.memory.token, asha.device
    await asha.close()
    world.ahead_ms = 29 * DAY_MS
    await asha.come_back()
    assert asha.welcome.token == b"", "it is not due"
    await asha.close()
    world.ahead_ms = 30 * DAY_MS
    await asha.come_back()
    lost = asha.welcome.token
    assert lost not in (b"", old)
    await asha.close()
    asha.memory.token = old  # as if that Welcome had been lost
    await asha.come_back()
    successor = asha.welcome.token
    assert successor not in (b"", old, lost)
    await asha.close()
    await asha.come_back()
    assert (asha.device, asha.memory.token, asha.welcome.token) == (device, successor, b"")
    for void in (old, lost):
        assert await refused(world.client("thief"), "TokenCredential", token=void) == ("bad_credentials", 4503)
    await asha.close()
    await asha.come_back()
    assert asha.device == device


async def start_with_two(folder: Path, start: Start, flags: dict[str, str]) -> tuple[World, list[Client]]:
    """A node with more settings, and two who registered before it had them."""
    async with running(folder, {}) as before:
        await before.people("yara", "zeno")
    world = await start(flags)
    return world, [await world.device(name) for name in ("yara", "zeno")]


async def test_registration_is_closed(tmp_path: Path, start: Start) -> None:
    world, pair = await start_with_two(tmp_path, start, {"auth.registration": "closed"})
    values = {"name": "asha", "password": PASSWORD, "request": wire.request()}
    async with others_talk(world, pair=pair):
        assert await refused(world.client("asha"), "RegisterCredential", **values) == ("registration_closed", 4503)


async def test_registration_by_invitation_asks_for_one(tmp_path: Path, start: Start) -> None:
    world, pair = await start_with_two(tmp_path, start, {"auth.registration": "invite"})
    values = {"name": "asha", "password": PASSWORD, "request": wire.request()}
    async with others_talk(world, pair=pair):
        for invitation in ("", "guessed"):
            answer = await refused(world.client("asha"), "RegisterCredential", **values, invitation=invitation)
            assert answer == ("bad_invitation", 4503)


async def test_a_jwt_makes_the_account_at_first_sight(start: Start) -> None:
    issuer = {"issuer": "https://id.example", "audience": "kith", "algorithm": "HS256", "key": KEY}
    world = await start({"auth.jwt": json.dumps([issuer])})
    client = world.client("asha")
    welcome = await client.enter(wire.credential("JwtCredential", jwt=jwt("asha-1"), request=wire.request()))
    again = await world.client("again").enter(wire.credential("JwtCredential", jwt=jwt("asha-1"), request=wire.request()))
    other = await world.client("ben").enter(wire.credential("JwtCredential", jwt=jwt("ben-1"), request=wire.request()))
    assert again.user == welcome.user != other.user
    assert again.device != welcome.device
    async with others_talk(world):
        for bad in (jwt("x", key="k" * 40), jwt("x", aud="other"), jwt("x", exp=1), jwt("x", iss="other")):
            found = await refused(world.client("x"), "JwtCredential", jwt=bad, request=wire.request())
            assert found == ("bad_credentials", 4503)
    await client.close()
    await client.come_back()
    assert client.welcome.user == welcome.user


async def test_commands_behind_hello_are_held_and_carried_out(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await asha.close()
    await asha.open()
    token = wire.credential("TokenCredential", token=asha.memory.token)
    hello = wire.pack(COMMANDS.write("Hello", {"rid": 1, "lowest_version": 1, "highest_version": 9, "credential": token}))
    await asha.send_bytes(hello)
    for number in range(64):
        await asha.start_sending(stream, f"{number}")
    await ben.event(stream, 64)
    await asha.until(lambda: not asha.memory.commands)
    assert asha.texts(stream) == ben.texts(stream) == [f"{number}" for number in range(64)]


@pytest.mark.usefixtures("bystanders")
async def test_no_version_in_common(world: World) -> None:
    client = world.client("later")
    await client.open()
    with pytest.raises(Refused) as caught:
        await client.hello(wire.credential("TokenCredential", token=b"t" * 32), lowest=2, highest=3)
    assert (caught.value.symbol, await client.lost()) == ("unsupported_version", 4505)
