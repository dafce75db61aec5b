"""Makes a WebSocket connection, and says in a few words why it could not."""

from __future__ import annotations

import socket
import ssl as ssl_module

from websockets.asyncio import client as websockets_client
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from client import errors

SUBPROTOCOL = Subprotocol("kith.v1.msgpack")
#: Seconds for the opening handshake, and for the closing handshake.
OPEN_S = 10.0
CLOSE_S = 3.0
#: Bytes of one message of the server: its batches are smaller than what it takes, a single large frame may be larger.
MAX_SIZE = 1024 * 1024
#: HTTP statuses below 500 of a server that may be well again soon (RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585
#: section 4).
PASSING = frozenset({408, 425, 429})


class NotNow(Exception):
    """No connection this time. `is_kith` False: what answers there is no Kith server, at the moment. The text is for people."""

    def __init__(self, text: str, *, is_kith: bool = True) -> None:
        super().__init__(text)
        self.is_kith = is_kith


async def dial(url: str, ssl: ssl_module.SSLContext | None, proxy: str | None) -> websockets_client.ClientConnection:
    """NotNow; errors.Unreachable for what is no address."""
    try:
        found = await websockets_client.connect(
            url,
            subprotocols=[SUBPROTOCOL],
            compression=None,  # frames are small, and many; the contract has none on this path
            proxy=proxy,
            ssl=ssl,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            ping_interval=None,  # the protocol has its own heartbeat
            max_size=MAX_SIZE,
        )
    except InvalidURI as error:
        raise errors.Unreachable(f"{url}: {error}") from None
    except InvalidStatus as error:
        status = error.response.status_code
        raise NotNow(f"HTTP status {status}", is_kith=status >= 500 or status in PASSING) from None
    except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
        raise NotNow(_words(error)) from None
    if found.subprotocol != SUBPROTOCOL:
        await found.close()
        raise NotNow("no Kith server answers there", is_kith=False)
    return found


def _words(error: Exception) -> str:
    match error:
        case ConnectionRefusedError():
            return "no server listens there"
        case TimeoutError():
            return f"no answer within {OPEN_S:.0f} s"
        case socket.gaierror():
            return "the server's name is not known"
        case ssl_module.SSLError():
            return f"no secure connection: {error.reason or error}"
        case OSError():
            # Of several addresses, asyncio tells all failures in one text and no number.
            return "no connection to the server" if error.errno is None else (error.strerror or str(error))
    return "no answer of a server"
