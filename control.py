"""The node's command socket: how the command line talks to a running node.

A Unix socket of mode 0600 in the data folder. A connection carries one request and its answer, one JSON object a line each:

    -> {"command": "user add", "name": "asha", "password": "..."}
    <- {"working": true}                      every WORKING_EVERY_S while it takes longer
    <- {"done": {"id": 1, "name": "asha"}}    or {"error": "The user name is taken"}

Who may open the socket is the operator: its mode keeps others out, and where the kernel names the peer it is asked as well.
Here are both ends, and the requests; what a request does stands in `operations.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

import telemetry

#: Bytes of a request: a name, a password or a path, written out in JSON.
MAX_REQUEST = 16 * 1024
#: Bytes of an answer: the devices of one user are the longest.
MAX_ANSWER = 1024 * 1024
#: Requests served at a time: an operator and a few scripts.
MAX_CLIENTS = 16
#: Seconds that a peer has for its request, and for taking the answer.
PATIENCE_S = 10.0
#: Seconds between two signs of life during a long request (a backup).
WORKING_EVERY_S = 5.0
#: Seconds of silence after which the command line gives the node up; six signs of life.
SILENCE_S = 30.0
#: Bytes of a socket's path (sun_path of unix(7), its terminating zero not counted).
MAX_PATH = 107
#: Of an invitation: more people would not share one; a hundred years.
MAX_USES = 1_000_000
MAX_DAYS = 36_500

_PEER = struct.Struct("iII")
"""struct ucred of unix(7): pid, uid, gid."""

log = telemetry.logger("control")


class Request(Struct, tag_field="command", forbid_unknown_fields=True):
    """What all requests have in common."""


class Status(Request, tag="status"):
    """How the node is."""


class AddUser(Request, tag="user add"):
    """Make an account, whoever may register."""

    name: str
    password: str


class ResetUser(Request, tag="user reset"):
    """A one-time code with which the user sets a new password."""

    name: str


class ListDevices(Request, tag="user devices"):
    """The devices that are logged in."""

    name: str


class Revoke(Request, tag="revoke"):
    """Log a device out (0: all of the user's) and cut it off."""

    name: str
    device: Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Invite(Request, tag="invite"):
    """A code with which `uses` people may register, for `days` days (0: without an end)."""

    uses: Annotated[int, Meta(ge=1, le=MAX_USES)]
    days: Annotated[int, Meta(ge=0, le=MAX_DAYS)]


class Backup(Request, tag="backup"):
    """Write a verified copy of everything into the new file `path` (absolute)."""

    path: str


AnyRequest = Status | AddUser | ResetUser | ListDevices | Revoke | Invite | Backup


class Failed(Exception):
    """The request was not carried out; the text is for the operator."""


class NotRunning(Failed):
    """Nobody listens at the socket."""


# --- the node's end ---------------------------------------------------------------------------------------------------


class Server:
    """Serves requests from `start` to `stop`. `handle` carries one out; it raises Failed with what to tell."""

    def __init__(self, path: Path, handle: Callable[[AnyRequest], Awaitable[dict[str, Any]]]) -> None:
        self._path = path
        self._handle = handle
        self._decoder = msgspec.json.Decoder(AnyRequest)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket that a killed node left behind is replaced: the caller holds the folder's lock. OSError."""
        if len(os.fsencode(self._path)) > MAX_PATH:
            raise OSError(f"node.folder: the path of the command socket, {self._path}, is longer than {MAX_PATH} bytes")
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            os.fchmod(listener.fileno(), 0o600)  # before it has a name, so that it is never open to others
            listener.bind(os.fspath(self._path))
            self._path.chmod(0o600)  # where the kernel does not take the mode over
            self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=MAX_REQUEST)
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Take no more, give up what is being carried out."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            answer = await self._answer(reader, writer)
            await asyncio.wait_for(_write(writer, answer), PATIENCE_S)
        except (OSError, TimeoutError) as error:
            log.info("peer_lost", reason=str(error))
        except asyncio.CancelledError:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(_write(writer, {"error": "the node is stopping"}), 1.0)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, Any]:
        if not _is_operator(writer):
            log.warning("stranger_refused")
            return {"error": "only the node's own user may command it"}
        if len(self._serving) > MAX_CLIENTS:
            return {"error": f"{MAX_CLIENTS} commands are being carried out already"}
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            request = self._decoder.decode(line)
        except TimeoutError:
            return {"error": f"no command within {PATIENCE_S:.0f} s"}
        except ValueError as error:  # longer than the limit, no JSON, no such command, a wrong field
            return {"error": f"not a command: {error}"}
        work = asyncio.ensure_future(self._handle(request))
        try:
            while not (await asyncio.wait({work}, timeout=WORKING_EVERY_S))[0]:
                await asyncio.wait_for(_write(writer, {"working": True}), PATIENCE_S)
            return {"done": work.result()}
        except Failed as failed:
            return {"error": str(failed)}
        except (OSError, TimeoutError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("command_failed", command=type(request).__name__)
            return {"error": "a defect of the node kept it from doing that; its log says more"}
        finally:
            work.cancel()


async def _write(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()


def _is_operator(writer: asyncio.StreamWriter) -> bool:
    """Whether the peer is the node's own user, or root. Where the kernel does not say, the socket's mode has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(credentials)[1] in (0, os.geteuid())


# --- the command line's end -------------------------------------------------------------------------------------------


def ask(path: Path, request: AnyRequest, silence_s: float = SILENCE_S) -> dict[str, Any]:
    """Have the node at this socket carry out a request; its answer. Blocks, as long as the node gives signs of life.

    NotRunning; Failed with the node's reason, or when it is silent for `silence_s` seconds."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(silence_s)
            connection.connect(os.fspath(path))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as lines:
                while line := lines.readline(MAX_ANSWER):
                    answer = json.loads(line)
                    if "done" in answer:
                        done: dict[str, Any] = answer["done"]
                        return done
                    if "error" in answer:
                        raise Failed(answer["error"])
    except TimeoutError:
        raise Failed(f"the node has been silent for {silence_s:.0f} s") from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"no node runs on {path.parent}") from None
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: {error}") from error
    raise Failed("the node has hung up without an answer")
