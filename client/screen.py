"""The terminal chat's screen: prompt_toolkit around `client.view`. It draws lines and hands over keys."""

from __future__ import annotations

import time

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.processors import BeforeInput, ConditionalProcessor, PasswordProcessor
from prompt_toolkit.output import Output
from prompt_toolkit.styles import Style

from client import slash
from client.chatting import Chat
from client.view import Line

#: Columns of the conversation list, of 80; at most a third of a narrower terminal.
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
        self._at = chat.view.selected  # where the line that is being typed belongs
        self._exchanging = False
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
        chat.changed = self._changed

    async def run(self) -> None:
        """Until the person leaves."""
        await self._app.run_async()

    def leave(self) -> None:
        """End `run`."""
        if self._app.is_running:
            self._app.exit()

    # --- what is drawn ------------------------------------------------------------------------------------------------

    def _layout(self) -> HSplit:
        left = Window(FormattedTextControl(self._list), width=lambda: Dimension.exact(self._list_columns), wrap_lines=False)
        right = Window(FormattedTextControl(self._messages), wrap_lines=False)
        unseen = ConditionalProcessor(PasswordProcessor(), Condition(lambda: self._chat.question is not None))
        control = BufferControl(self._input, input_processors=[unseen, BeforeInput(self._prompt)])
        # Scrolled from the beginning each time: it would stay where a long line was, and hide the prompt of the next one.
        line = Window(control, height=1, wrap_lines=False, get_horizontal_scroll=lambda _: 0)
        return HSplit(
            [
                Window(FormattedTextControl(self._header), height=1, style="class:header"),
                VSplit([left, Window(width=1, char="│", style="class:dim"), right]),
                Window(FormattedTextControl(self._status), height=1, style="class:status"),
                line,
            ]
        )

    @property
    def _list_columns(self) -> int:
        return min(LIST_COLUMNS, self._app.output.get_size().columns // 3)

    @property
    def _size(self) -> tuple[int, int]:
        """Columns and rows of the messages."""
        size = self._app.output.get_size()
        return max(size.columns - self._list_columns - 1, 1), max(size.rows - OTHER_ROWS, 1)

    def _prompt(self) -> str:
        question = self._chat.question
        return question.text if question is not None else "> "

    def _header(self) -> StyleAndTextTuples:
        chat = self._chat
        title, me = chat.view.header(_now_ms()), chat.client.identity.name
        connection = chat.view.connection_line(time.monotonic())
        if chat.view.connection == "offline":  # first, where no narrow terminal cuts it off
            return [("", f" {connection}   — {me}: {title}")]
        return [("", f" {title}   — {me}, {connection}")]

    def _list(self) -> StyleAndTextTuples:
        return _joined(self._chat.view.list_lines(self._list_columns, self._size[1]))

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
        more = f"[{view.scroll} lines below] " if view.scroll else ""
        if view.panel:
            width, height = self._size
            lines = len(view.message_lines(width, _now_ms()))
            last = min(view.scroll + height, lines)
            goes_on = "PageDown goes on, " if last < lines else ""
            more = f"[{last} of {lines} lines: {goes_on}Esc closes] "
        return [("", " " + more + (view.typing_line(time.monotonic()) or view.status))]

    # --- what is typed ------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Something may look different. What was typed and not sent stays with its conversation."""
        view = self._chat.view
        if view.selected != self._at and self._chat.question is None:
            if self._at:
                view.unsent[self._at] = self._input.text
                text = view.unsent.pop(view.selected, "")
                self._exchanging = True
                self._input.document = Document(text, len(text))
                self._exchanging = False
            self._at = view.selected
        self._app.invalidate()

    def _accept(self, buffer: Buffer) -> bool:
        if self._chat.question is not None:
            self._chat.answer(buffer.text)
            return False
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
        if buffer.text and not buffer.text.startswith("/") and not self._exchanging and self._chat.question is None:
            self._chat.typing()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        view = self._chat.view

        @keys.add("c-c")
        @keys.add("c-q")
        def _leave(_: KeyPressEvent) -> None:
            self.leave()

        @keys.add("c-d", filter=Condition(lambda: not self._input.text))
        def _end_of_input(_: KeyPressEvent) -> None:
            self.leave()

        @keys.add("escape", eager=True)
        def _close(_: KeyPressEvent) -> None:
            if self._chat.question is not None:
                self._input.reset()  # it is no text of the conversation
            self._chat.dismiss()

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
