"""Reactions: what may be one, and that a message with all that it can bear still fits into a frame."""

from __future__ import annotations

import msgspec
import pytest

from actors.state import reactions
from protocol import codec, codes, events, ids, messages

KISS = "\U0001f9d1\U0001f3ff\u200d\u2764\ufe0f\u200d\U0001f48b\u200d\U0001f9d1\U0001f3fb"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
STREAM = ids.group_stream(ids.MAX_ID, ids.MAX_ID)


@pytest.mark.parametrize("emoji", ["👍", "❤️", "🇩🇪", "👩‍👩‍👧‍👦", KISS, SCOTLAND, "+1", "名", ""])
def test_every_emoji_is_one(emoji: str) -> None:
    reactions.check_emoji(emoji)


@pytest.mark.parametrize("text", ["a b", "\n", "\x00", "\u202e", "\u200b", "\ue000", "\u3000", "👍" * 11])
def test_what_hides_or_separates_is_none(text: str) -> None:
    with pytest.raises(codes.Refused):
        reactions.check_emoji(text)


@pytest.mark.parametrize("emoji", ["👍", KISS])
def test_the_largest_item_fits_into_a_frame_with_all_its_reactions(emoji: str) -> None:
    longest = 2**53 - 1
    most = reactions.MOST_BYTES_OF_ALL // (11 + len(emoji.encode()))
    given = {longest - number: emoji for number in range(most)}
    reactions.check_room(given)
    with pytest.raises(codes.Refused) as refused:
        reactions.check_room({**given, 1: emoji})
    assert refused.value.error is codes.TOO_MANY
    assert len(given) >= (1024 if emoji == "👍" else 600)
    body = msgspec.Raw(msgspec.msgpack.encode(bytes(codec.MAX_BODY - 3)))
    assert len(body) == codec.MAX_BODY
    message = events.Message(longest, longest, longest, longest, longest, body, longest, longest, longest, longest)
    fold = events.Fold(body, longest, (longest,) * 64, False, given, longest)
    item = messages.HistoryItem(
        longest, STREAM, longest, msgspec.Raw(events.encode(message)), msgspec.Raw(events.encode_fold(fold))
    )
    part = messages.ExportPart(longest, "message", msgspec.Raw(codec.encode(item)))
    assert len(codec.encode(part)) <= codec.MAX_MESSAGE
