"""Who the client is behind a proxy."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import proxy

TRUSTED = proxy.networks(["10.0.0.0/8", "2001:db8::/32"])

v1 = st.one_of(
    st.just(b"PROXY UNKNOWN\r\n"),
    st.just(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"),
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(0, 65535), st.integers(0, 65535)).map(
        lambda each: "PROXY TCP4 {} {} {} {}\r\n".format(*each).encode()
    ),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(0, 65535), st.integers(0, 65535)).map(
        lambda each: "PROXY TCP6 {} {} {} {}\r\n".format(*each).encode()
    ),
)


def v2(command: int, family: int, rest: bytes) -> bytes:
    return proxy.SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(rest)) + rest


v2_ = st.one_of(
    st.binary(max_size=60).map(lambda rest: v2(0, 0, rest)),
    st.tuples(st.ip_addresses(v=4), st.binary(max_size=50)).map(lambda each: v2(1, 0x11, each[0].packed + bytes(8) + each[1])),
    st.tuples(st.ip_addresses(v=6), st.binary(max_size=50)).map(lambda each: v2(1, 0x21, each[0].packed + bytes(20) + each[1])),
)


@given(st.one_of(v1, v2_), st.lists(st.integers(1, 50), max_size=30))
def test_no_more_is_asked_for_than_the_header_has_however_it_arrives(header: bytes, sizes: list[int]) -> None:
    read, steps = 0, iter(sizes)
    while more := proxy.missing(header[:read]):
        assert read + more <= len(header)
        read += min(more, next(steps, more))
    assert read == len(header)


@given(st.ip_addresses())
def test_both_versions_tell_the_clients_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    expected = str(getattr(address, "ipv4_mapped", None) or address)
    six = address.version == 6
    line = f"PROXY TCP{address.version} {address} {address} 1 2\r\n".encode()
    assert proxy.parse(line) == expected
    assert proxy.parse(v2(1, 0x21 if six else 0x11, address.packed * 2 + bytes(4))) == expected


def test_a_proxy_that_speaks_for_itself_names_no_client() -> None:
    assert proxy.parse(b"PROXY UNKNOWN\r\n") is None
    assert proxy.parse(v2(0, 0, b"")) is None


@given(st.binary(max_size=200))
def test_anything_else_is_refused_and_never_waited_for_without_end(data: bytes) -> None:
    read = 0
    try:
        while more := proxy.missing(data[:read]):
            read += more
            if read > len(data):
                return  # it would wait for more, at most MAX_V2 bytes
        proxy.parse(data[:read])
    except proxy.BadHeader:
        pass
    assert read <= proxy.MAX_V2


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 not.an.address 1.1.1.1 1 2\r\n",
        b"PROXY UNIX a b c d\r\n",
        b"PROXY TCP4 1.1.1.1\r\n",
        v2(2, 0x11, bytes(12)),
        v2(1, 0x31, bytes(216)),
        v2(1, 0x11, bytes(4)),
    ],
)
def test_a_header_of_another_form_is_refused(header: bytes) -> None:
    with pytest.raises(proxy.BadHeader):
        proxy.parse(header[: len(header) - proxy.missing(header)])


def head(*lines: str) -> bytes:
    return "\r\n".join(["GET /ws HTTP/1.1", *lines, "", ""]).encode("latin-1")


def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxy() -> None:
    assert proxy.client_of(head("X-Forwarded-For: 192.0.2.1"), "10.0.0.1", TRUSTED) == "192.0.2.1"
    assert proxy.client_of(head("x-forwarded-for: 6.6.6.6, 192.0.2.1, 10.1.1.1"), "10.0.0.1", TRUSTED) == "192.0.2.1"
    assert proxy.client_of(head("X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1"), "10.0.0.1", TRUSTED) == "192.0.2.1"
    assert proxy.client_of(head("X-Forwarded-For: [2001:db9::1]"), "10.0.0.1", TRUSTED) == "2001:db9::1"


def test_a_port_that_a_proxy_adds_is_no_part_of_the_address() -> None:
    for hop, client in (
        ("192.0.2.1:4711", "192.0.2.1"),
        ("[2001:db9::1]:4711", "2001:db9::1"),
        ("2001:db9::1", "2001:db9::1"),
        ("192.0.2.1:4711, 10.1.1.1:80", "192.0.2.1"),
    ):
        assert proxy.client_of(head(f"X-Forwarded-For: {hop}"), "10.0.0.1", TRUSTED) == client


def test_without_a_usable_address_it_is_the_nearest_that_somebody_vouches_for() -> None:
    assert proxy.client_of(head(), "10.0.0.1", TRUSTED) == "10.0.0.1"
    assert proxy.client_of(head("X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.7"), "10.0.0.1", TRUSTED) == "10.0.0.7"
    assert proxy.client_of(head("X-Forwarded-For: 10.0.0.8"), "10.0.0.1", TRUSTED) == "10.0.0.8"


def test_an_ipv4_address_that_came_over_ipv6_is_recognised() -> None:
    assert proxy.is_within("::ffff:10.0.0.1", TRUSTED)
    assert not proxy.is_within("192.0.2.1", TRUSTED)
    assert not proxy.is_within("", TRUSTED)


def test_only_this_machines_own_addresses_are_loopback() -> None:
    assert all(map(proxy.is_loopback, ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1")))
    assert not any(map(proxy.is_loopback, ("192.0.2.1", "::", "", "localhost")))
