"""Two people in one conversation: what both see, and what is fetched afterwards."""

from __future__ import annotations

from tests.e2e.independent import wire
from tests.e2e.world import World


async def test_a_text_arrives_and_stands_in_the_history_of_both(world: World) -> None:
    asha, ben = await world.people("asha", "ben")
    stream = asha.with_(ben)
    sent = await asha.send(stream, "Good morrow, cousin ☀")
    event = await ben.event(stream, sent.seq)
    assert (sent.seq, sent.n) == (1, 1)
    assert event.fields == {
        "n": 1,
        "time": sent.time,
        "sender": asha.user,
        "device": asha.device,
        "counter": event.counter,
        "body": wire.text("Good morrow, cousin ☀"),
        "reply_to": 0,
        "hops": 0,
        "expires_at": 0,
        "flags": 0,
    }
    for who in (asha, ben):
        item, end = await who.pages("FetchHistory", stream=stream)
        assert (item.seq, item.event.fields, item.fold) == (1, event.fields, None)
        assert not end.more
