"""The head of an HTTP request -> what becomes of the connection. Pure; the opening handshake itself is the library's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from gateway import reader

#: The only subprotocol, and it has to be asked for (docs/protocol.md, Transport).
SUBPROTOCOL = Subprotocol("kith.v1.msgpack")
#: The path of the WebSocket.
PATH = "/ws"
#: Bytes of a request's head. Browsers stay below 4 KiB without cookies, and cookies are not used here.
MAX_HEAD = 16 * 1024
#: The end of a head (RFC 9112 section 2.1).
END = b"\r\n\r\n"

_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0")


@dataclass(slots=True, frozen=True)
class Answer:
    """The response to a request for an upgrade, in bytes. After `opened` frames follow; else the connection is closed."""

    status: HTTPStatus
    wire: bytes

    @property
    def opened(self) -> bool:
        return self.status is HTTPStatus.SWITCHING_PROTOCOLS


def asks_upgrade(head: bytes) -> bool:
    """Whether it is ours: GET /ws that asks for a WebSocket. Everything else is HTTP's.

    Anybody can send any head, so each byte is looked at a fixed number of times: no pattern that could go back.
    """
    request, *lines = head.split(b"\r\n")
    method, _, rest = request.partition(b" ")
    target, _, version = rest.partition(b" ")
    if method != b"GET" or target.partition(b"?")[0] != PATH.encode() or version not in _VERSIONS:
        return False
    fields = (line.partition(b":") for line in lines)
    return any(name.lower() == b"upgrade" and b"websocket" in value.lower() for name, _, value in fields)


def answer(head: bytes, origins: Sequence[str]) -> Answer:
    """Shake hands, or say why not. `head`: a request that `asks_upgrade`, END included. `origins` as in config.Listener."""
    library = ServerProtocol(subprotocols=[SUBPROTOCOL], logger=reader.quiet)
    library.receive_data(head)
    requests = library.events_received()
    if not requests:
        return refusal(HTTPStatus.BAD_REQUEST, "The request cannot be read.")
    request = requests[0]
    assert isinstance(request, Request)
    if is_allowed(request.headers, origins):
        response = library.accept(request)
    else:
        response = library.reject(HTTPStatus.FORBIDDEN, "Pages of this origin may not connect.\n")
    return Answer(HTTPStatus(response.status_code), response.serialize())


def refusal(status: HTTPStatus, text: str, retry_after_s: int = 0) -> Answer:
    """A short response before a connection is closed."""
    body = f"{text}\n".encode()
    headers = Headers(
        [("Connection", "close"), ("Content-Length", str(len(body))), ("Content-Type", "text/plain; charset=utf-8")]
    )
    if retry_after_s:
        headers["Retry-After"] = str(retry_after_s)
    return Answer(status, Response(status.value, status.phrase, headers, body).serialize())


def is_allowed(headers: Headers, origins: Sequence[str]) -> bool:
    """Whether a page of the request's origin may connect (RFC 6454; RFC 6455 section 10.2).

    No origin: no browser. With an empty list a page may connect to the host that it came from; schemes are not compared then,
    as a proxy may have taken TLS off.
    """
    try:
        origin, host = headers.get("Origin"), headers.get("Host")
    except MultipleValuesError:
        return False
    if origin is None:
        return True
    if origins:
        return origin.lower() in (allowed.lower() for allowed in origins)
    scheme, _, authority = origin.lower().partition("://")
    return scheme in ("http", "https") and host is not None and authority == host.lower()
