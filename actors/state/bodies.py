"""Check what the body of a message says, once, when it comes in. What passes is stored and relayed as the sender's own bytes.
Pure. That the bytes can be read, and a known kind has its shape, `protocol.codec` has seen to."""

from __future__ import annotations

import msgspec

from protocol import codes, events


def check(body: msgspec.Raw, limit: int) -> tuple[int, ...]:
    """The users that a body mentions, each once. codes.Refused when it is not one that may be sent.

    `limit` is in bytes of the encoded body. Offsets and lengths of mentions are in bytes of UTF-8 and must lie in the text."""
    if len(memoryview(body)) > limit:
        raise codes.Refused(codes.TOO_LONG, f"body: at most {limit} bytes")
    try:
        decoded = events.decode_body(body)
    except msgspec.ValidationError:
        raise codes.Refused(codes.UNSUPPORTED_BODY) from None
    if type(decoded) is events.Encrypted:
        return ()
    text = decoded.text if type(decoded) is events.Text else decoded.caption  # type: ignore[union-attr]
    if type(decoded) is events.Text and not text.strip():
        raise codes.Refused(codes.EMPTY, "body: the text is empty")
    mentions = decoded.mentions  # type: ignore[union-attr]
    if not mentions:
        return ()
    data = text.encode()
    for mention in mentions:
        end = mention.offset + mention.length
        if end > len(data):
            raise codes.Refused(codes.BAD_MENTION, "body: a mention lies outside the text")
        if _inside_character(data, mention.offset) or _inside_character(data, end):
            raise codes.Refused(codes.BAD_MENTION, "body: a mention cuts a character")
    return tuple({mention.user: None for mention in mentions})


def _inside_character(data: bytes, offset: int) -> bool:
    """Whether an offset into UTF-8 falls on a continuation byte (RFC 3629 section 3)."""
    return offset < len(data) and data[offset] & 0xC0 == 0x80
