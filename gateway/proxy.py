"""Who the client is, when a trusted proxy stands before this node: PROXY protocol (versions 1 and 2) or X-Forwarded-For.

A listener speaks one of the two (`listener.client_address`). Only peers within `listener.behind_proxy` are believed, and from
those in PROXY protocol mode the header must come: the receiver does not guess (PROXY protocol specification, section 2). A
peer that is no proxy is taken for a client that connected directly.

The PROXY header comes before TLS, so not one byte of what follows may be read with it: `missing` tells how many bytes are
surely still the header's, and no more are asked from the socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence

#: Section 2.2: the twelve bytes that start version 2; then version and command, family, length of the rest.
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
#: Bytes of a version 2 header that are read. Addresses take 36 and what proxies add is some hundred.
MAX_V2 = 2048
#: Section 2.1: a version 1 line, CR LF included; the shortest is "PROXY UNKNOWN\r\n".
MAX_V1 = 107
_MIN_V1 = 15
#: Addresses in X-Forwarded-For that are looked at, from the right. Longer chains of own proxies do not exist.
_MAX_HOPS = 16

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BadHeader(Exception):
    """A trusted proxy sent something that is no PROXY header."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """The networks of `listener.behind_proxy`. ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    address = _address(host)
    return address is not None and address.is_loopback


def is_within(host: str, trusted: Sequence[Network]) -> bool:
    """Whether an address belongs to one of the networks. What is no address does not."""
    address = _address(host)
    return address is not None and any(address in network for network in trusted)


def client_of(head: bytes, peer: str, trusted: Sequence[Network]) -> str:
    """The client's address by the X-Forwarded-For lines of a request's head: the rightmost that is no trusted proxy.

    What stands further left was written by the client or by proxies that nobody vouches for. `peer` is a trusted proxy.
    """
    hops: list[str] = []
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"x-forwarded-for":
            hops += (part.strip() for part in value.decode("latin-1").split(","))
    client = peer
    for hop in hops[: -_MAX_HOPS - 1 : -1]:
        address = _address(_without_port(hop))
        if address is None:
            break  # nobody vouches for what is left of it
        client = str(address)
        if not any(address in network for network in trusted):
            break
    return client


def _without_port(hop: str) -> str:
    """Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def missing(header: bytes) -> int:
    """How many more bytes surely belong to the PROXY header that begins so; 0 when it is whole. BadHeader."""
    if header.startswith(SIGNATURE[: len(header)]):
        if len(header) < _MIN_V1:
            return _MIN_V1 - len(header)
        if len(header) < _V2_FIXED:
            return _V2_FIXED - len(header)
        whole = _V2_FIXED + int.from_bytes(header[14:16], "big")
        if whole > MAX_V2:
            raise BadHeader(f"a header of {whole} bytes")
        return whole - len(header)
    if not header.startswith(b"PROXY "[: len(header)]):
        raise BadHeader("neither version 1 nor version 2")
    if header.endswith(b"\r\n"):
        return 0
    if len(header) >= MAX_V1 or b"\n" in header:
        raise BadHeader("a line that does not end")
    if len(header) < _MIN_V1:
        return _MIN_V1 - len(header)
    if header.endswith(b"\r"):
        return 1
    if header.startswith(b"PROXY UNKNOWN"):
        return 2
    # "PROXY" family source destination port port: each space that is missing brings a character with it, then CR LF.
    return min(2 + 2 * max(0, 5 - header.count(b" ")), MAX_V1 - len(header))


def parse(header: bytes) -> str | None:
    """A whole header -> the client's address, or None where the proxy speaks for itself (its health checks). BadHeader."""
    return _parse_v2(header) if header.startswith(SIGNATURE) else _parse_v1(header)


def _parse_v1(header: bytes) -> str | None:
    fields = header[:-2].decode("latin-1").split(" ")
    if fields[1] == "UNKNOWN":
        return None
    if len(fields) != 6 or fields[1] not in ("TCP4", "TCP6"):
        raise BadHeader("a line of another form")
    address = _address(fields[2])
    if address is None:
        raise BadHeader("no address")
    return str(address)


def _parse_v2(header: bytes) -> str | None:
    version, command, family = header[12] >> 4, header[12] & 0x0F, header[13]
    if version != 2 or command > 1:
        raise BadHeader(f"version and command {header[12]:#04x}")
    if command == 0:
        return None  # LOCAL: a connection of the proxy itself
    if family == 0x11 and len(header) >= _V2_FIXED + 12:
        return str(ipaddress.IPv4Address(header[16:20]))
    if family == 0x21 and len(header) >= _V2_FIXED + 36:
        address = ipaddress.IPv6Address(header[16:32])
        return str(address.ipv4_mapped or address)
    if family == 0:
        return None  # UNSPEC: the receiver uses the real addresses
    raise BadHeader(f"family {family:#04x}, {len(header)} bytes")


class HeaderReader(asyncio.BufferedProtocol):
    """Reads exactly the header, then calls `done` with the client's address; `lost` when that does not come about.

    `done` has to put the next protocol in place.
    """

    __slots__ = ("_buffer", "_done", "_lost", "_size", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        done: Callable[[str | None], None],
        lost: Callable[[Exception | None], None],
    ) -> None:
        self._transport = transport
        self._done = done
        self._lost = lost
        self._buffer = bytearray(MAX_V2)
        self._size = 0

    def get_buffer(self, _hint: int) -> memoryview:
        """Room for as many bytes as are surely the header's."""
        size = self._size
        return memoryview(self._buffer)[size : size + missing(bytes(self._buffer[:size]))]

    def buffer_updated(self, count: int) -> None:
        """So many bytes came."""
        self._size += count
        header = bytes(self._buffer[: self._size])
        try:
            if missing(header):
                return
            client = parse(header)
        except BadHeader:
            self._transport.abort()
            return
        self._done(client)

    def eof_received(self) -> None:
        """The proxy has thought better of it; the transport closes itself."""

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over."""
        self._lost(error)
