"""Who may import whom, and what may happen when a module is imported: the table, and the walk that holds it.

Every import counts, also one inside a function or for type checking alone. The last tests plant violations.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Room:
    """What modules of a room may import beside each other and the standard library."""

    imports: tuple[str, ...] = ()
    """Modules of this checkout; a package stands for everything in it."""
    third_party: tuple[str, ...] = ()
    pure: bool = False
    """Sans-I/O: no loop, socket, file, clock or randomness; time and ids are passed in."""
    everything: bool = False
    """May import all of the checkout, and what is installed; no other room imports it."""


CONTRACTS = ("storage.interfaces", "storage.records", "storage.errors", "storage.bundle")

# msgspec defines the frames: it stands in the rooms that take bodies of frames in hand, as bytes that are relayed.
ROOMS = {
    "settings": Room(),
    "config": Room(("settings",)),
    "telemetry": Room(third_party=("prometheus_client", "structlog")),
    "protocol": Room(third_party=("msgspec",), pure=True),
    "storage": Room(("protocol.ids",)),
    "storage.sqlite": Room(CONTRACTS),
    "auth": Room(("protocol", *CONTRACTS, "telemetry"), ("argon2", "joserfc", "cryptography", "precis_i18n")),
    "auth.policy": Room(("protocol", *CONTRACTS), ("msgspec",), pure=True),
    "actors.runtime": Room(("telemetry",), ("pykka",)),
    "actors.state": Room(("protocol", "storage.records", "auth.policy"), ("msgspec",), pure=True),
    "actors": Room(("actors", "protocol", *CONTRACTS, "cluster", "auth", "telemetry"), ("msgspec",)),
    "gateway": Room(
        (
            "actors.directory",
            "actors.commands",
            "actors.messages",
            "actors.sink",
            "actors.runtime.errors",
            "protocol",
            "auth",
            "config",
            "telemetry",
        ),
        ("websockets", "aiohttp", "uvloop"),
    ),
    "client": Room(("protocol",), ("websockets", "prompt_toolkit", "rich", "msgspec")),
    # The composition root: what chooses the back end, puts the parts together and talks to the operator.
    "server": Room(everything=True),
    "arguments": Room(everything=True),
    "commands": Room(everything=True),
    "node": Room(everything=True),
    "control": Room(everything=True),
    "operations": Room(everything=True),
    "bench": Room(everything=True),
    "scripts": Room(everything=True),
    "tests": Room(everything=True),
}

NOT_IMPORTED = ("gateway", "server", "arguments", "commands", "node", "control", "operations", "bench", "scripts", "tests")
"""Rooms that nobody imports but those that may import everything."""

DRIVERS = {
    "sqlite3": "storage.sqlite",
    "aiosqlite": "storage.sqlite",
    "acsylla": "storage.cassandra",
    "cassandra": "storage.cassandra",
    "redis": "storage.redis",
    "aiobotocore": "storage.s3",
}
"""Each driver, and the only room where its name stands. Tests and benchmarks look at stores from outside."""

IMPURE = frozenset(
    "asyncio concurrent datetime glob http io logging multiprocessing os pathlib queue random sched secrets select"
    " selectors shutil signal socket socketserver ssl subprocess tempfile threading time urllib uuid".split()
)
"""Modules of the standard library that a pure room has no use for."""

AT_IMPORT = (
    "os.environ os.getenv environ getenv socket. open io.open os.open asyncio.run asyncio.new_event_loop uvloop.install"
    " uvloop.run threading.Thread threading.Timer subprocess. signal.signal atexit.register logging.basicConfig"
    " structlog.configure sqlite3.connect Path.read_text Path.read_bytes time.time time.monotonic random. secrets."
    " prometheus_client.Counter prometheus_client.Gauge prometheus_client.Histogram prometheus_client.REGISTRY"
).split()
"""What connects, registers, reads the environment or the clock; a trailing dot stands for any call of the module."""

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|not implemented|stub|stubbed)\b", re.IGNORECASE)


def room_of(module: str) -> str | None:
    """The room with the longest name that the module is in."""
    names = [name for name in ROOMS if module == name or module.startswith(f"{name}.")]
    return max(names, key=len, default=None)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def python_files() -> list[Path]:
    found = (path for path in ROOT.rglob("*.py") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts))
    return sorted(path for path in found if path.relative_to(ROOT).parts[0] not in ("data", "web", "deploy", "docs"))


FILES = python_files()
PRODUCT = [path for path in FILES if room_of(module_name(path)) != "tests"]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import. ``from a import b`` is a.b where that is a module, else a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if is_module(inner) else base


def import_problems(module: str, tree: ast.AST) -> Iterator[str]:
    """Imports that the table does not allow to the module."""
    name = room_of(module)
    if name is None:
        yield f"{module} is in no room of the table"
        return
    room = ROOMS[name]
    for line, target in imported(tree):
        top = target.partition(".")[0]
        target_room = room_of(target)
        if target.startswith("."):
            yield f"{module}:{line} imports relatively ({target})"
        if target.startswith(".") or room.everything:
            continue
        if target_room is not None:
            allowed = any(target == each or target.startswith(f"{each}.") for each in room.imports)
            if target_room != name and (target_room in NOT_IMPORTED or not allowed):
                yield f"{module}:{line} may not import {target}"
        elif top in sys.stdlib_module_names:
            if room.pure and top in IMPURE:
                yield f"{module}:{line} is pure and may not import {target}"
        elif top not in room.third_party:
            yield f"{module}:{line} may not import the package {target}"


def driver_problems(module: str, tree: ast.AST) -> Iterator[str]:
    """Names of drivers outside their rooms: imported, or as text for importlib."""
    name = room_of(module)
    if name in ("tests", "bench"):
        return
    found = [(line, target.partition(".")[0]) for line, target in imported(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((node.lineno, node.value))
        elif isinstance(node, ast.Name):
            found.append((node.lineno, node.id))
    for line, word in found:
        if word in DRIVERS and name != DRIVERS[word]:
            yield f"{module}:{line} names the driver {word}, which only {DRIVERS[word]} may"


def purity_problems(module: str, tree: ast.AST) -> Iterator[str]:
    """Coroutines, and files opened, in a pure room."""
    name = room_of(module)
    if name is None or not ROOMS[name].pure:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{module}:{node.lineno} is pure and may not await"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "input", "print"):
            yield f"{module}:{node.lineno} is pure and may not call {node.func.id}"


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The expressions that are evaluated when a module is imported: no body of a function, no ``__main__``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield part
                yield from run_at_import(part)
        elif not _is_skipped(child):
            yield child
            yield from run_at_import(child)


def _is_skipped(node: ast.AST) -> bool:
    return isinstance(node, ast.Lambda) or (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test))


def import_time_problems(module: str, tree: ast.AST) -> Iterator[str]:
    """What a module does when it is imported, beyond defining things."""
    if room_of(module) == "tests":
        return
    for node in run_at_import(tree):
        called = node.func if isinstance(node, ast.Call) else node
        if not isinstance(called, ast.Attribute | ast.Name):
            continue
        text = ast.unparse(called)
        is_call = isinstance(node, ast.Call)
        for banned in AT_IMPORT:
            reads_environment = "env" in banned  # os.environ["X"] is no call
            hit = text.startswith(banned) if banned.endswith(".") else text == banned or text.startswith(f"{banned}.")
            if hit and (is_call or reads_environment):
                yield f"{module}:{called.lineno} uses {text} when it is imported"


def problems(module: str, source: str) -> list[str]:
    tree = ast.parse(source)
    checks = (import_problems, driver_problems, purity_problems, import_time_problems)
    return [line for check in checks for line in check(module, tree)]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_a_module_imports_only_what_its_room_may_and_does_nothing_when_imported(path: Path) -> None:
    assert problems(module_name(path), path.read_text(encoding="utf-8")) == []


def test_the_product_has_no_words_of_unfinished_work() -> None:
    places = [*PRODUCT, *ROOT.glob("scripts/*.sh"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in places
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("protocol.codec", "import actors.sink", "may not import actors.sink"),
        ("protocol.codec", "import asyncio", "is pure and may not import asyncio"),
        ("protocol.codec", "import precis_i18n", "may not import the package precis_i18n"),
        ("protocol.codec", "def f():\n    from time import monotonic", "is pure and may not import time"),
        ("protocol.codec", "from . import ids", "imports relatively"),
        ("actors.state.log", "async def decide(): ...", "is pure and may not await"),
        ("actors.state.log", "from storage import interfaces", "may not import storage.interfaces"),
        ("actors.state.log", "from auth import passwords", "may not import auth"),
        ("actors.runtime.actor", "from actors import sink", "may not import actors.sink"),
        ("actors.writer", "from storage import sqlite", "may not import storage"),
        ("actors.writer", "import gateway.outbox", "may not import gateway.outbox"),
        ("actors.writer", "import sqlite3", "names the driver sqlite3"),
        ("actors.writer", "import importlib\nimportlib.import_module('redis')", "names the driver redis"),
        ("storage.records", "import storage.sqlite.writer", "may not import storage.sqlite.writer"),
        ("storage.sqlite.writer", "import telemetry", "may not import telemetry"),
        ("gateway.websocket", "import actors.session", "may not import actors.session"),
        ("client.connection", "import auth.tokens", "may not import auth.tokens"),
        ("config", "import os\nHOME = os.environ['HOME']", "uses os.environ"),
        ("config", "import os\nclass A:\n    home: str = os.getenv('HOME')", "uses os.getenv"),
        ("config", "import server", "may not import server"),
        ("auth.tokens", "import socket\nlistener = socket.socket()", "uses socket.socket"),
        ("auth.tokens", "def f(words=open('words').read()): ...", "uses open"),
        ("lounge.sofa", "", "is in no room of the table"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, reason: str) -> None:
    assert any(reason in line for line in problems(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("auth.names", "import precis_i18n\nfrom protocol import codes"),
        ("storage.sqlite.writer", "import sqlite3\nfrom storage import errors, records"),
        ("actors.session", "from actors.state import log\nfrom actors.runtime import actor\nimport time"),
        ("gateway.websocket", "from actors import sink\nimport websockets.server\nimport os\ndef f(): return os.environ"),
        ("server", "import gateway.listener\nimport os\nif __name__ == '__main__':\n    os.environ['HOME']"),
        ("bench.direct", "import sqlite3, numpy, server"),
    ],
)
def test_what_the_table_allows_is_no_violation(module: str, source: str) -> None:
    assert problems(module, source) == []
