"""The head of a request, without a socket."""

from __future__ import annotations

import pytest

from gateway import handshake
from tests.gateway import world


def head(request: str, *lines: str) -> bytes:
    return "\r\n".join([request, *lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("request_line", "line", "is_ours"),
    [
        ("GET /ws HTTP/1.1", "Upgrade: websocket", True),
        ("GET /ws HTTP/1.0", "UPGRADE:WebSocket", True),
        ("GET /ws?room=1 HTTP/1.1", "upgrade: \t h2c, websocket", True),
        ("GET /ws HTTP/1.1", "Upgrade: h2c", False),
        ("GET /ws HTTP/1.1", "X-Upgrade: websocket", False),
        ("GET /ws HTTP/1.1", "Connection: upgrade: websocket", False),
        ("GET /ws HTTP/2.0", "Upgrade: websocket", False),
        ("GET /ws2 HTTP/1.1", "Upgrade: websocket", False),
        ("GET /ws extra HTTP/1.1", "Upgrade: websocket", False),
        ("POST /ws HTTP/1.1", "Upgrade: websocket", False),
        ("GET /ws", "Upgrade: websocket", False),
    ],
)
def test_only_a_get_of_the_path_that_asks_for_a_websocket_is_ours(request_line: str, line: str, is_ours: bool) -> None:
    assert handshake.asks_upgrade(head(request_line, "Host: localhost", line)) is is_ours


@pytest.mark.parametrize("filling", [" ", "\t", "upgrade:", "\r\nupgrade:", "websocke", ",", ":", "\r\n:"])
def test_no_head_whatever_it_is_filled_with_is_looked_at_again_and_again(filling: str) -> None:
    """Far more than may come: what takes the square of it does not end within any test's time, on any machine."""
    size = 2 * 1024 * 1024
    assert not handshake.asks_upgrade(head("GET /ws HTTP/1.1", "upgrade:" + filling * (size // len(filling))))


def test_what_is_ours_is_answered_by_the_library() -> None:
    assert handshake.asks_upgrade(world.UPGRADE)
    assert handshake.answer(world.UPGRADE, ()).opened
