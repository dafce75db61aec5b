"""One connection after the other: frames out and in, answers by request id, waiting, and a log of both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.e2e.independent import wire
from tests.e2e.independent.tables import ANSWERS, COMMANDS, EVENTS, Record, row

PATIENCE_S = 30.0
"""After which a wait is given up: far above what any answer takes on a busy machine."""

IN_PAGES = frozenset({"FetchAccount", "FetchConversations", "FetchHistory", "Export"})
"""Commands whose answer ends with PageEnd."""


class Refused(Exception):
    """An Error frame; `error` is it."""

    def __init__(self, error: Record) -> None:
        super().__init__(f"{error.number} {error.symbol}: {error.text}")
        self.error = error
        self.symbol: str = error.symbol


class Lost(Exception):
    """The connection ended; `code` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


@dataclass(slots=True)
class _Question:
    name: str
    answer: asyncio.Future[list[Record]]
    parts: list[Record] = field(default_factory=list)


def read_event(array: list[Any]) -> Record:
    """An event; of an unknown kind, what all kinds have."""
    known = EVENTS.read(array)
    if known is not None:
        return known
    common = EVENTS.by_name["RequestAccepted"].fields
    return Record(f"Unknown{array[0]}", dict(zip(common, array[1:6], strict=True)), tuple(array[6:]))


def read_frame(array: list[Any]) -> Record | None:
    """A frame of the server's, with the event and fold in it as records; None for an unknown number."""
    record = ANSWERS.read(array)
    if record is not None:
        for key in ("event", "last"):
            if record.fields.get(key) is not None and record.kind != "Gone":
                record.fields[key] = read_event(record.fields[key])
        for key in ("fold", "last_fold"):
            if record.fields.get(key) is not None:
                record.fields[key] = row("Fold", record.fields[key])
    return record


class Line:
    """What a client stands on. `received` is every frame that came, over all connections; `refused` each command that an
    Error answered, and that; `log` both ways as text."""

    def __init__(self, url: str, label: str) -> None:
        self.url, self.label = url, label
        self.received: list[Record] = []
        self.refused: list[tuple[str, Record]] = []
        self.log: list[str] = []
        self.close_code: int | None = None
        self._questions: dict[int, _Question] = {}
        self._waits: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    # --- connections --------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and say nothing yet."""
        self.close_code = None
        self._socket = await connect(
            self.url,
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            max_size=wire.LARGEST_MESSAGE,
            compression=None,
            ping_interval=None,
            open_timeout=PATIENCE_S,
        )
        assert self._socket.subprotocol == wire.SUBPROTOCOL
        self._reader = asyncio.create_task(self._read(self._socket))

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._socket is not None:
            await self._socket.close()
            await self.lost()

    def cut(self) -> None:
        """Break the connection without a goodbye, as a failing network does."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def lost(self) -> int:
        """Wait until the connection ends; its close code."""
        assert self._reader is not None
        await asyncio.wait_for(asyncio.shield(self._reader), PATIENCE_S)
        assert self.close_code is not None
        return self.close_code

    # --- out ----------------------------------------------------------------------------------------------------------

    async def send_array(self, array: list[Any]) -> None:
        """One frame."""
        await self.send_bytes(wire.pack(array))

    async def send_bytes(self, data: bytes | str) -> None:
        """One WebSocket message, whatever is in it. Raises Lost."""
        self.log.append(f"→ {_spoken(data)}")
        assert self._socket is not None
        try:
            await self._socket.send(data)
        except (ConnectionClosed, AttributeError):
            # The library aborts its transport when a send fails; asyncio's raises AttributeError when it is closed by then.
            raise Lost(self._socket.close_code or 1006) from None

    async def answer_to(self, name: str, rid: int, data: bytes) -> list[Record]:
        """Send these bytes, and wait for all frames that answer `rid`. Raises Refused, or Lost."""
        future: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
        self._questions[rid] = _Question(name, future)
        try:
            await self.send_bytes(data)
            return await asyncio.wait_for(future, PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"{self.label}: no answer to {name} {rid}\n{self.last_words()}") from None
        finally:
            self._questions.pop(rid, None)

    # --- in -----------------------------------------------------------------------------------------------------------

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                assert isinstance(message, bytes), "the server sends binary messages only"
                for array in wire.frames_of(message):
                    record = read_frame(array)
                    if record is not None:
                        self.log.append(f"← {record}")
                        self.received.append(record)
                        self.take(record)
                        self._answer(record)
                await self.after_message()
                self._look_again()
        except (ConnectionClosed, Lost):
            pass
        finally:
            self.close_code = socket.close_code or 1006
            self.log.append(f"× {self.close_code} {socket.close_reason or ''}")
            for question in list(self._questions.values()):
                _fail(question.answer, Lost(self.close_code))
            self._look_again()
            for _, future in list(self._waits):
                _fail(future, Lost(self.close_code))

    def take(self, record: Record) -> None:
        """Called for every frame, before who waits for it goes on."""

    async def after_message(self) -> None:
        """Called when all frames of a message were taken."""

    def _answer(self, record: Record) -> None:
        question = self._questions.get(record.rid) if record.rid else None
        if question is None or question.answer.done():
            return
        question.parts.append(record)
        if record.kind == "Error":
            self.refused.append((question.name, record))
            question.answer.set_exception(Refused(record))
        elif record.kind == "PageEnd" or (question.name not in IN_PAGES and record.kind != "Presence"):
            question.answer.set_result(question.parts)

    def is_asked(self, rid: int) -> bool:
        """Whether somebody waits for this answer."""
        return rid in self._questions

    def settle(self, rid: int, record: Record) -> None:
        """Answer a question by what came instead of its answer."""
        question = self._questions.get(rid)
        if question is not None and not question.answer.done():
            question.answer.set_result([record])

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        for holds, future in list(self._waits):
            if not future.done() and holds():
                future.set_result(None)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds`; it is looked at again after every message. Raises Lost where none can come any more."""
        if holds():
            return
        if self.close_code is not None:
            raise Lost(self.close_code)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits.append((holds, future))
        try:
            await asyncio.wait_for(future, PATIENCE_S)
        except TimeoutError:
            raise AssertionError(f"{self.label}: waited in vain\n{self.last_words()}") from None
        finally:
            self._waits.remove((holds, future))

    async def frame(self, kind: str, /, **fields: Any) -> Record:
        """Wait until a frame of this kind and these fields was received; the last such."""
        await self.until(lambda: self.last(kind, **fields) is not None)
        found = self.last(kind, **fields)
        assert found is not None
        return found

    def last(self, kind: str, /, **fields: Any) -> Record | None:
        """The last received frame of this kind and these fields."""
        return next((each for each in reversed(self.received) if _fits(each, kind, fields)), None)

    def all(self, kind: str, /, **fields: Any) -> list[Record]:
        """The received frames of this kind and these fields."""
        return [each for each in self.received if _fits(each, kind, fields)]

    def last_words(self, lines: int = 30) -> str:
        """The end of the log."""
        return "\n".join(self.log[-lines:])


def _fits(record: Record, kind: str, fields: dict[str, Any]) -> bool:
    return record.kind == kind and all(record.fields[key] == value for key, value in fields.items())


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # who gave up waiting meanwhile must not be blamed for not asking


def _spoken(data: bytes | str) -> str:
    try:
        assert isinstance(data, bytes)
        return " | ".join(str(COMMANDS.read(array)) for array in wire.frames_of(data))
    except Exception:  # anything may be sent, to see what the server does with it
        return f"{len(data)} bytes: {data[:40]!r}"
