"""The public port: who gets in, as whom, over what; HTTP beside it; and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import BINARY, Frame

from auth.identity import Admission
from gateway import door, guests, hub, limits, proxy, vigil
from gateway import http as http_
from protocol import codec, codes, messages
from tests.gateway import world

HELLO = Frame(BINARY, world.hello()).serialize(mask=True)


class Peers:
    """Lets everybody in and notes from where."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, hello: messages.Hello, version: int, peer: str) -> Admission:
        self.seen.append(peer)
        return await world.admit_all(hello, version, peer)


# --- HTTP -------------------------------------------------------------------------------------------------------------


async def test_the_public_port_says_what_it_is_and_knows_no_other_page() -> None:
    async with world.running() as node, aiohttp.ClientSession(f"http://127.0.0.1:{node.port}") as http:
        async with http.get("/") as response:
            assert response.status == 200
            assert "Kith" in await response.text()
            assert "Server" not in response.headers
        async with http.get("/nothing") as response:
            assert response.status == 404
        async with http.get("/ws") as response:
            assert response.status == 426
        async with http.get("/metrics") as response:
            assert response.status == 404
        assert node.counters.requests == {"200": 1, "404": 2, "426": 1}


async def test_aiohttps_client_gets_its_upgrade_on_a_connection_that_it_used_before() -> None:
    async with world.running() as node, aiohttp.ClientSession(f"http://127.0.0.1:{node.port}") as http:
        node.sessions.on_command = lambda sink, command: sink.reply(codec.encode(messages.Sent(command.frame.rid, 1, 1, 1)))
        async with http.get("/") as response:
            await response.read()
        assert node.gateway.hub.connections == 1
        async with http.ws_connect("/ws", protocols=[world.SUBPROTOCOL]) as client:
            assert node.gateway.hub.connections == 1
            await client.send_bytes(world.hello())
            assert isinstance(codec.decode_server(await client.receive_bytes()), messages.Welcome)
            await client.send_bytes(world.send(1, rid=1))
            assert codec.decode_server(await client.receive_bytes()) == messages.Sent(1, 1, 1, 1)
        await node.sessions.until(lambda: node.sessions.detached)
        await node.settled(lambda: not node.gateway.hub.connections)


async def test_a_kept_connection_that_brings_frames_with_its_upgrade_is_read_no_further_than_any_other() -> None:
    let_in = asyncio.Event()

    async def admit(hello: messages.Hello, version: int, peer: str) -> Admission:
        await let_in.wait()
        return await world.admit_all(hello, version, peer)

    async with world.running(admit=admit) as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await source.readuntil(b"\r\n\r\n")
        frames = [world.hello(), *(world.send(counter, rid=counter) for counter in range(1, 11))]
        sink.write(world.UPGRADE + b"".join(Frame(BINARY, each).serialize(mask=True) for each in frames))
        await node.settled(lambda: any(socket._holds for socket in node.sockets))
        (socket,) = node.sockets
        sink.write(bytes(1_000_000))
        before = node.counters.bytes_in
        for _ in range(200):
            await asyncio.sleep(0)
        assert node.counters.bytes_in == before, "nothing is read while its credential is checked"
        sink.transport.abort()
        let_in.set()
        await node.settled(lambda: socket not in node.sockets)


async def test_a_kept_connection_whose_upgrade_is_refused_is_told_so() -> None:
    async with world.running() as node, aiohttp.ClientSession(f"http://127.0.0.1:{node.port}") as http:
        async with http.get("/") as response:
            await response.read()
        for protocol, origin, status in (
            ("other", None, 400),
            (world.SUBPROTOCOL, "https://evil.example.org", 403),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await http.ws_connect("/ws", protocols=[protocol], origin=origin)
            assert raised.value.status == status


async def test_the_operators_port_gives_metrics_and_says_what_is_wrong() -> None:
    problems: list[str] = []
    async with world.running(is_healthy=lambda: problems, is_ready=lambda: ["still starting"]) as node:
        host, port = node.gateway.internal_addresses[0]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as http, node.client():
            async with http.get("/metrics") as response:
                text = await response.text()
            assert "kith_connections 1.0" in text
            assert "kith_connections_opened_total 1.0" in text
            async with http.get("/healthz") as response:
                assert response.status == 200
            problems.append("the disk is full")
            async with http.get("/healthz") as response:
                assert (response.status, await response.text()) == (503, "the disk is full\n")
            async with http.get("/readyz") as response:
                assert (response.status, await response.text()) == (503, "still starting\n")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET /ws\r\n\r\n", b"A" * 20_000])
async def test_what_is_no_http_is_answered_or_cut_and_others_go_on(data: bytes) -> None:
    async with world.running() as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(data)
        assert (await source.read())[5:].startswith((b"1.1 4", b"1.0 4", b"0.9 4"))
        sink.close()
        async with node.client():
            pass


async def test_a_head_that_never_ends_and_a_connection_that_says_nothing_are_cut_in_time() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node:
        silent = await asyncio.open_connection("127.0.0.1", node.port)
        halting = await asyncio.open_connection("127.0.0.1", node.port)
        halting[1].write(b"GET /ws HTTP/1.1\r\n")
        await node.settled(lambda: len(node.gateway.hub.pending) == 2)
        clock.now += 11
        node.gateway.beat()
        for source, sink in (silent, halting):
            assert await world.was_cut(source)
            sink.close()
        await node.settled(lambda: not node.gateway.hub.connections)
        assert node.counters.connections_refused["timeout"] == 2


async def pipelined(node: world.World, requests: bytes) -> bytes:
    """All that is answered to bytes sent at once, until the server closes."""
    source, sink = await asyncio.open_connection("127.0.0.1", node.port)
    sink.write(requests)
    answers = await source.read()
    sink.close()
    return answers


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_connection_gets_so_many_pages_and_the_last_one_says_so() -> None:
    async with world.running() as node:
        answers = await pipelined(node, GET * 1000)
        assert answers.count(b"HTTP/1.1 200 ") == guests.MAX_REQUESTS == node.counters.requests["200"]
        assert answers.lower().count(b"connection: close") == 1
        await node.settled(lambda: not node.gateway.hub.connections)


async def test_pages_are_paid_by_the_address_as_commands_are() -> None:
    async with world.running(clock=world.Clock(), limit_options={"address_commands_s": 4.0}) as node:
        assert (await pipelined(node, GET * 4 + GET)).count(b"HTTP/1.1 200 ") == 4
        assert (await pipelined(node, GET)).startswith(b"HTTP/1.1 429 ")
        assert node.counters.requests == {"200": 4, "429": 2}
        assert node.counters.limited == {"address": 2}


async def test_what_is_malformed_is_answered_without_a_word_about_the_server_and_without_a_log_entry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world.running() as node:
        answers = await pipelined(node, b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n")
        assert answers.startswith(b"HTTP/1.1 400 ")
        assert b"server:" not in answers.lower()
        assert b"aiohttp" not in answers.lower()
        assert node.counters.requests == {"400": 1}
        await node.settled(lambda: not node.gateway.hub.connections)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_an_http_connection_lives_only_so_long_whatever_it_does() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        await node.settled(lambda: node.counters.requests)
        node.pass_time(guests.LIFETIME_S - 2)
        assert node.gateway.hub.guests
        node.pass_time(4)
        await node.settled(lambda: not node.gateway.hub.connections)
        assert not node.gateway.hub.guests
        sink.close()
        with contextlib.suppress(ConnectionResetError):
            await source.read()


async def test_a_long_head_is_told_so_although_more_comes_behind_it() -> None:
    clock = world.Clock()
    async with world.running(clock=clock) as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(b"GET /ws HTTP/1.1\r\nX: " + b"A" * 2_000_000)
        assert (await source.read()).startswith(b"HTTP/1.1 431 ")
        node.pass_time(vigil.CLOSE_GRACE_S + 1)  # who does not close then is cut
        await node.settled(lambda: not node.gateway.hub.connections)
        assert node.counters.connections_refused == {"head": 1}
        sink.close()


# --- origins ----------------------------------------------------------------------------------------------------------


async def test_only_listed_origins_may_connect_and_programs_without_one_always_may() -> None:
    async with world.running(listener_options={"origins": ("https://chat.example.org",)}) as node:
        for origin in (None, "https://chat.example.org"):
            async with node.client(origin=origin):
                pass
        for origin in ("https://evil.example.org", "null"):
            with pytest.raises(InvalidStatus) as raised:
                await node.connect(origin=origin)
            assert raised.value.response.status_code == 403


async def test_without_a_list_only_pages_of_the_same_host_may_connect() -> None:
    async with world.running() as node:
        async with node.client(origin=f"http://127.0.0.1:{node.port}"):
            pass
        for origin in ("http://127.0.0.1:1", "http://localhost", "null"):
            with pytest.raises(InvalidStatus) as raised:
                await node.connect(origin=origin)
            assert raised.value.response.status_code == 403


# --- proxies ----------------------------------------------------------------------------------------------------------

BEHIND = {"behind_proxy": ("127.0.0.0/8",)}


async def test_x_forwarded_for_is_believed_of_a_trusted_proxy_alone() -> None:
    peers = Peers()
    headers = {"X-Forwarded-For": "6.6.6.6, 192.0.2.1"}
    async with world.running(admit=peers, listener_options=BEHIND) as node, node.client(additional_headers=headers):
        assert [socket._address.key for socket in node.sockets if socket._address] == ["192.0.2.1"]
    async with (
        world.running(admit=peers, listener_options={"behind_proxy": ("192.0.2.0/24",)}) as node,
        node.client(additional_headers=headers),
    ):
        pass
    assert peers.seen == ["192.0.2.1", "127.0.0.1"]


async def test_a_connection_that_a_proxy_uses_for_several_clients_counts_for_the_one_who_upgrades_it() -> None:
    peers = Peers()
    async with (
        world.running(admit=peers, listener_options=BEHIND, limit_options={"connections_per_address": 1}) as node,
        aiohttp.ClientSession(f"http://127.0.0.1:{node.port}") as http,
    ):
        addresses = node.gateway.hub.addresses

        async def page(client: str) -> None:
            async with http.get("/", headers={"X-Forwarded-For": client}) as response:
                assert response.status == 200
                await response.read()

        await page("192.0.2.1")
        headers = {"X-Forwarded-For": "192.0.2.2"}
        async with http.ws_connect("/ws", protocols=[world.SUBPROTOCOL], headers=headers) as client:
            await client.send_bytes(world.hello())
            await client.receive_bytes()
            assert peers.seen == ["192.0.2.2"]
            assert [socket._address.key for socket in node.sockets if socket._address] == ["192.0.2.2"]
            await page("192.0.2.3")
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                await http.ws_connect("/ws", protocols=[world.SUBPROTOCOL], headers=headers)
            assert raised.value.status == 429
    assert not addresses._used


@pytest.mark.parametrize(
    ("certified", "host", "is_served"), [(False, "192.0.2.9", False), (False, "127.0.0.1", True), (True, "192.0.2.9", True)]
)
async def test_who_comes_past_the_proxy_that_ends_tls_is_not_served_in_plain_text(
    certified: bool, host: str, is_served: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_host", lambda _transport: host)
    options = {"behind_proxy": ("198.51.100.0/24",), **(with_tls(tmp_path) if certified else {})}
    async with world.running(listener_options=options, tls=trusting() if certified else None) as node:
        if is_served:
            async with node.client():
                pass
        else:
            source, sink = await asyncio.open_connection("127.0.0.1", node.port)
            assert await world.was_cut(source)
            sink.close()
            assert node.counters.connections_refused == {"plain": 1}


def v2(host: bytes) -> bytes:
    return proxy.SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12 + 7) + host + bytes(8) + b"\x04\x00\x04abcd"


@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 192.0.2.1 127.0.0.1 5000 443\r\n", v2(bytes((192, 0, 2, 1)))], ids=["v1", "v2"]
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_proxy_header_names_the_client_and_not_a_byte_after_it_is_lost(header: bytes, at_once: bool) -> None:
    peers = Peers()
    options = {**BEHIND, "client_address": "proxy-protocol"}
    async with world.running(admit=peers, listener_options=options) as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(header + world.UPGRADE if at_once else header)
        if not at_once:
            await node.settled(lambda: len(node.gateway.hub.addresses))
            sink.write(world.UPGRADE)
        assert (await source.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        sink.write(HELLO)
        await node.sessions.until(lambda: node.sessions.sinks)
        assert peers.seen == ["192.0.2.1"]
        sink.close()


async def test_a_proxys_own_health_check_needs_no_client_and_a_missing_header_is_cut() -> None:
    options = {**BEHIND, "client_address": "proxy-protocol"}
    async with world.running(listener_options=options) as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await source.read()).startswith(b"HTTP/1.1 200 ")
        sink.close()
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(world.UPGRADE)
        assert await world.was_cut(source)
        sink.close()
        await node.settled(lambda: not node.gateway.hub.connections)


async def test_who_is_no_proxy_connects_directly_and_its_proxy_header_is_not_http() -> None:
    options = {"behind_proxy": ("192.0.2.0/24",), "client_address": "proxy-protocol"}
    async with world.running(listener_options=options) as node:
        async with node.client():
            pass
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(b"PROXY TCP4 192.0.2.1 127.0.0.1 5000 443\r\n" + world.UPGRADE)
        assert (await source.read()).startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
        sink.close()


# --- TLS --------------------------------------------------------------------------------------------------------------


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A fresh self-signed certificate for 127.0.0.1, written over the older one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def name_of(client: ClientConnection) -> str:
    """The common name in the certificate that a client was shown."""
    shown = client.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return str(x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def with_tls(tmp_path: Path) -> dict[str, Path]:
    certificate, key = certify(tmp_path, "first")
    return {"tls_certificate": certificate, "tls_key": key}


async def test_a_renewed_certificate_serves_new_connections_and_old_ones_live_on(tmp_path: Path) -> None:
    async with world.running(listener_options=with_tls(tmp_path), tls=trusting()) as node, node.client(1) as old:
        node.sessions.on_command = lambda sink, command: sink.reply(codec.encode(messages.Sent(command.frame.rid, 1, 1, 1)))
        assert name_of(old) == "first"
        certify(tmp_path, "second")
        assert node.gateway.reload()
        async with node.client(2) as new:
            assert name_of(new) == "second"
        (tmp_path / "key.pem").write_text("damaged")
        assert not node.gateway.reload()
        async with node.client(3) as new:
            assert name_of(new) == "second"
        await old.send(world.send(1, rid=1))
        assert await world.received(old) == [messages.Sent(1, 1, 1, 1)]


async def test_https_is_served_on_the_same_port(tmp_path: Path) -> None:
    async with world.running(listener_options=with_tls(tmp_path)) as node, aiohttp.ClientSession() as http:
        async with http.get(f"https://127.0.0.1:{node.port}/", ssl=trusting()) as response:
            assert response.status == 200
        async with http.ws_connect(f"wss://127.0.0.1:{node.port}/ws", ssl=trusting(), protocols=[world.SUBPROTOCOL]) as client:
            await client.send_bytes(world.hello())
            assert isinstance(codec.decode_server(await client.receive_bytes()), messages.Welcome)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_older_than_1_2_and_plain_text_are_refused_and_leave_nothing_behind(tmp_path: Path) -> None:
    old = trusting()
    old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with world.running(listener_options=with_tls(tmp_path)) as node:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await asyncio.open_connection("127.0.0.1", node.port, ssl=old)
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(world.UPGRADE)
        await world.was_cut(source)  # or told so by an alert of TLS
        sink.close()
        await node.settled(lambda: not node.gateway.hub.connections)
        assert not node.gateway.hub.pending


async def test_a_tls_handshake_that_stands_still_is_cut_in_time(tmp_path: Path) -> None:
    clock = world.Clock()
    async with world.running(clock=clock, listener_options=with_tls(tmp_path)) as node:
        _, sink = await asyncio.open_connection("127.0.0.1", node.port)
        await node.settled(lambda: node.gateway.hub.pending)
        clock.now += 11
        node.gateway.beat()
        await node.settled(lambda: not node.gateway.hub.connections)
        sink.close()


async def test_a_proxy_header_comes_before_tls_even_in_the_same_segment(tmp_path: Path) -> None:
    peers = Peers()
    options = {**with_tls(tmp_path), **BEHIND, "client_address": "proxy-protocol"}
    async with world.running(admit=peers, listener_options=options) as node:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting().wrap_bio(incoming, outgoing)
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        header = v2(bytes((192, 0, 2, 1)))

        async def step(action: Callable[[], object]) -> object:
            nonlocal header
            while True:
                try:
                    result = action()
                except ssl.SSLWantReadError:
                    result = None
                sink.write(header + outgoing.read())
                header = b""
                if result is not None:
                    return result
                incoming.write(await source.read(2**16))

        def handshake() -> bool:
            tls.do_handshake()
            return True

        await step(handshake)
        await step(lambda: tls.write(world.UPGRADE))
        answer = await step(lambda: tls.read(4096))
        assert isinstance(answer, bytes)
        assert answer.startswith(b"HTTP/1.1 101 ")
        await step(lambda: tls.write(HELLO))
        await node.sessions.until(lambda: node.sessions.sinks)
        assert peers.seen == ["192.0.2.1"]
        sink.close()


async def test_an_unusable_certificate_keeps_the_node_from_starting(tmp_path: Path) -> None:
    options = with_tls(tmp_path)
    options["tls_key"].write_text("damaged")
    with pytest.raises(OSError, match=r".*"):
        async with world.running(listener_options=options):
            pass


# --- how many ---------------------------------------------------------------------------------------------------------


async def test_beyond_the_limit_a_client_hears_1013_and_when_to_come_back() -> None:
    async with world.running(max_connections=1) as node, node.client(1) as first:
        async with node.connect() as second:
            code, frames = await world.remainder(second)
        assert code == codes.FULL.code
        (going,) = frames
        assert isinstance(going, messages.GoingAway)
        assert going.retry_after_ms > 0
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{node.port}/") as response:
            assert response.status == 503
            assert response.headers["Retry-After"]
        assert first.state.name == "OPEN"
    assert node.counters.connections_refused["full"] >= 2


async def test_far_beyond_the_limit_tcp_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FULL_MARGIN", 0)
    async with world.running(max_connections=1) as node, node.client():
        with pytest.raises((ConnectionResetError, ConnectionClosed, EOFError, Exception)) as raised:
            await node.connect()
        assert not isinstance(raised.value, InvalidStatus)
        await node.settled(lambda: node.gateway.hub.connections == 1)


async def test_of_too_many_that_are_not_open_the_oldest_goes_and_an_honest_client_still_gets_in() -> None:
    async with world.running() as node:
        node.gateway.hub.max_pending = 20
        idle = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(60)]
        await node.settled(lambda: node.counters.connections_refused["half_open"] >= 40)
        assert len(node.gateway.hub.pending) == 20
        async with node.client():
            assert len(node.gateway.hub.pending) <= 20
        for _, sink in idle:
            sink.close()
        await node.settled(lambda: not node.gateway.hub.connections)
        assert not node.gateway.hub.pending


async def test_an_address_with_too_many_connections_gets_no_more() -> None:
    async with world.running(limit_options={"connections_per_address": 2}) as node, node.client(1), node.client(2):
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        assert await world.was_cut(source)
        sink.close()
        assert node.counters.connections_refused["address"] == 1


async def test_behind_a_proxy_the_address_in_the_head_is_limited_with_an_answer() -> None:
    one = {"X-Forwarded-For": "192.0.2.1"}
    options = {"limit_options": {"connections_per_address": 1}, "listener_options": BEHIND}
    async with world.running(**options) as node, node.client(1, additional_headers=one):  # type: ignore[arg-type]
        with pytest.raises(InvalidStatus) as raised:
            await node.connect(additional_headers=one)
        assert raised.value.response.status_code == 429
        async with node.client(2, additional_headers={"X-Forwarded-For": "192.0.2.2"}):
            pass


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_a_stop_sends_what_waits_and_1012_with_a_hint_to_everybody_and_ends() -> None:
    async with world.running() as node, node.client(1) as one, node.client(2) as two:
        node.sink(1).offer(codec.encode(messages.CaughtUp(0)), 1)
        stopping = asyncio.create_task(node.gateway.stop(2000, 5.0))
        for client, waiting in ((one, [messages.CaughtUp(0)]), (two, [])):
            code, frames = await world.remainder(client)
            assert code == 1012
            assert frames[:-1] == waiting
            going = frames[-1]
            assert isinstance(going, messages.GoingAway)
            assert 2000 <= going.retry_after_ms <= 4000
        await stopping
        assert sorted(node.sessions.detached) == [1001, 1002]
        assert not node.sockets
        assert node.gateway.hub.connections == 0


async def test_a_stop_waits_no_longer_than_it_may_for_who_does_not_answer() -> None:
    async with world.running() as node:
        _, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(world.UPGRADE + HELLO)
        await node.sessions.until(lambda: node.sessions.sinks)
        await node.gateway.stop(0, 0.05)
        await node.settled(lambda: not node.sockets)
        sink.close()


async def test_nobody_gets_in_while_the_node_stops() -> None:
    async with world.running() as node:
        source, sink = await asyncio.open_connection("127.0.0.1", node.port)
        await node.settled(lambda: node.gateway.hub.pending)
        await node.gateway.stop(0, 1.0)
        assert await world.was_cut(source)
        sink.close()


async def test_who_is_being_let_in_when_the_node_is_about_to_stop_is_told_to_come_back() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def admit(hello: messages.Hello, version: int, peer: str) -> Admission:
        began.set()
        await go_on.wait()
        return await world.admit_all(hello, version, peer)

    async with world.running(admit=admit) as node, node.connect() as client:
        await client.send(world.hello())
        await began.wait()
        node.gateway.pause()
        go_on.set()
        code, frames = await world.remainder(client)
        assert code == codes.RESTART.code
        assert isinstance(frames[-1], messages.GoingAway)
        assert not node.sessions.told


async def test_an_upgrade_that_comes_when_the_node_is_about_to_stop_is_told_to_come_back() -> None:
    async with world.running() as node, aiohttp.ClientSession(f"http://127.0.0.1:{node.port}") as http:
        async with http.get("/") as response:
            await response.read()
        node.gateway.hub.is_stopping = True
        async with http.ws_connect("/ws", protocols=[world.SUBPROTOCOL]) as client:
            await client.receive()
            assert (await client.receive()).type is aiohttp.WSMsgType.CLOSE
            assert client.close_code == codes.RESTART.code


async def test_http_is_not_read_any_more_when_the_node_is_about_to_stop_and_holds_up_no_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_, "SHUTDOWN_S", 1e6)
    async with world.running() as node:
        idle_source, idle = await asyncio.open_connection("127.0.0.1", node.port)
        idle.write(GET)
        await idle_source.readuntil(b"\r\n\r\n")
        _, sink = await asyncio.open_connection("127.0.0.1", node.port)
        sink.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        await node.settled(lambda: node.counters.requests["405"])
        node.gateway.pause()
        idle.write(GET)
        for _ in range(50):
            await asyncio.sleep(0)
        assert node.counters.requests["200"] == 1
        await node.gateway.stop(0, 1.0)
        assert not node.gateway.hub.guests
        for each in (idle, sink):
            each.close()


def test_who_comes_beyond_the_limit_fits_into_the_files_that_are_kept_free() -> None:
    import config

    assert limits.FULL_MARGIN < config.RESERVED_FILES
    assert hub.BEAT_S <= 1.0
