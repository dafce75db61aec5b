"""What the kernel holds of a connection, beside what waits in this process (tcp(7))."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios

#: Bytes that the kernel takes of a connection before the client has room for them. Beyond, they wait here, where they are
#: counted; with the kernel's own bound a client that does not read would hold 2.5 MiB more, that no limit knows of. What is on
#: its way does not count, so who reads fast is not slowed down.
UNSENT = 64 * 1024

#: Bytes of a connection that the kernel holds and this process has not read (it doubles that, for its own overhead). Clients
#: say little, 64 KiB at a time at most; by itself the kernel would take up to 32 MiB of one that floods, all of which has to
#: be worked off, or thrown away, when it is read.
UNREAD = 64 * 1024

_INT = struct.Struct("i")


def bound(listening: asyncio.Server) -> None:
    """Have every connection that is accepted from now on held to UNSENT and UNREAD: they inherit it."""
    for each in listening.sockets:
        with socket.socket(fileno=os.dup(each.fileno())) as own:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD)


def unacknowledged(transport: asyncio.BaseTransport) -> int:
    """Bytes that the kernel has taken and the client has not. 0 where the system does not tell, and after the end."""
    held = transport.get_extra_info("socket")
    if held is None or sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError, ValueError):
        answer = fcntl.ioctl(held.fileno(), termios.TIOCOUTQ, bytes(_INT.size))  # SIOCOUTQ, by its older name
        return int(_INT.unpack(answer)[0])
    return 0
