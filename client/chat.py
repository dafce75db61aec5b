"""The terminal chat: `python -m client.chat [--url URL] [--name NAME] [--state FILE]`.

The first start asks for a name and a password, and registers or logs in. The device's token is then kept in a file of mode
0600, one per server and name, so that several people (or devices) live on one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import socket
import sys
import urllib.parse
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText

from client import errors, store, wording
from client.chatting import Chat
from client.client import Client
from client.screen import Screen
from protocol import codes, messages

DEFAULT_URL = "ws://127.0.0.1:8470/ws"
#: Seconds to wait for the server at the first start, when there is nothing to show without it.
FIRST_CONNECT_S = 10.0


def state_file(url: str, name: str, home: Path | None = None) -> Path:
    """Where the device of `name` at the server of `url` is kept."""
    base = os.environ.get("XDG_STATE_HOME", "")
    folder = (home or (Path(base) if base else Path.home() / ".local" / "state")) / "kith"
    safe = urllib.parse.quote(name.lower(), safe="")
    return folder / f"{_host(url)}-{safe}.json"


def known_names(url: str, home: Path | None = None) -> list[str]:
    """The names that have a device on this machine."""
    example = state_file(url, "x", home)
    prefix = f"{_host(url)}-"
    return sorted(urllib.parse.unquote(path.stem.removeprefix(prefix)) for path in example.parent.glob(f"{prefix}*.json"))


def _host(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}_{parts.port}" if parts.port else str(parts.hostname)


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m client.chat", description="Chat in the terminal.")
    parser.add_argument("--url", default=DEFAULT_URL, help=f"the server (default: {DEFAULT_URL})")
    parser.add_argument("--name", default="", help="your user name; several can live on one machine")
    parser.add_argument("--state", type=Path, help="the file of this device (default: under ~/.local/state/kith)")
    parser.add_argument("--invitation", default="", help="where the server registers by invitation alone")
    parser.add_argument("--insecure", action="store_true", help="allow a password over an unencrypted connection")
    return parser.parse_args(argv)


def exposed(url: str) -> bool:
    """Whether a password would cross a network unencrypted."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme != "wss" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


class Entrance:
    """The questions of the first start."""

    def __init__(self, session: PromptSession[str], invitation: str = "") -> None:
        self._session = session
        self._invitation = invitation

    async def _ask(self, text: str, *, secret: bool = False) -> str:
        """`secret` is said each time: the session would go on as it was told last."""
        answer: str = await self._session.prompt_async(text, is_password=secret)
        return answer

    async def new_name(self) -> str:
        return (await self._ask("Your name: ")).strip()

    async def name(self, url: str) -> str:
        """Whose device this is: the only one there is, or who the person says."""
        names = known_names(url)
        if len(names) == 1:
            return names[0]
        hint = f" ({', '.join(names)}, or a new one)" if names else ""
        return (await self._ask(f"Your name{hint}: ")).strip()

    async def credential(self, name: str) -> messages.Credential:
        """Register or log in; the same `request` for every try of it, so that a lost answer makes no second account."""
        answer = await self._ask(f"Is {name} new here? [y/n]: ")
        password = await self._ask("Password: ", secret=True)
        request, device = secrets.token_bytes(16), socket.gethostname()[:64]
        if not answer.strip().lower().startswith("y"):
            return messages.PasswordCredential(name, password, request, device)
        again = await self._ask("Password again: ", secret=True)
        if again != password:
            raise ValueError("The passwords differ")
        return messages.RegisterCredential(name, password, request, device, self._invitation)

    def say(self, text: str) -> None:
        self._session.app.print_text(FormattedText([("", text + "\n")]))


async def _client(options: argparse.Namespace, name: str, entrance: Entrance) -> Client:
    """A client that was let in, or one with a token that goes on trying."""
    kept = store.FileStore(options.state or state_file(options.url, name))
    if (await asyncio.to_thread(kept.load)).token:
        client = Client(options.url, kept=kept, agent="kith-chat/1")
        await client.start_soon()
        return client
    if exposed(options.url) and not options.insecure:
        raise ValueError(f"{options.url} is not encrypted: your password could be read on the way (--insecure to go on)")
    while True:
        try:
            credential = await entrance.credential(name)
            client = Client(options.url, credential, kept=kept, agent="kith-chat/1")
            await client.start(FIRST_CONNECT_S)
            return client
        except codes.Refused as refused:
            entrance.say(wording.refusal(refused))
            if refused.error in (codes.NAME_TAKEN, codes.BAD_NAME):
                name = await entrance.new_name()
                kept = store.FileStore(options.state or state_file(options.url, name))
        except ValueError as error:
            entrance.say(wording.failure(error))


async def _evening(chat: Chat) -> str:
    """Show the chat until the person or the server ends it; returns what is to be said then."""
    screen = Screen(chat)
    follower = asyncio.create_task(chat.run())
    over = asyncio.create_task(chat.over.wait())
    shown = asyncio.create_task(screen.run())
    try:
        await asyncio.wait({over, shown}, return_when=asyncio.FIRST_COMPLETED)
        if not shown.done():
            screen.leave()
        await shown
    finally:
        over.cancel()
        follower.cancel()
        await asyncio.wait({follower, over})
        await chat.close()
    return chat.view.status if chat.over.is_set() else ""


async def run(options: argparse.Namespace, entrance: Entrance) -> str:
    """Until the person has enough; returns what is to be said at the end. A device that was logged out from elsewhere is no
    end: the questions of the first start are asked again."""
    name = options.name or await entrance.name(options.url)
    while True:
        chat = Chat(await _client(options, name, entrance))
        name = chat.client.identity.name or name
        farewell = await _evening(chat)
        if chat.left or not chat.client.revoked:
            return farewell
        entrance.say(farewell)


def main(argv: list[str]) -> int:
    try:
        options = arguments(argv)
        farewell = asyncio.run(run(options, Entrance(PromptSession(), options.invitation)))
    except (errors.ClientError, codes.Refused, ValueError, OSError) as error:
        print(error if isinstance(error, OSError) else wording.failure(error), file=sys.stderr)  # noqa: T201
        return 1
    except (KeyboardInterrupt, EOFError):
        return 130
    if farewell:
        print(farewell)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
