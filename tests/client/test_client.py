"""The client through real sockets, against the model server."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from client import api, errors, keeper, store
from client import client as client_module
from client.api import text_body
from client.client import Client
from client.updates import Connected, Disconnected, NotKept, StreamEvent
from protocol import codec, codes, events, ids, messages
from tests.client.conftest import Node


def register(name: str) -> messages.RegisterCredential:
    return messages.RegisterCredential(name, "a good password", name.ljust(16).encode())


def no_wait() -> float:
    """Jitter for tests: come back at once."""
    return 0.0


def text_of(event: StreamEvent) -> str:
    assert isinstance(event.event, events.Message)
    body = events.decode_body(event.event.body)
    assert isinstance(body, events.Text)
    return body.text


U = TypeVar("U")


async def next_of(client: Client, kind: type[U]) -> U:
    """The next update of this kind."""
    while True:
        update = await client.receive()
        if isinstance(update, kind):
            return update


async def next_event(client: Client) -> StreamEvent:
    return await next_of(client, StreamEvent)


async def drain(client: Client) -> list[object]:
    """Everything that comes until it ends."""
    return [update async for update in client.updates()]


async def test_two_people_register_and_talk(node: Node) -> None:
    async with (
        Client(node.url, register("asha"), strict=True) as asha,
        Client(node.url, register("ben"), strict=True) as ben,
    ):
        opened = await asha.open(ben.identity.user)
        sent = await asha.send_text(opened.stream, "hi")
        theirs = await next_event(ben)
        mine = await next_event(asha)
        assert (theirs.stream, theirs.seq, text_of(theirs), theirs.own) == (opened.stream, sent.seq, "hi", False)
        assert (mine.stream, mine.seq, text_of(mine), mine.own) == (opened.stream, sent.seq, "hi", True)
        assert mine.missing == (), "the first words to somebody are fetched: they may be a message request"
        await asha.send_text(opened.stream, "again")
        assert (await next_event(asha)).missing == ("expires_at", "flags")


async def test_a_cut_connection_loses_nothing_and_repeats_nothing(node: Node) -> None:
    async with (
        Client(node.url, register("asha"), random_float=no_wait, strict=True) as asha,
        Client(node.url, register("ben"), random_float=no_wait, strict=True) as ben,
    ):
        stream = ids.direct_stream(asha.identity.user, ben.identity.user)
        waiting = []
        for number in range(60):
            waiting.append(asyncio.ensure_future(asha.send_text(stream, str(number))))
            await asyncio.sleep(0)
            if number % 20 == 10:
                node.cut()
        await asyncio.gather(*waiting)
        for client in (asha, ben):
            assert [text_of(await next_event(client)) for _ in range(60)] == [str(number) for number in range(60)]
        assert len(node.server.logs[stream].entries) == 60


async def test_what_is_taken_is_acknowledged_and_does_not_come_again(node: Node) -> None:
    async with Client(node.url, register("asha")) as asha:
        async with Client(node.url, register("ben")) as ben:
            stream = ids.direct_stream(asha.identity.user, ben.identity.user)
            for number in range(3):
                await asha.send_text(stream, str(number))
            assert text_of(await next_event(ben)) == "0"
            assert text_of(await next_event(ben)) == "1"
            token = ben.identity.token
        async with Client(node.url, messages.TokenCredential(token)) as again:
            assert text_of(await next_event(again)) == "2"


async def test_an_event_that_an_error_interrupted_comes_again(node: Node) -> None:
    kept = store.MemoryStore()
    async with Client(node.url, register("ben"), kept=kept) as ben:
        stream = ids.direct_stream(ben.identity.user, ben.identity.user + 1)
    async with Client(node.url, register("asha")) as asha:
        await asha.send_text(stream, "first")
        await asha.send_text(stream, "second")
    with pytest.raises(ZeroDivisionError):
        await stumble_at_the_second(Client(node.url, kept=kept))
    async with Client(node.url, kept=kept) as again:
        assert text_of(await next_event(again)) == "second"


async def stumble_at_the_second(client: Client) -> None:
    async with client:
        async for event in client.events():
            if text_of(event) == "second":
                raise ZeroDivisionError


async def test_an_event_that_was_out_when_the_client_was_closed_comes_again(node: Node) -> None:
    """Whoever closes in a `finally` has not said that the event was dealt with."""
    kept = store.MemoryStore()
    ben = Client(node.url, register("ben"), kept=kept)
    await ben.start()
    stream = ids.direct_stream(ben.identity.user, ben.identity.user)
    await ben.send_text(stream, "first")
    await ben.send_text(stream, "second")
    async for event in ben.events():
        if text_of(event) == "second":
            break
    await ben.close()
    assert kept.saved.cursors == {stream.hex(): 1}
    async with Client(node.url, kept=kept) as again:
        assert text_of(await next_event(again)) == "second"


async def test_wrong_credentials_are_refused_with_their_code(node: Node) -> None:
    with pytest.raises(codes.Refused) as refused:
        await Client(node.url, messages.TokenCredential(b"never-heard-of-it")).start()
    assert refused.value.error is codes.BAD_CREDENTIALS


async def test_a_refused_command_raises_its_code_and_the_next_one_works(node: Node) -> None:
    async with Client(node.url, register("asha")) as asha:
        stream = ids.direct_stream(asha.identity.user, asha.identity.user)
        node.server.refuse = [codes.Refused(codes.TOO_LONG, "body: at most 16384 bytes")]
        with pytest.raises(codes.Refused) as refused:
            await asha.send_text(stream, "x")
        assert refused.value.error is codes.TOO_LONG
        assert (await asha.send_text(stream, "y")).seq == 1


async def test_a_temporary_refusal_is_not_the_applications_business(node: Node) -> None:
    async with Client(node.url, register("asha")) as asha:
        stream = ids.direct_stream(asha.identity.user, asha.identity.user)
        node.server.refuse = [codes.Refused(codes.BUSY, retry_after_ms=1), codes.Refused(codes.UNKNOWN, retry_after_ms=1)]
        assert (await asha.send_text(stream, "x")).seq == 1
        node.server.refuse = [codes.Refused(codes.BUSY, retry_after_ms=1)]
        assert (await asha.open(asha.identity.user)).head == 1


async def test_a_final_close_ends_the_client_and_tells_why(node: Node) -> None:
    async with Client(node.url, register("asha")) as asha:
        await node.close(codes.REVOKED)
        with pytest.raises(errors.Closed) as closed:
            await drain(asha)
        assert closed.value.close is codes.REVOKED
        with pytest.raises(errors.Closed):
            await asha.open(1)


async def test_a_reconnect_close_brings_the_client_back_with_its_token(node: Node) -> None:
    async with Client(node.url, register("asha"), random_float=no_wait) as asha:
        seen: list[object] = []
        await node.close(codes.RESTART)
        while not any(isinstance(update, Disconnected) for update in seen) or not isinstance(seen[-1], Connected):
            seen.append(await asha.receive())
        hello = node.links[-1].received[0]
        assert isinstance(hello, messages.Hello)
        assert hello.credential == messages.TokenCredential(asha.identity.token)


async def test_no_kith_server_is_told_at_once(unused_tcp_port: int) -> None:
    client = Client(f"ws://127.0.0.1:{unused_tcp_port}/ws", register("asha"), random_float=no_wait)
    with pytest.raises(errors.Unreachable):
        await client.start(wait_s=0.05)


async def test_a_slow_application_stops_the_reading_and_loses_nothing(node: Node) -> None:
    async with Client(node.url, register("asha")) as asha, Client(node.url, register("ben"), queue=8) as ben:
        stream = ids.direct_stream(asha.identity.user, ben.identity.user)
        await asyncio.gather(*(asha.send_text(stream, f"{number} " + "x" * 10_000) for number in range(300)))
        assert len(ben._inbox) < 100
        got = [text_of(await next_event(ben)).split()[0] for _ in range(300)]
        assert got == [str(number) for number in range(300)]


async def test_an_application_that_answers_inside_its_loop_is_not_stuck(node: Node) -> None:
    async with Client(node.url, register("asha")) as asha, Client(node.url, register("ben"), queue=4) as ben:
        stream = ids.direct_stream(asha.identity.user, ben.identity.user)
        await asyncio.gather(*(asha.send_text(stream, str(number)) for number in range(50)))
        answered = 0
        async for event in ben.events():
            if not event.own:
                await ben.send_text(stream, "echo " + text_of(event))
                answered += 1
            if answered == 50:
                break
        assert len(node.server.logs[stream].entries) == 100


class WatchedStore(store.FileStore):
    """Tells how many commands each save keeps, where it keeps any."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commands: queue.SimpleQueue[int] = queue.SimpleQueue()

    def save(self, saved: store.Saved) -> None:
        super().save(saved)
        if saved.commands:
            self.commands.put(len(saved.commands))


async def test_an_unanswered_command_survives_the_program_and_takes_effect_once(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "state" / "asha.json"
    kept = WatchedStore(path)
    asha = Client(node.url, register("asha"), kept=kept)
    await asha.start()
    stream = ids.direct_stream(asha.identity.user, asha.identity.user)
    first = await asha.send_text(stream, "before")
    while not kept.commands.empty():
        kept.commands.get()
    node.deaf = True
    lost = asha.submit(messages.Send(0, 0, stream, api.text_body("lost?")))
    assert await asyncio.to_thread(kept.commands.get) == 1
    await asha.close()
    with pytest.raises(errors.Closed):
        await lost
    assert path.stat().st_mode & 0o777 == 0o600
    node.deaf = False
    async with Client(node.url, kept=store.FileStore(path), strict=True) as again:
        after = await again.send_text(stream, "after")
        assert after.seq == first.seq + 2
        while (await next_event(again)).seq < after.seq:
            pass
        assert again.identity.device == asha.identity.device


class GatedStore(store.MemoryStore):
    """Saves of commands wait at a gate; `inside` tells how many are at it, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.inside = self.most = 0

    def save(self, saved: store.Saved) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        if saved.commands:
            self.arrived.put(None)
            self.gate.wait()
        super().save(saved)
        self.inside -= 1


async def test_the_newest_state_is_what_stays_stored_however_slow_the_disk_is(node: Node) -> None:
    kept = GatedStore()
    asha = Client(node.url, register("asha"), kept=kept)
    await asha.start()
    stream = ids.direct_stream(asha.identity.user, asha.identity.user)
    futures = [asha.submit(messages.Send(0, 0, stream, text_body("one")))]
    await asyncio.to_thread(kept.arrived.get)
    futures.append(asha.submit(messages.Send(0, 0, stream, text_body("two"))))
    closing = asyncio.create_task(asha.close())
    await asyncio.wait(futures)
    for _ in range(20):  # as far as it gets without the disk
        await asyncio.sleep(0)
    await asyncio.to_thread(int)
    kept.gate.set()
    await closing
    assert kept.most == 1, "one save at a time"
    assert len(kept.saved.commands) == 2
    assert len(node.server.logs[stream].entries) == 0, "nothing is sent before it is stored"
    for future in futures:
        assert isinstance(future.exception(), errors.Closed)


async def test_a_cut_during_a_save_does_not_start_a_second_one(node: Node) -> None:
    kept = GatedStore()
    async with Client(node.url, register("asha"), kept=kept, random_float=no_wait) as asha:
        stream = ids.direct_stream(asha.identity.user, asha.identity.user)
        future = asha.submit(messages.Send(0, 0, stream, text_body("one")))
        await asyncio.to_thread(kept.arrived.get)
        node.cut()
        await next_of(asha, Disconnected)
        kept.gate.set()
        assert (await future).seq == 1
    assert kept.most == 1


class FullDisk(store.MemoryStore):
    """There is no room for commands, until there is."""

    full = True

    def save(self, saved: store.Saved) -> None:
        if saved.commands and self.full:
            raise OSError(28, "No space left on device")
        super().save(saved)


async def test_a_full_disk_is_told_and_holds_commands_until_there_is_room(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RETRY_S", 0.0)
    kept = FullDisk()
    async with Client(node.url, register("asha"), kept=kept) as asha:
        stream = ids.direct_stream(asha.identity.user, asha.identity.user)
        future = asha.submit(messages.Send(0, 0, stream, text_body("one")))
        assert (await next_of(asha, NotKept)).reason == "No space left on device"
        assert (await asha.open(asha.identity.user)).head == 0, "questions go on meanwhile"
        assert not future.done()
        kept.full = False
        assert (await future).seq == 1


async def test_a_disk_that_stays_full_does_not_keep_a_client_from_closing(node: Node) -> None:
    asha = Client(node.url, register("asha"), kept=FullDisk())
    await asha.start()
    future = asha.submit(messages.Send(0, 0, ids.direct_stream(1, 1), text_body("one")))
    await asha.close()
    assert isinstance(future.exception(), errors.Closed)


class SlowToLoad(store.MemoryStore):
    """Loading waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def load(self) -> store.Saved:
        assert self.gate.wait(30)
        return super().load()


async def test_loading_does_not_hold_up_the_loop(node: Node) -> None:
    kept = SlowToLoad()
    asha = Client(node.url, register("asha"), kept=kept)
    starting = asyncio.create_task(asha.start())
    await asyncio.sleep(0)
    kept.gate.set()  # from the loop, which so is not the one that waits
    await starting
    await asha.close()


async def test_a_damaged_store_is_told_at_the_start(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "asha.json"
    path.write_text("{")
    with pytest.raises(errors.DamagedState):
        await Client(node.url, register("asha"), kept=store.FileStore(path)).start()


async def test_a_device_that_is_no_more_leaves_an_empty_store(node: Node) -> None:
    kept = store.MemoryStore()
    asha = Client(node.url, register("asha"), kept=kept)
    await asha.start()
    await asha.logout()
    await asha.close()
    assert kept.saved == store.Saved()


async def test_a_command_that_is_too_large_does_not_stay_in_the_store(node: Node) -> None:
    kept = store.MemoryStore()
    async with Client(node.url, register("asha"), kept=kept) as asha:
        stream = ids.direct_stream(asha.identity.user, asha.identity.user)
        with pytest.raises(codes.Refused) as refused:
            await asha.send_text(stream, "x" * 70_000)
        assert refused.value.error is codes.TOO_LONG
        assert (await asha.send_text(stream, "y")).seq == 1
    large = codec.encode(messages.Send(1, 1, stream, text_body("x" * 70_000)))
    kept.saved = msgspec.structs.replace(kept.saved, commands=(large,))
    async with Client(node.url, kept=kept) as again:
        assert (await again.send_text(stream, "z")).seq == 2


async def test_a_close_that_is_cancelled_goes_on_and_the_next_one_waits_for_it(node: Node) -> None:
    asha = Client(node.url, register("asha"))
    await asha.start()
    waiting = asyncio.create_task(drain(asha))
    closing = asyncio.create_task(asha.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asha.close()
    await waiting
    assert not asha.connected
    with pytest.raises(errors.Closed):
        asha.submit(messages.Open(0, 1))


async def test_a_client_that_only_sends_is_told_before_its_updates_fill_the_memory(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "UNTAKEN", 50)
    async with Client(node.url, register("asha")) as asha:
        stream = ids.direct_stream(asha.identity.user, asha.identity.user)
        while len(asha._inbox) < 50:
            await asha.send_text(stream, "another")
        with pytest.raises(errors.Full, match="listen=False"):
            await asha.send_text(stream, "one too many")
    async with Client(node.url, register("ben"), listen=False) as ben:
        stream = ids.direct_stream(ben.identity.user, ben.identity.user)
        for number in range(100):
            await ben.send_text(stream, str(number))
        assert len(ben._inbox) == 0
    assert node.server.cursors[ben.identity.device, stream] == 100, "they count as taken"


async def answer_with(status: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.fixture
async def broken(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Something that speaks HTTP and is no Kith server: its URL. The parameter is the status it answers."""
    server = await asyncio.start_server(functools.partial(answer_with, request.param), "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"


@pytest.mark.parametrize("broken", [b"404 Not Found", b"403 Forbidden", b"521 Down", b"503 Busy"], indirect=True)
async def test_a_load_balancer_that_fails_for_a_while_is_waited_out(node: Node, broken: str) -> None:
    async with Client(node.url, register("asha"), random_float=no_wait) as asha:
        url, asha.url = asha.url, broken
        node.cut()
        await next_of(asha, Disconnected)
        assert (await next_of(asha, Disconnected)).reason.startswith("HTTP status")
        asha.url = url
        await next_of(asha, Connected)


@pytest.mark.parametrize("broken", [b"404 Not Found"], indirect=True)
async def test_who_was_never_let_in_is_told_at_once_that_no_kith_server_is_there(broken: str) -> None:
    with pytest.raises(errors.Unreachable, match="HTTP status 404"):
        await Client(broken, register("asha")).start()


@pytest.mark.parametrize("broken", [b"521 Down"], indirect=True)
async def test_a_server_that_is_down_is_tried_again_from_the_beginning(broken: str) -> None:
    asha = Client(broken, register("asha"), random_float=no_wait)
    await asha.start_soon()
    for _ in range(2):
        assert isinstance(await asha.receive(), Disconnected)
    await asha.close()


async def test_a_forward_is_shown_with_the_body_that_the_server_copied(node: Node) -> None:
    async with Client(node.url, register("asha"), strict=True) as asha:
        notes = ids.direct_stream(asha.identity.user, asha.identity.user)
        await asha.send_text(notes, "worth passing on")
        waiting = asyncio.ensure_future(asha.forward(notes, notes, 1))
        follow = asyncio.ensure_future(asha.send_text(notes, "after it"))
        await asyncio.gather(waiting, follow)
        got = [await next_event(asha) for _ in range(3)]
        assert [(e.seq, text_of(e)) for e in got] == [(1, "worth passing on"), (2, "worth passing on"), (3, "after it")]
        assert got[1].missing == ()


async def test_logging_out_ends_the_client(node: Node) -> None:
    asha = Client(node.url, register("asha"))
    await asha.start()
    await asha.logout()
    with pytest.raises(errors.Closed):
        await asha.open(1)
    await asha.close()


async def test_a_closed_client_ends_its_loops_quietly(node: Node) -> None:
    asha = Client(node.url, register("asha"))
    await asha.start()
    seen: list[object] = []

    async def listen() -> None:
        async for update in asha.updates():
            seen.append(update)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0)
    await asha.close()
    await listener
    await asha.close()
