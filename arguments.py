"""From the words of a command line to a configuration: where it stands, the first one, and whether a node may run with it."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import config
import control
import node
import settings
from gateway import tls

DONE = 0
FAILED = 1
REFUSED = 2
GAVE_UP = 3


class Refusal(Exception):
    """The command cannot be carried out: one line for people, and the exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def add_common(parser: argparse.ArgumentParser, ending: str) -> None:
    """Options that may stand before the command or after it."""
    group = parser.add_argument_group("where and how")
    group.add_argument("--config", dest=f"config{ending}", type=Path, metavar="FILE", help="default: FOLDER/kith.toml")
    group.add_argument("--folder", dest=f"folder{ending}", type=Path, metavar="FOLDER", help="node.folder; default: ./data")
    group.add_argument(
        "--set", dest=f"set{ending}", action="append", metavar="SECTION.KEY=VALUE", help="one setting; may come several times"
    )


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    flags: dict[str, Any] = {}
    for each in (*(options.set or ()), *(options.set_late or ())):
        key, separator, value = each.partition("=")
        if not separator:
            raise settings.ConfigError([f"--set {each}: must be SECTION.KEY=VALUE"])
        flags[key] = value
    named = options.folder_late or options.folder
    if named is not None:
        flags["node.folder"] = named
    return flags


def _file(options: argparse.Namespace, flags: Mapping[str, Any]) -> tuple[Path, bool]:
    """The configuration file, and whether it has to exist."""
    named: Path | None = options.config_late or options.config
    if named is not None:
        return named, True
    where = flags.get("node.folder") or os.environ.get("KITH_NODE_FOLDER") or config.Node().folder
    return Path(where) / "kith.toml", False


def load(options: argparse.Namespace) -> config.Config:
    """The configuration that the words name. settings.ConfigError."""
    flags = _flags(options)
    file, named = _file(options, flags)
    return config.load(file if named or file.exists() else None, os.environ, flags)


def load_or_write(options: argparse.Namespace, database: str) -> tuple[config.Config, bool]:
    """The configuration to run with, and whether it was written just now. `database` is the file that a folder with data has.

    None is written where the secret is given otherwise. Nor beside a database: with a new secret, commands that are repeated
    would be refused, and invitations and invite links would be void."""
    flags = _flags(options)
    file, named = _file(options, flags)
    if named or file.exists() or "auth.secret" in flags or "KITH_AUTH_SECRET" in os.environ:
        return load(options), False
    config.load(None, os.environ, flags)  # nothing is written for a command line that is wrong
    if (file.parent / database).exists():
        raise Refusal(
            f"{file.parent} holds data but no kith.toml: put back the one it was used with. (If that is lost, set"
            " KITH_AUTH_SECRET to 64 random hexadecimal digits; invitations and invite links are void then.)",
            REFUSED,
        )
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = config.default_toml({key: secrets.token_hex(config.SECRET_BYTES) for key in config.secret_keys()})
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(unfinished, file)  # never replaces one that appeared meanwhile
    except FileExistsError:
        return load(options), False
    finally:
        unfinished.unlink()
    return load(options), True


def problems(loaded: config.Config) -> list[str]:
    """Why a node must not, or cannot, run with this; what a start would find out one by one."""
    place = str(loaded.source or "configuration")
    problems = config.check(loaded)
    try:
        config.connection_limit(loaded.limits, node.file_limit())
    except settings.ConfigError as error:
        problems += [f"{place}: {each}" for each in error.problems]
    listener = loaded.listener
    if listener.tls_certificate is not None and listener.tls_key is not None:
        try:
            tls.Certificate(listener.tls_certificate, listener.tls_key)
        except OSError as error:
            problems.append(f"{place}: {error}")
    try:
        node.issuers(loaded)
    except ValueError as error:
        problems.append(f"{place}: auth.jwt: {error}")
    if len(os.fsencode(loaded.command_socket)) > control.MAX_PATH:
        problems.append(f"{place}: node.folder: {loaded.command_socket} is too long for a socket ({control.MAX_PATH} bytes)")
    return problems


def warnings(loaded: config.Config) -> list[str]:
    """What others on this machine may see of it, though nobody should."""
    file, folder = loaded.source, loaded.node.folder
    found = []
    if file is not None and file.stat().st_mode & 0o077:
        found.append(f"{file} holds the node's secret and others may read it: chmod 600 {file}")
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        found.append(f"others may look into the data folder {folder}: chmod 700 {folder}")
    return found
