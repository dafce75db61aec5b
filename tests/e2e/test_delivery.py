"""Commands that are repeated, events that were missed, devices that stay behind."""

from __future__ import annotations

from tests.e2e.independent import wire
from tests.e2e.independent.client import Client
from tests.e2e.world import World

WINDOW_BYTES = 262144


async def again(client: Client, data: bytes) -> dict[str, object]:
    """Send bytes that were sent before; the fields of the answer."""
    command = wire.unpack(data)
    return (await client.answer_to("again", command[1], data))[0].fields


async def test_the_same_bytes_get_the_same_answer_and_take_no_second_effect(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    _, data = asha.command("Send", stream=stream, body=wire.text("once"))
    first = await again(asha, data)
    assert await again(asha, data) == first
    await asha.close()
    await asha.come_back()
    assert await again(asha, data) == first
    after = await asha.send(stream, "twice")
    await ben.event(stream, after.seq)
    assert ben.texts(stream) == ["once", "twice"]


async def test_repeats_on_the_way_together_are_one(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    _, data = asha.command("Send", stream=stream, body=wire.text("once"))
    await asha.send_bytes(wire.batch([data] * 5))
    await asha.until(lambda: bool(asha.all("Sent")))
    assert (await asha.send(stream, "next")).seq == 2
    assert {each.seq for each in asha.all("Sent")} == {1, 2}


async def test_other_bytes_under_a_used_counter_are_refused(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    sent = await asha.send(stream, "first")
    counter = (await ben.event(stream, sent.seq)).counter
    assert await asha.refusal("Send", stream=stream, body=wire.text("second"), counter=counter) == "counter_reused"
    assert await asha.refusal("React", stream=stream, target=1, emoji="👍", counter=counter) == "counter_reused"
    assert await asha.refusal("Send", stream=stream, body=wire.text("none"), counter=0) == "counter_missing"


async def test_of_each_device_and_stream_the_last_64_are_remembered(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    commands = [asha.command("Send", stream=stream, body=wire.text(f"{number}")) for number in range(65)]
    answers = [await again(asha, data) for _, data in commands]
    assert [answer["seq"] for answer in answers] == list(range(1, 66))
    for command, data in (commands[1], commands[64]):
        assert await again(asha, data) == answers[commands.index((command, data))]
    array = wire.unpack(commands[0][1])
    assert await asha.refusal("Send", rid=array[1], counter=array[2], stream=stream, body=array[4]) == "already"
    elsewhere = await asha.change("Send", stream=wire.direct(asha.user, asha.user), body=wire.text("a"), counter=array[2])
    assert elsewhere.seq == 1, "every stream counts for itself"


async def test_a_refused_command_is_judged_anew(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await ben.change("SetBlock", user=asha.user)
    command, data = asha.command("Send", stream=stream, body=wire.text("let me in"))
    assert (
        await asha.refusal("Send", rid=command.rid, counter=command.counter, stream=stream, body=command.body)
    ) == "not_allowed"
    await ben.change("SetBlock", user=asha.user, on=False)
    assert (await again(asha, data))["seq"] == 1


async def test_what_was_missed_comes_in_order_and_then_caught_up(world: World) -> None:
    asha, ben, cleo = await world.people("asha", "ben", "cleo")
    await asha.send(asha.with_(ben), "0")
    await ben.event(asha.with_(ben), 1)
    await ben.close()
    for number in range(1, 40):
        await asha.send(asha.with_(ben), f"{number}")
        await cleo.send(cleo.with_(ben), f"{number}")
    before = len(ben.received)
    await ben.come_back()
    news = ben.received[before:]
    assert [each.kind for each in news].index("CaughtUp") >= 78
    assert ben.texts(asha.with_(ben)) == [f"{number}" for number in range(40)]
    assert ben.texts(cleo.with_(ben)) == [f"{number}" for number in range(1, 40)]
    assert ben.inbox.jumps == []


async def test_what_was_acknowledged_is_never_sent_again(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for turn in range(1, 21):
        sent = await asha.send(stream, f"{turn}")
        await ben.event(stream, sent.seq)
        await ben.until(lambda seq=sent.seq: ben.acked.get(stream) == seq)  # type: ignore[misc]
        await ben.close()  # the Ack was on the line before the goodbye
        await ben.come_back()
        assert ben.inbox.duplicates == 0, f"at the reconnect number {turn}"


async def test_what_was_not_acknowledged_comes_again_and_is_dropped(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    ben.acknowledging = False
    for number in range(5):
        await asha.send(asha.with_(ben), f"{number}")
    await ben.event(asha.with_(ben), 5)
    ben.cut()
    await ben.lost()
    await ben.come_back()
    assert ben.inbox.duplicates >= 5
    assert ben.texts(asha.with_(ben)) == [f"{number}" for number in range(5)]


async def test_unanswered_commands_are_repeated_with_the_same_bytes(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    for number in range(30):
        await asha.start_sending(stream, f"{number}")
    asha.cut()
    await asha.lost()
    await asha.come_back()
    await asha.until(lambda: not asha.memory.commands)
    await ben.event(stream, 30)
    assert ben.texts(stream) == [f"{number}" for number in range(30)]
    assert asha.texts(stream) == ben.texts(stream)


async def test_a_second_device_is_in_step(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    second = await world.device("asha")
    stream = asha.with_(ben)
    for number in range(10):
        await (asha, ben, second)[number % 3].send(stream, f"{number}")
    for device in (asha, second, ben):
        await device.event(stream, 10)
        assert device.texts(stream) == [f"{number}" for number in range(10)]
    fields = [[each.event.fields for each in device.events(stream)] for device in (asha, second, ben)]
    assert fields[0] == fields[1] == fields[2], "a Sent stands for the very event that the others get"


async def test_a_device_that_does_not_acknowledge_gets_one_window(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    window = ben.limits().window_events
    ben.acknowledging = False
    for number in range(window + 100):
        await asha.send(stream, f"{number}")
    await ben.event(stream, window)
    await asha.send(wire.direct(asha.user, ben.user), "one more")
    assert (await ben.ask("Open", user=asha.user)).head == window + 101, "the connection lives, the stream waits"
    assert len(ben.events(stream)) == window
    await ben.tell("Ack", cursors=[[stream, 3 * window // 4]])
    await ben.event(stream, window + 101)
    ben.acknowledging = True
    assert [each.seq for each in ben.events(stream)] == list(range(1, window + 102))
    assert ben.inbox.duplicates == 0
    await asha.send(stream, "live again")
    await ben.event(stream, window + 102)


async def test_a_window_is_bounded_in_bytes_too(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    ben.acknowledging = False
    body = wire.text("a" * 16000)
    for _ in range(30):
        await asha.change("Send", stream=stream, body=body)
    await ben.event(stream, 10)
    assert (await ben.ask("Open", user=asha.user)).head == 30
    got = len(ben.events(stream))
    assert 10 <= got < 30
    assert (got - 2) * 16000 <= ben.limits().window_bytes == WINDOW_BYTES
    ben.acknowledging = True
    await ben.tell("Ack", cursors=[[stream, got]])
    await ben.event(stream, 30)


async def test_a_device_comes_back_to_more_than_a_window(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    await ben.close()
    for number in range(700):
        await asha.start_sending(stream, f"{number}")
        if number % 50 == 49:
            await asha.until(lambda: not asha.memory.commands)
    await ben.come_back()
    await ben.event(stream, 700)
    assert ben.texts(stream) == [f"{number}" for number in range(700)]
    assert ben.inbox.duplicates == 0


async def test_two_connections_of_one_device_replace_each_other(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    twin = world.client("asha's twin")
    await twin.enter(wire.credential("TokenCredential", token=asha.memory.token))
    assert await asha.lost() == 4506
    sent = await ben.send(ben.with_(twin), "which of you is it?")
    await twin.event(ben.with_(twin), sent.seq)
