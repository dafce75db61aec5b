"""The terminal chat's screen: prompt_toolkit around `client.view`. It draws lines and hands over keys."""

from __future__ import annotations

import time

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from client import slash
from client.chatting import Chat
from client.view import Line

#: Columns of the conversation list, of 80.
LIST_COLUMNS = 24
#: Rows besides the messages: header, typing and status, input.
OTHER_ROWS = 3
#: Seconds between two looks at the clock, for typing notices and messages that disappear.
TICK_S = 1.0

STYLE = Style.from_dict(
    {
        "header": "reverse",
        "chosen": "reverse",
        "unread": "bold",
        "count": "ansigreen bold",
        "sign": "ansigreen",
        "dim": "ansibrightblack",
        "me": "ansicyan",
        "them": "ansiyellow bold",
        "mention": "bold",
        "reactions": "ansibrightblack",
        "tick": "ansigreen",
        "error": "ansired",
        "status": "ansibrightblack",
    }
)


class Screen:
    """`stdin` and `stdout` are for tests; a terminal otherwise."""

    def __init__(self, chat: Chat, stdin: Input | None = None, stdout: Output | None = None) -> None:
        self._chat = chat
        self._input = Buffer(accept_handler=self._accept, multiline=False, on_text_changed=self._typed)
        self._app: Application[None] = Application(
            layout=Layout(self._layout()),
            key_bindings=self._keys(),
            style=STYLE,
            full_screen=True,
            refresh_interval=TICK_S,
            input=stdin,
            output=stdout,
        )
        chat.changed = self._app.invalidate

    async def run(self) -> None:
        """Until the person leaves."""
        await self._app.run_async()

    def leave(self) -> None:
        """End `run`."""
        if self._app.is_running:
            self._app.exit()

    # --- what is drawn ------------------------------------------------------------------------------------------------

    def _layout(self) -> HSplit:
        left = Window(FormattedTextControl(self._list), width=LIST_COLUMNS, wrap_lines=False)
        right = Window(FormattedTextControl(self._messages), wrap_lines=False)
        line = Window(BufferControl(self._input, input_processors=[BeforeInput("> ")]), height=1, wrap_lines=False)
        self._line = line
        return HSplit(
            [
                Window(FormattedTextControl(self._header), height=1, style="class:header"),
                VSplit([left, Window(width=1, char="│", style="class:dim"), right]),
                Window(FormattedTextControl(self._status), height=1, style="class:status"),
                line,
            ]
        )

    @property
    def _size(self) -> tuple[int, int]:
        """Columns and rows of the messages."""
        size = self._app.output.get_size()
        return max(size.columns - LIST_COLUMNS - 1, 16), max(size.rows - OTHER_ROWS, 1)

    def _header(self) -> StyleAndTextTuples:
        chat = self._chat
        me = chat.client.identity.name
        return [("", f" {chat.view.header(_now_ms())}   — {me}, {chat.view.connection}")]

    def _list(self) -> StyleAndTextTuples:
        return _joined(self._chat.view.list_lines(LIST_COLUMNS, self._size[1]))

    def _messages(self) -> StyleAndTextTuples:
        width, height = self._size
        view = self._chat.view
        lines = view.message_lines(width, _now_ms())
        view.scroll = max(0, min(view.scroll, len(lines) - height))
        end = len(lines) - view.scroll
        if view.panel:  # read from its beginning
            start = view.scroll
            return _joined(lines[start : start + height])
        shown = lines[max(0, end - height) : end]
        blank: list[Line] = [[("", "")]] * (height - len(shown))
        return _joined(blank + shown)

    def _status(self) -> StyleAndTextTuples:
        view = self._chat.view
        more = f"[{view.scroll} lines below] " if view.scroll and not view.panel else ""
        return [("", " " + more + (view.typing_line(time.monotonic()) or view.status))]

    # --- what is typed ------------------------------------------------------------------------------------------------

    def _accept(self, buffer: Buffer) -> bool:
        text, chat = buffer.text.strip(), self._chat
        chat.view.status = ""
        if text.startswith("/") and not text.startswith("//"):
            chat.view.panel = []
            chat.do(self._run(text))
        elif text:
            chat.view.panel = []
            chat.send(text.removeprefix("/") if text.startswith("//") else text)
        return False  # the line is emptied

    async def _run(self, text: str) -> None:
        if not await slash.run(self._chat, text):
            self.leave()

    def _typed(self, buffer: Buffer) -> None:
        if buffer.text and not buffer.text.startswith("/"):
            self._chat.typing()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        view = self._chat.view

        @keys.add("c-c")
        @keys.add("c-q")
        def _leave(_: KeyPressEvent) -> None:
            self.leave()

        @keys.add("escape", eager=True)
        def _close(_: KeyPressEvent) -> None:
            view.panel, view.scroll = [], 0

        @keys.add("up")
        @keys.add("c-p")
        def _up(_: KeyPressEvent) -> None:
            self._chat.select(view.move(-1))

        @keys.add("down")
        @keys.add("c-n")
        def _down(_: KeyPressEvent) -> None:
            self._chat.select(view.move(1))

        @keys.add("pageup")
        def _page_up(_: KeyPressEvent) -> None:
            self._scroll(self._size[1] - 1)

        @keys.add("pagedown")
        def _page_down(_: KeyPressEvent) -> None:
            self._scroll(1 - self._size[1])

        return keys

    def _scroll(self, lines: int) -> None:
        view = self._chat.view
        width, height = self._size
        if view.panel:
            view.scroll = max(0, view.scroll - lines)
            return
        view.scroll = max(0, view.scroll + lines)
        if view.scroll + 2 * height >= len(view.message_lines(width, _now_ms())):
            self._chat.older()
        self._chat.refresh()


def _joined(lines: list[Line]) -> StyleAndTextTuples:
    joined: StyleAndTextTuples = []
    for at, line in enumerate(lines):
        joined += [("", "\n")] if at else []
        joined += line
    return joined


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
