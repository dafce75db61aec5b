"""Two people: what is accepted is stored, answered, delivered; what is not durable is not seen."""

from __future__ import annotations

from protocol import codes, messages
from protocol.events import Audience, Privacy
from tests.actors.world import ASHA, BEN, CARA, World, direct, text

S = direct(ASHA, BEN)


async def test_a_message_is_answered_and_reaches_every_device_of_both(world: World) -> None:
    phone, laptop, ben = await world.known(ASHA), await world.known(ASHA), await world.known(BEN)
    sent = await phone.done(messages.Send, S, text("hi"))
    await world.quiet()
    assert (sent.seq, sent.n) == (1, 1)
    assert phone.seqs(S) == []  # `Sent` stands for the event
    assert laptop.texts(S) == ben.texts(S) == ["hi"]


async def test_nobody_outside_hears_whether_a_conversation_exists(world: World) -> None:
    asha, cara = await world.known(ASHA), await world.known(CARA)
    await asha.done(messages.Send, S, text("hi"))
    nowhere = direct(ASHA, 999)
    for kind, fields in ((messages.Send, (text("let me in"),)), (messages.FetchHistory, ()), (messages.Read, (1,))):
        answers = [await cara.ask(kind, stream, *fields) for stream in (S, nowhere)]
        told = [(answer.number, answer.text) for answer in answers if isinstance(answer, messages.Error)]
        assert told == [(codes.NOT_ALLOWED.number, codes.NOT_ALLOWED.text)] * 2


async def test_a_conversation_with_who_hides_is_like_one_with_nobody(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await ben.done(messages.SetBlock, ASHA, True)
    await world.quiet()
    answers = [await asha.ask(messages.Open, user) for user in (BEN, 999)]
    answers += [await asha.ask(messages.Send, direct(ASHA, user), text("x")) for user in (BEN, 999)]
    assert {(answer.number, answer.text) for answer in answers if isinstance(answer, messages.Error)} == {
        (codes.NOT_ALLOWED.number, codes.NOT_ALLOWED.text)
    }


async def test_a_request_that_waits_tells_its_sender_nothing_of_the_reader(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    await ben.done(messages.SetPrivacy, Privacy(write=Audience.CONTACTS))
    await world.quiet()
    sent = await asha.done(messages.Send, S, text("may I?"))
    await ben.ask(messages.Read, S, sent.seq)
    await world.quiet()
    assert asha.all(messages.Receipt) == []
    info = await asha.ask(messages.Info, S, sent.seq)
    assert isinstance(info, messages.MessageInfo)
    assert (info.delivered, info.read) == ((), ())
    await ben.done(messages.AcceptRequest, S)
    answer = await asha.done(messages.Send, S, text("thanks"))
    await ben.ask(messages.Read, S, answer.seq)
    await world.quiet()
    assert asha.all(messages.Receipt)[-1].read == answer.seq


async def test_message_info_is_for_the_sender(world: World) -> None:
    asha, ben = await world.known(ASHA), await world.known(BEN)
    sent = await asha.done(messages.Send, S, text("hi"))
    await world.quiet()
    assert await ben.refused(messages.Info, S, sent.seq) is codes.NOT_ALLOWED
    info = await asha.ask(messages.Info, S, sent.seq)
    assert isinstance(info, messages.MessageInfo)
    assert (info.delivered, info.read) == ((BEN,), ())
