"""Two terminal chats at a real node: keys that are typed in one, and what is then on the screen of the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from client import chat
from tests.e2e.conftest import running
from tests.e2e.independent.line import PATIENCE_S

ROWS, COLUMNS = 24, 80


class Glass(DummyOutput):
    """A terminal's screen, cell by cell, as far as prompt_toolkit makes use of one. `drawn` is set when it was drawn on."""

    def __init__(self) -> None:
        self.drawn = asyncio.Event()
        self._cells: dict[tuple[int, int], str] = {}
        self._row = self._column = 0

    @property
    def text(self) -> str:
        rows = ("".join(self._cells.get((row, column), " ") for column in range(COLUMNS)) for row in range(ROWS))
        return "\n".join(row.rstrip() for row in rows)

    def get_size(self) -> Size:
        return Size(rows=ROWS, columns=COLUMNS)

    def flush(self) -> None:
        self.drawn.set()

    def write(self, data: str) -> None:
        for letter in data:
            if letter == "\r":
                self._column = 0
            elif letter == "\n":
                self._row += 1
            else:
                self._cells[self._row, self._column] = letter
                self._column += 1

    def write_raw(self, data: str) -> None:
        self.write(data)

    def enter_alternate_screen(self) -> None:
        self._cells.clear()
        self._row = self._column = 0

    def cursor_up(self, amount: int) -> None:
        self._row -= amount

    def cursor_forward(self, amount: int) -> None:
        self._column += amount

    def cursor_backward(self, amount: int) -> None:
        self._column -= amount

    def erase_end_of_line(self) -> None:
        for column in range(self._column, COLUMNS):
            self._cells.pop((self._row, column), None)

    def erase_down(self) -> None:
        self.erase_end_of_line()
        self._cells = {place: letter for place, letter in self._cells.items() if place[0] <= self._row}


class Terminal:
    """One person's terminal, with the chat in it. `sitting` gives what is said at the end."""

    def __init__(self, url: str, name: str, folder: Path, keys: PipeInput) -> None:
        self.glass = Glass()
        self._keys = keys
        self._options = chat.arguments(["--url", url, "--name", name, "--state", str(folder / f"{name}.json")])
        self.sitting = asyncio.create_task(self._sit())
        self.sitting.add_done_callback(lambda _: self.glass.drawn.set())

    async def _sit(self) -> str:
        with create_app_session(input=self._keys, output=self.glass):
            return await chat.run(self._options, chat.Entrance(PromptSession()))

    def types(self, *lines: str) -> None:
        for line in lines:
            self._keys.send_text(line + "\r")

    def leaves(self) -> None:
        self._keys.send_text("\x11")

    async def shows(self, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while text not in self.glass.text:
                    assert not self.sitting.done(), self.glass.text
                    self.glass.drawn.clear()
                    await self.glass.drawn.wait()
        except TimeoutError:
            raise AssertionError(f"{text} is not shown\n{self.glass.text}") from None


async def test_what_is_typed_in_one_terminal_is_shown_in_the_other(tmp_path: Path) -> None:
    async with running(tmp_path, {}) as world:
        with create_pipe_input() as first, create_pipe_input() as second:
            asha, ben = Terminal(world.url, "asha", tmp_path, first), Terminal(world.url, "ben", tmp_path, second)
            for each, name in ((asha, "asha"), (ben, "ben")):
                each.types("y", "a good password", "a good password")
                await each.shows(f"{name}, online")
            asha.types("/open ben")
            await asha.shows("ben · online")
            asha.types("Wherefore art thou?")
            await ben.shows("asha")
            ben.types("/open asha")
            await ben.shows("asha: Wherefore art thou?")
            await asha.shows("you: Wherefore art thou? ✔✔")  # read
            ben.types("Here, under the balcony")
            await asha.shows("ben: Here, under the balcony")
            for each in (asha, ben):
                each.leaves()
                assert await each.sitting == ""
