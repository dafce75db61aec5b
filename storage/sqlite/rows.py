"""Rows of streams as the records of the contract, every checksum verified on the way."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from storage import errors, records
from storage.sqlite import connection

_EVENT = "SELECT seq, kind, epoch, expires, digest, crc, data FROM events WHERE sid = ?"


def stream_of(conn: connection.Connection, sid: int) -> bytes:
    """The id of a stream by its number; Damaged when there is none."""
    row = conn.execute("SELECT id FROM streams WHERE sid = ?", (sid,)).fetchone()
    if row is None:
        raise errors.Damaged(f"no stream has the number {sid}")
    return bytes(row[0])


def sid_of(conn: connection.Connection, stream: bytes) -> int:
    """The number of a stream; 0 when it was never written."""
    row = conn.execute("SELECT sid FROM streams WHERE id = ?", (stream,)).fetchone()
    return int(row[0]) if row else 0


def verified(stream: bytes, found: Iterable[tuple[Any, ...]]) -> list[records.Event]:
    """Rows (seq, kind, epoch, expires, digest, crc, data, ...) as events; Damaged at the first whose checksum is wrong."""
    prefix = zlib.crc32(stream)
    crc32 = zlib.crc32
    events = []
    for seq, kind, epoch, expires, digest, crc, data, *_ in found:
        if crc32(data, crc32(seq.to_bytes(8, "big"), prefix)) != crc:
            raise errors.Damaged(f"event {seq} of stream {stream.hex()} fails its checksum")
        events.append(records.Event(seq, kind, epoch, data, abs(expires), digest))
    return events


def events(conn: connection.Connection, stream: bytes, sid: int, first: int, last: int, limit: int) -> list[records.Event]:
    """Events first..last, at most `limit` (-1: all), verified, in order."""
    return verified(
        stream, conn.execute(f"{_EVENT} AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?", (sid, first, last, limit)).fetchall()
    )


def parts(stream: bytes, found: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, bytes]:
    """Rows (key, crc, data) as a mapping; Damaged when a checksum is wrong."""
    result = {}
    for key, crc, data in found:
        if records.part_checksum(stream, key, data) != crc:
            raise errors.Damaged(f"part {key.hex()} of stream {stream.hex()} fails its checksum")
        result[key] = data
    return result


def part(conn: connection.Connection, stream: bytes, sid: int, key: bytes) -> bytes | None:
    """One part by its whole key, verified."""
    found = conn.execute("SELECT key, crc, data FROM parts WHERE sid = ? AND key = ?", (sid, key)).fetchall()
    return parts(stream, found).get(key)
