"""The terminal chat against the model server: what is typed, what happens, what is on the screen."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.output.vt100 import Vt100_Output
from rich.cells import cell_len

from client import chat, slash, store
from client.chatting import Chat
from client.client import Client
from client.screen import LIST_COLUMNS, Screen
from protocol import codes, events, ids, messages
from tests.client.conftest import Node


class Desk:
    """One person at a chat. `until` waits for what the chat comes to know."""

    def __init__(self, found: Chat) -> None:
        self.chat = found
        self._changed = asyncio.Event()
        self.watch()

    def watch(self) -> None:
        """Hear of changes beside whoever hears of them already."""
        draw = self.chat.changed

        def changed() -> None:
            draw()
            self._changed.set()

        self.chat.changed = changed

    @property
    def shown(self) -> list[str]:
        lines = self.chat.view.message_lines(60, 0)
        return ["".join(text for _, text in line) for line in lines]

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def sees(self, text: str) -> None:
        await self.until(lambda: any(text in line for line in self.shown))

    async def types(self, line: str) -> bool:
        return await slash.run(self.chat, line)


@pytest.fixture
async def desks(node: Node) -> AsyncIterator[list[Desk]]:
    found = []
    followers = []
    for name in ("asha", "ben", "cara"):
        client = Client(node.url, messages.RegisterCredential(name, "a good password", name.ljust(16).encode()))
        await client.start()
        desk = Desk(Chat(client, clock=lambda: 100.0))
        followers.append(asyncio.create_task(desk.chat.run()))
        await desk.until(lambda desk=desk: desk.chat.view.connection == "online")  # type: ignore[misc]
        await desk.chat.settled()
        found.append(desk)
    yield found
    for desk, follower in zip(found, followers, strict=True):
        await desk.chat.close()
        await follower


async def test_two_people_talk(desks: list[Desk]) -> None:
    asha, ben, _ = desks
    await asha.types("/open ben")
    asha.chat.send("hi ben")
    await asha.sees("you: hi ben ✓")
    assert asha.chat.view.waiting[asha.chat.view.selected] == []
    await ben.until(ben.chat.view.conversations)
    ben.chat.select(ben.chat.view.move(1))
    await ben.sees("asha: hi ben")
    await ben.types("/reply 1 hi asha")
    await asha.sees("ben: hi asha")
    await asha.sees("┌ you: hi ben")


async def test_what_is_typed_is_on_the_screen_before_the_server_has_it(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    await asha.types("/open ben")
    node.deaf = True
    asha.chat.send("still under way")
    assert asha.shown[-1] == "you: still under way …"


async def test_a_refused_message_stays_and_says_why(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    await asha.types("/open ben")
    await asha.chat.settled()
    node.server.refuse = [codes.Refused(codes.NOT_ALLOWED)]
    asha.chat.send("hello?")
    await asha.sees("you: hello? ✗ Not allowed")


async def test_a_refused_message_can_be_dropped_and_one_under_way_cannot(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    await asha.types("/open ben")
    await asha.chat.settled()
    node.server.refuse = [codes.Refused(codes.NOT_ALLOWED)]
    asha.chat.send("hello?")
    await asha.sees("hello? ✗")
    node.deaf = True
    asha.chat.send("under way")
    asha.chat.dismiss()
    assert [waiting.text for waiting in asha.chat.view.waiting[asha.chat.view.selected]] == ["under way"]


async def test_what_cannot_be_sent_is_said_and_the_chat_goes_on(desks: list[Desk]) -> None:
    asha, _, _ = desks
    await asha.types("/open ben")
    await asha.chat.settled()
    asha.chat.send("\udcff")
    await asha.sees("✗ There are characters in it that cannot be sent")
    asha.chat.send("x" * 20_000)
    await asha.sees("✗ Longer than the limit")
    for line in ("/find \udcff", "/open \udcff", "/create \udcff: ben", "/profile \udcff", "/join \udcff"):
        asha.chat.say("")
        asha.chat.do(asha.types(line))
        await asha.chat.settled()
        assert asha.chat.view.status, line
    asha.chat.send("still here")
    await asha.sees("still here ✓")


async def test_a_fault_of_the_chats_own_is_said(desks: list[Desk]) -> None:
    asha, _, _ = desks

    async def fail() -> None:
        raise ZeroDivisionError("by nothing")

    asha.chat.do(fail())
    await asha.chat.settled()
    assert asha.chat.view.status == "ZeroDivisionError: by nothing"


async def test_messages_are_edited_deleted_and_reacted_to(desks: list[Desk]) -> None:
    asha, _, _ = desks
    await asha.types("/open ben")
    for text in ("helo", "regret"):
        asha.chat.send(text)
        await asha.sees(f"{text} ✓")
    await asha.types("/edit 1 hello")
    await asha.types("/delete #2")
    await asha.types("/react 1 👍")
    await asha.sees("👍 you")
    assert any("hello (edited)" in line for line in asha.shown)
    assert not any("regret" in line for line in asha.shown)


async def test_a_group_is_made_and_talked_in(desks: list[Desk]) -> None:
    asha, ben, cara = desks
    await asha.types("/create Book club: ben cara")
    await asha.sees("you made the group “Book club” with ben, cara")
    asha.chat.send("welcome @ben")
    for desk in (ben, cara):
        await desk.until(desk.chat.view.conversations)
        desk.chat.select(desk.chat.view.move(1))
        await desk.sees("asha: welcome @ben")
    assert ben.chat.view.header(0) == "Book club · 3 members"
    await ben.types("/members")
    assert ben.chat.view.panel == ["owner   asha", "member  cara", "member  you"]


async def test_a_mention_counts_in_bytes_and_needs_a_member(desks: list[Desk]) -> None:
    asha, ben, _ = desks
    await asha.types("/open ben")
    await asha.chat.settled()
    stream = asha.chat.view.selected
    user = ben.chat.client.identity.user
    await asha.chat.user_named("ben")
    assert asha.chat.mentions(stream, "né @ben and @cara") == [events.Mention(user, 4, 4)]


async def test_looking_at_a_conversation_reads_it(desks: list[Desk], node: Node) -> None:
    asha, ben, _ = desks
    await asha.types("/open ben")
    asha.chat.send("read me")
    await ben.until(ben.chat.view.conversations)
    assert ben.chat.view.conversations()[0].unread == 1
    ben.chat.select(ben.chat.view.move(1))
    await ben.until(lambda: ben.chat.view.conversations()[0].unread == 0)
    read = [frame for link in node.links for frame in link.received if isinstance(frame, messages.Read)]
    assert [frame.seq for frame in read] == [1]


async def test_older_pages_come_as_one_scrolls(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    stream = ids.direct_stream(asha.chat.client.identity.user, asha.chat.client.identity.user)
    await asyncio.gather(*(asha.chat.client.send_text(stream, f"note {number}") for number in range(250)))
    await asha.until(lambda: asha.chat.state.stream(stream).head == 250)
    asha.chat.state.stream(stream).items.clear()
    await asha.types("/note")
    await asha.chat.settled()
    found = asha.chat.state.stream(stream)
    assert (min(found.items), len(found.items)) == (151, 100)
    asha.chat.older()
    asha.chat.older()
    await asha.chat.settled()
    assert len(found.items) == 200
    asha.chat.older()
    await asha.chat.settled()
    asha.chat.older()
    await asha.chat.settled()
    assert sorted(found.items) == list(range(1, 251))


async def test_typing_is_told_every_few_seconds_and_not_at_every_key(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    await asha.types("/open ben")
    for _ in range(5):
        asha.chat.typing()
    await asha.chat.client.open(1)  # whatever was told before it has arrived
    told = [frame for link in node.links for frame in link.received if isinstance(frame, messages.Typing)]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/nonsense", "There is no /nonsense"),
        ("/edit", "/edit N TEXT"),
        ("/react x", "a number is missing"),
        ("/delete 0", "a number from 1 to 9007199254740991"),
        ("/hide 1 99999999999999999999", "a number from 1 to"),
        ("/timer -1", "a number from 0 to 34560000"),
        ("/title New", "in a group"),
        ("/join abc", "this is no invite"),
        ("/find zz", "Nobody is called zz"),
    ],
)
async def test_a_command_that_does_not_fit_says_how_it_is_used(desks: list[Desk], line: str, said: str) -> None:
    asha, _, _ = desks
    if line != "/edit":
        await asha.types("/open ben")
    assert await asha.types(line)
    assert said in asha.chat.view.status


async def test_an_unknown_name_is_said(desks: list[Desk]) -> None:
    asha, _, _ = desks
    asha.chat.do(asha.types("/open nobody"))
    await asha.chat.settled()
    assert asha.chat.view.status == "Nobody is called nobody"


async def test_help_names_every_command_and_fits_the_pane(desks: list[Desk]) -> None:
    asha, _, _ = desks
    await asha.types("/help")
    for name in slash.COMMANDS:
        assert any(line.startswith(f"/{name}") for line in asha.chat.view.panel)
    assert max(map(cell_len, asha.chat.view.panel)) <= 80 - LIST_COLUMNS - 1


async def test_quitting_is_the_callers_business(desks: list[Desk]) -> None:
    assert await desks[0].types("/quit") is False


async def test_who_is_logged_out_is_told_so(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    await node.close(codes.REVOKED)
    await asha.chat.over.wait()
    assert asha.chat.view.status == "This device is logged out"


class Paper(io.StringIO):
    """What a terminal was told to show."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def flush(self) -> None:
        self._written.set()

    async def shows(self, text: str, begin: int = 0) -> None:
        while text not in self.getvalue()[begin:]:
            self._written.clear()
            await self._written.wait()


async def test_the_screen_draws_and_takes_keys(desks: list[Desk]) -> None:
    asha, ben, _ = desks
    drawn = Paper()
    with create_pipe_input() as keys:
        screen = Screen(asha.chat, keys, Vt100_Output(drawn, lambda: Size(rows=24, columns=80), term="dumb"))
        asha.watch()
        running = asyncio.create_task(screen.run())
        keys.send_text("/open ben\r")
        await asha.until(lambda: asha.chat.view.selected)
        keys.send_text("hello from the keyboard\r")
        await drawn.shows("hello from the keyboard")
        await ben.until(ben.chat.view.conversations)
        keys.send_text("\x11")
        await running


async def test_what_was_typed_stays_with_its_conversation(desks: list[Desk]) -> None:
    asha, _, _ = desks
    drawn = Paper()
    await asha.types("/open ben")
    with_ben = asha.chat.view.selected
    with create_pipe_input() as keys:
        screen = Screen(asha.chat, keys, Vt100_Output(drawn, lambda: Size(rows=24, columns=80), term="dumb"))
        asha.watch()
        running = asyncio.create_task(screen.run())
        keys.send_text("for ben's eyes")
        await drawn.shows("for ben's eyes")
        await asha.types("/open cara")
        assert asha.chat.view.unsent == {with_ben: "for ben's eyes"}
        keys.send_text("hello cara\r")
        await asha.sees("you: hello cara ✓")
        asha.chat.select(with_ben)
        assert asha.chat.view.unsent.get(with_ben, "") == ""
        keys.send_text(" only\r")
        await asha.sees("you: for ben's eyes only ✓")
        keys.send_text("\x04")
        await running


async def test_the_prompt_is_there_again_after_a_long_line(desks: list[Desk]) -> None:
    asha, _, _ = desks
    drawn = Paper()
    with create_pipe_input() as keys:
        screen = Screen(asha.chat, keys, Vt100_Output(drawn, lambda: Size(rows=24, columns=80), term="dumb"))
        asha.watch()
        running = asyncio.create_task(screen.run())
        keys.send_text("x" * 300 + "END")
        await drawn.shows("END")
        before = len(drawn.getvalue())
        keys.send_text("\r")
        await drawn.shows(">", before)
        keys.send_text("\x04")
        await running


async def test_passwords_are_asked_for_and_not_shown(desks: list[Desk], node: Node) -> None:
    asha, _, _ = desks
    drawn = Paper()
    with create_pipe_input() as keys:
        screen = Screen(asha.chat, keys, Vt100_Output(drawn, lambda: Size(rows=24, columns=80), term="dumb"))
        asha.watch()
        running = asyncio.create_task(screen.run())
        keys.send_text("/password\r")
        for text, answer in (("The old", "old secret"), ("The new", "new secret"), ("Once more", "new secret")):
            await asha.until(lambda text=text: asha.chat.question and asha.chat.question.text.startswith(text))  # type: ignore[misc]
            keys.send_text(answer)
            await drawn.shows("*" * len(answer.split()[0]))
            keys.send_text("\r")
        await asha.until(lambda: "is changed" in asha.chat.view.status)
        keys.send_text("/password\r")
        await asha.until(lambda: asha.chat.question)
        keys.send_text("half\x1b")
        await asha.until(lambda: asha.chat.view.status == "Nothing was changed")
        keys.send_text("\x04")
        await running
    assert "secret" not in drawn.getvalue()
    (frame,) = [frame for link in node.links for frame in link.received if isinstance(frame, messages.ChangePassword)]
    assert (frame.old, frame.new) == ("old secret", "new secret")


async def test_a_long_list_says_how_to_go_on_and_how_to_close_it(desks: list[Desk]) -> None:
    asha, _, _ = desks
    drawn = Paper()
    with create_pipe_input() as keys:
        screen = Screen(asha.chat, keys, Vt100_Output(drawn, lambda: Size(rows=24, columns=80), term="dumb"))
        running = asyncio.create_task(screen.run())
        keys.send_text("/help\r")
        await drawn.shows("PageDown")  # of a line, only what changes is drawn
        assert "PageDown goes on, Esc closes]" in status(screen)
        for _ in range(3):
            screen._scroll(-20)
        assert status(screen).endswith(" lines: Esc closes] ")
        keys.send_text("\x04")
        await running


def status(screen: Screen) -> str:
    return "".join(part[1] for part in screen._status())


class Session(PromptSession[str]):
    """Notes which questions were answered unseen."""

    def __init__(self) -> None:
        super().__init__()
        self.unseen: list[tuple[str, bool]] = []

    async def prompt_async(self, *args: Any, **more: Any) -> str:
        answer = await super().prompt_async(*args, **more)
        self.unseen.append((answer, bool(self.is_password)))
        return answer


async def test_only_passwords_are_typed_unseen() -> None:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        session = Session()
        entrance = chat.Entrance(session)
        keys.send_text("y\rsecret\rsecret\rasha2\rn\rother\r")
        await entrance.credential("asha")
        await entrance.new_name()
        await entrance.credential("asha2")
    assert [answer for answer, unseen in session.unseen if unseen] == ["secret", "secret", "other"]


class Doorman(chat.Entrance):
    """Answers the questions of the first start, and then leaves by Ctrl-Q."""

    def __init__(self, keys: PipeInput) -> None:
        super().__init__(PromptSession())
        self.keys = keys
        self.said: list[str] = []

    async def credential(self, name: str) -> messages.Credential:
        self.keys.send_text("\x11")
        return messages.RegisterCredential(name, "a good password", b"doorman's request"[:16])

    def say(self, text: str) -> None:
        self.said.append(text)


async def test_who_was_logged_out_elsewhere_is_asked_to_log_in_again(node: Node, tmp_path: Path) -> None:
    kept = store.FileStore(tmp_path / "asha.json")
    kept.save(store.Saved(1, 5, "asha", b"a token of yesterday", 7))
    options = chat.arguments(["--url", node.url, "--name", "asha", "--state", str(tmp_path / "asha.json")])
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        doorman = Doorman(keys)
        assert await chat.run(options, doorman) == ""
    assert doorman.said == ["This device is logged out"]
    assert kept.load().token in node.server.devices


async def test_who_logs_out_is_done_and_may_log_in_the_next_time(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "asha.json"
    options = chat.arguments(["--url", node.url, "--name", "asha", "--state", str(path)])
    async with Client(node.url, messages.RegisterCredential("asha", "a good password", b"a" * 16), kept=store.FileStore(path)):
        pass
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("/logout\r")
        doorman = Doorman(keys)
        assert await chat.run(options, doorman) == "This device is logged out"
    assert doorman.said == []
    assert store.FileStore(path).load() == store.Saved()


def test_each_name_at_each_server_has_its_own_file(tmp_path: Path) -> None:
    files = {
        chat.state_file(url, name, tmp_path)
        for url in ("ws://127.0.0.1:8470/ws", "wss://chat.example/ws")
        for name in ("asha", "ben", "../../etc/passwd")
    }
    assert len(files) == 6
    assert {file.parent for file in files} == {tmp_path / "kith"}
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    assert chat.known_names("wss://chat.example/ws", tmp_path) == ["../../etc/passwd", "asha", "ben"]


@pytest.mark.parametrize(
    ("url", "yes"),
    [
        ("ws://127.0.0.1:8470/ws", False),
        ("ws://localhost/ws", False),
        ("wss://a.example/ws", False),
        ("ws://a.example/ws", True),
    ],
)
def test_a_password_does_not_cross_a_network_unencrypted(url: str, yes: bool) -> None:
    assert chat.exposed(url) is yes
