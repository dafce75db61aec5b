"""Wiping what SQLite leaves lying about inside pages.

`secure_delete` overwrites freed pages and freed cells. But when a page of a tree overflows and its cells are dealt out anew
among its neighbours, a copy of those that moved away may stay in the page's unallocated middle (sqlite.org/fileformat2.html,
section 1.6). Such a copy outlives the erasure of the cell. So after erasures the middles are wiped, slice by slice.

A slice is wiped on the writer's thread while the log is empty, the write lock is taken and the writer's own page cache is
dropped: the file is the only copy of its pages then, and nobody is about to write one of them. Only bytes that no reader
ever looks at change, so readers need not wait, and a crash half-way harms nothing.

Which pages are tree pages is told by their first byte: 2, 5, 10 or 13. An overflow or freelist page begins with the number of
another page, so below 2**25 pages with 0 or 1. There are no pointer-map pages, for the file is made without auto_vacuum.
"""

from __future__ import annotations

import os
import pathlib
import struct

#: Pages wiped in one go: 2 MiB, a few ms of the writer's time.
SLICE_PAGES = 512

#: Files of more pages than this are not wiped: the first byte would no longer tell the pages apart (128 GiB at 4 KiB).
MOST_PAGES = 2**25

_HEADER_BYTES = {2: 12, 5: 12, 10: 8, 13: 8}
_FILE_HEADER_BYTES = 100
_CELLS_AND_CONTENT = struct.Struct(">HH")


class Scrubber:
    """An open database file, to be wiped from its first page to its last.

    Its descriptor must be closed after the last SQLite connection of this process: closing any descriptor of a file drops the
    process's POSIX locks on it (sqlite.org/howtocorrupt.html, section 2.2)."""

    def __init__(self, path: pathlib.Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def wipe(self, first: int) -> int:
        """Wipe SLICE_PAGES pages from page `first` (0-based) on; returns the page to go on with, 0 at the end of the file."""
        size = page_size(os.pread(self._descriptor, _FILE_HEADER_BYTES, 0))
        if not size or os.fstat(self._descriptor).st_size // size > MOST_PAGES:
            return 0
        content = os.pread(self._descriptor, SLICE_PAGES * size, first * size)
        count = len(content) // size
        wiped = False
        for number in range(count):
            start = number * size
            low, high = middle(content[start : start + size], _FILE_HEADER_BYTES if first + number == 0 else 0)
            if content[start + low : start + high].strip(b"\0"):
                os.pwrite(self._descriptor, bytes(high - low), (first + number) * size + low)
                wiped = True
        if wiped:
            os.fdatasync(self._descriptor)
        return first + count if count == SLICE_PAGES else 0


def page_size(header: bytes) -> int:
    """Bytes of a page by the file's header; 0 for an empty file."""
    if len(header) < _FILE_HEADER_BYTES:
        return 0
    size = int.from_bytes(header[16:18], "big")
    return 65_536 if size == 1 else size


def middle(page: bytes, offset: int) -> tuple[int, int]:
    """The unallocated middle [low, high) of a tree page whose header stands at `offset`; (0, 0) for any other page."""
    header = _HEADER_BYTES.get(page[offset])
    if header is None:
        return 0, 0
    cells, high = _CELLS_AND_CONTENT.unpack_from(page, offset + 3)
    low = offset + header + 2 * cells
    high = high or 65_536
    return (low, high) if low <= high <= len(page) else (0, 0)
