"""WebSocket frames from server to client, written here because they are two bytes and the payload (RFC 6455 section 5.2).

They are not masked (section 5.1), so the bytes of a message for a thousand readers are built once. What comes from clients is
parsed by the library: that is where the traps are.
"""

from __future__ import annotations

#: First byte: FIN and the opcode (section 5.2).
_BINARY = 0x82
_CLOSE = 0x88
_PONG = 0x8A
#: Bytes of a control frame's payload (section 5.5), two of them the close code.
MAX_CONTROL = 125
#: Payload lengths whose header is looked up. Frames of chat messages are shorter; a longer one costs 0.1 µs more.
_TABLE = 1024


def _header(length: int) -> bytes:
    if length < 126:
        return bytes((_BINARY, length))
    if length < 1 << 16:
        return bytes((_BINARY, 126)) + length.to_bytes(2, "big")
    return bytes((_BINARY, 127)) + length.to_bytes(8, "big")


_HEADERS = tuple(_header(length) for length in range(_TABLE))


def binary(payload: bytes) -> bytes:
    """One whole binary message."""
    length = len(payload)
    return (_HEADERS[length] if length < _TABLE else _header(length)) + payload


def close(code: int, reason: str) -> bytes:
    """A close frame; a reason that is too long is cut at a whole character."""
    text = reason.encode()[: MAX_CONTROL - 2].decode(errors="ignore").encode()
    return bytes((_CLOSE, len(text) + 2)) + code.to_bytes(2, "big") + text


def is_close(wire: bytes) -> bool:
    """Whether a frame to a client is a close frame."""
    return wire[:1] == b"\x88"


def pong(payload: bytes) -> bytes:
    """The answer to a ping, which carried `payload` (section 5.5.3); at most MAX_CONTROL bytes."""
    return bytes((_PONG, len(payload))) + payload


def wire_size(length: int) -> int:
    """Bytes on the wire of a client's (masked) frame with `length` bytes of payload, its length written the shortest way."""
    return length + (6 if length < 126 else 8 if length < 1 << 16 else 14)
