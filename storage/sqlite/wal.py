"""The write-ahead log of a database that nobody has open: does SQLite find everything in it that was committed?

Its recovery takes the log as far as the first frame whose checksum is wrong, and the next checkpoint drops what lies beyond
without a word. That is right for the transaction that a power cut tore: each is synced before the next one begins, so there is
one at most. Two finished transactions beyond that frame mean that the older one had been acknowledged: the log is damaged.

(A transaction whose sync failed leaves its frames behind until later ones overwrite them. Two that failed so, and a crash
before the log began anew, look like damage as well. On a disk that does not sync, somebody had better look.)

Frames: sqlite.org/fileformat2.html, section 4. The index that says how far SQLite came: sqlite.org/walformat.html, section 2.1.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import struct
import tempfile

from storage import errors
from storage.sqlite import connection

#: Magic number (lowest bit: checksums are big-endian), version, page size, checkpoint number, salts, checksum.
_HEADER = struct.Struct(">IIII8sII")
_MAGIC = 0x377F0682

#: Page number, pages of the database after the commit (0: not the last frame of a transaction), salts; a checksum follows.
_FRAME = struct.Struct(">II8s8x")

#: mxFrame, the last frame that counts, in the machine's byte order.
_INDEX = struct.Struct("=16xI")

#: Bytes of a database that SQLite wants to see before it looks into the log.
_FIRST_PAGE = 4_096


def check(database: pathlib.Path) -> None:
    """Damaged when acknowledged transactions would be lost to recovery. Call it before anything opens the database, and while
    nobody else can. Changes nothing, apart from the index (-shm), which every recovery makes anew."""
    lost = acknowledged_beyond(database)
    if lost:
        raise errors.Damaged(
            f"{connection.log_of(database).name} is damaged: {lost} or more acknowledged transactions in it cannot be read;"
            " restore a backup, or give them up with `doctor --isolate`"
        )


def acknowledged_beyond(database: pathlib.Path) -> int:
    """How many acknowledged transactions the log holds, at least, that recovery would drop."""
    log = connection.log_of(database)
    size = log.stat().st_size if log.exists() else 0
    if size <= _HEADER.size + _FRAME.size:
        return 0
    with log.open("rb") as file:
        head = file.read(_HEADER.size)
        # Synced before the first frame is written, and never rewritten while frames count: no crash spoils it. And where the
        # database is empty or missing, SQLite removes the log unread.
        if not _is_sound(head) or not database.exists() or not database.stat().st_size:
            return 1
        _, _, page_size, _, salts, _, _ = _HEADER.unpack(head)
        step = page_size + _FRAME.size
        finished = 0
        for start in range(_HEADER.size + _recovered(database) * step, size - step + 1, step):
            file.seek(start)
            _, pages, found = _FRAME.unpack(file.read(_FRAME.size))
            finished += bool(pages) and found == salts
        return max(finished - 1, 0)


def _is_sound(head: bytes) -> bool:
    magic, _, _, _, _, *checksum = _HEADER.unpack(head)
    first = second = 0
    words = struct.unpack(f"{'>' if magic & 1 else '<'}6I", head[:24])
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return magic & ~1 == _MAGIC and checksum == [first, second]


def _recovered(database: pathlib.Path) -> int:
    """The frames that SQLite's recovery takes. Reckoning their checksums here as well would take a second for 32 MiB."""
    if os.access(database.parent, os.W_OK):
        return _recovered_in_place(database)
    # Without an index of its own to write, SQLite keeps one in memory, where nobody can look.
    with tempfile.TemporaryDirectory() as place:
        copy = pathlib.Path(place) / database.name
        with database.open("rb") as file:
            copy.write_bytes(file.read(_FIRST_PAGE))
        shutil.copyfile(connection.log_of(database), connection.log_of(copy))
        return _recovered_in_place(copy)


def _recovered_in_place(database: pathlib.Path) -> int:
    conn = connection.look(database)
    try:
        conn.execute("PRAGMA schema_version").fetchone()  # the first read of the only connection: it recovers
        with database.with_name(f"{database.name}-shm").open("rb") as index:
            return int(_INDEX.unpack(index.read(_INDEX.size))[0])
    finally:
        conn.close()
