"""Bodies are checked once: what passes can be relayed as it is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.state import bodies
from protocol import codec, codes, events

LIMIT = codec.MAX_BODY


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


def refusal(body: msgspec.Raw) -> codes.Error:
    with pytest.raises(codes.Refused) as caught:
        bodies.check(body, LIMIT)
    return caught.value.error


def whole(text: str, offset: int, length: int) -> bool:
    """Whether the bytes named are characters, and so are those before them."""
    data = text.encode()
    try:
        data[:offset].decode()
        data[offset : offset + length].decode()
    except UnicodeDecodeError:
        return False
    return True


@given(
    st.text(min_size=1, max_size=200),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 300), st.integers(1, 300)), max_size=8),
)
def test_a_mention_lies_in_the_text_by_bytes_and_cuts_no_character(text: str, mentions: list[tuple[int, int, int]]) -> None:
    body = raw(events.Text(text, tuple(events.Mention(*each) for each in mentions)))
    size = len(text.encode())
    if not text.strip():
        assert refusal(body) is codes.EMPTY
    elif any(offset + length > size or not whole(text, offset, length) for _, offset, length in mentions):
        assert refusal(body) is codes.BAD_MENTION
    else:
        assert bodies.check(body, LIMIT) == tuple(dict.fromkeys(user for user, _, _ in mentions))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (raw([1, " \n\t"]), codes.EMPTY),
        (raw([1, ""]), codes.EMPTY),
        (raw([99, "a later kind"]), codes.UNSUPPORTED_BODY),
        (raw([1, "x" * LIMIT]), codes.TOO_LONG),
    ],
)
def test_what_may_not_be_sent_is_refused_with_its_own_symbol(body: msgspec.Raw, error: codes.Error) -> None:
    assert refusal(body) is error


def test_the_limit_counts_encoded_bytes_and_includes_itself() -> None:
    body = raw([1, "é" * 100])
    assert bodies.check(body, len(bytes(body))) == ()
    with pytest.raises(codes.Refused):
        bodies.check(body, len(bytes(body)) - 1)


def test_items_of_a_later_version_pass() -> None:
    assert bodies.check(raw([1, "x", [[7, 0, 1]], "new", {"more": 1}]), LIMIT) == (7,)


def test_a_caption_may_be_empty_and_may_mention() -> None:
    assert bodies.check(raw([2, b"media"]), LIMIT) == ()
    assert bodies.check(raw([2, b"media", "to you", [[5, 0, 2]]]), LIMIT) == (5,)
    assert bodies.check(raw([3, b"opaque"]), LIMIT) == ()
