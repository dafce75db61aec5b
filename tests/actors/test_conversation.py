"""Two people: what is accepted is stored, answered, delivered; what is not durable is not seen."""

from __future__ import annotations

from protocol import codes, messages
from tests.actors.world import ASHA, BEN, World, direct, text

S = direct(ASHA, BEN)


async def test_a_message_is_answered_and_reaches_every_device_of_both(world: World) -> None:
    phone, laptop, ben = await world.known(ASHA), await world.known(ASHA), await world.known(BEN)
    sent = await phone.done(messages.Send, S, text("hi"))
    await world.quiet()
    assert (sent.seq, sent.n) == (1, 1)
    assert phone.seqs(S) == []  # `Sent` stands for the event
    assert laptop.texts(S) == ben.texts(S) == ["hi"]


async def test_nobody_outside_hears_whether_a_conversation_exists(world: World) -> None:
    asha, ben, cara = [await world.known(user) for user in (ASHA, BEN, 13)]
    await asha.done(messages.Send, S, text("hi"))
    answers = [
        await cara.ask(messages.Send, S, text("let me in")),
        await cara.ask(messages.Send, direct(ASHA, 999), text("nobody")),
        await cara.ask(messages.FetchHistory, S),
        await cara.ask(messages.FetchHistory, direct(ASHA, 999)),
    ]
    assert {(answer.number, answer.text) for answer in answers if isinstance(answer, messages.Error)} == {
        (codes.NOT_ALLOWED.number, "")
    } or len({(a.number, a.text) for a in answers if isinstance(a, messages.Error)}) == 1
    assert all(isinstance(answer, messages.Error) for answer in answers)
