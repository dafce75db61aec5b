"""The command line of a Kith server: run a node, check its configuration, command it while it runs, look after its data."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import getpass
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

import config
import control
import node
import settings
import telemetry
from gateway import tls
from storage import errors
from storage.sqlite import backup, doctor
from storage.sqlite.connection import FILE as DATABASE

DONE = 0
FAILED = 1
REFUSED = 2
GAVE_UP = 3

MANUAL = """\
settings:
  A value comes from --set, else from the environment, else from the configuration file, else from its default:
    --set listener.port=8470        KITH_LISTENER_PORT=8470        [listener] port = 8470   (TOML)
  The file is FOLDER/kith.toml, unless --config names another. `run` writes a first one, with fresh secrets and every
  setting explained in it; `check-config --all` explains them too. Unknown keys and impossible values are refused.

files in the data folder (mode 0700):
  kith.toml   the configuration, with the node's secret: back it up, without it all devices have to log in again
  kith.db     everything that is stored; kith.db-wal and -shm belong to it while a node runs
  kith.sock   where `user`, `revoke`, `invite`, `backup` and `status` find the running node (mode 0600: its user alone)
  lock        held by the node that runs

signals to a running node:
  SIGTERM, SIGINT   stop: answer what was taken, tell clients when to come back, flush. A second one cuts it short
  SIGHUP            read certificate and key again; when they are unusable, the old ones stay

exit status:
  0   done
  1   it could not be done: port in use, folder in use, damaged database, disk full, no node running, ...
  2   the command line or the configuration is wrong; the same again will fail again
  3   the node gave up while it ran: start it anew

examples:
  server.py run
  server.py --folder /srv/kith check-config
  server.py user add asha                          asks for a password; with a pipe, its first line is the password
  server.py invite --uses 5 --days 7
  server.py backup /backups/kith-monday.db
  server.py restore /backups/kith-monday.db /srv/kith-new
"""

Command = Callable[[argparse.Namespace], int]


class Refusal(Exception):
    """The command cannot be carried out: one line for people, and the exit status."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status, as the manual says."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except settings.ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        return REFUSED
    except Refusal as refusal:
        _complain(str(refusal))
        return refusal.status
    except (control.Failed, errors.StorageError, OSError) as error:
        _complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        return FAILED


def _complain(text: str) -> None:
    print(f"server.py: {text}", file=sys.stderr)


# --- the words --------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description=__doc__,
        epilog=MANUAL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser, "")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def add(group: Any, name: str, command: Command, text: str, more: str = "") -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = group.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip()
        )
        found.set_defaults(command=command)
        _add_common(found, "_late")
        return found

    add(
        commands,
        "run",
        run,
        "run the node until SIGTERM or SIGINT",
        "Writes a first configuration when there is none. Prints `ready URL` on a line of its own once clients can connect;"
        " logs go to standard error.",
    )
    check = add(
        commands,
        "check-config",
        check_config,
        "say what would be in force, or everything that is wrong with it",
        "Needs no node and changes nothing. Secrets are not shown. Each problem names its place, its key and the reason.",
    )
    check.add_argument("--all", action="store_true", help="explain every setting, with default, unit and bounds")
    user = commands.add_parser("user", help="add a user, let one set a new password, list devices")
    users = user.add_subparsers(required=True, metavar="COMMAND", title="commands")
    each = add(
        users,
        "add",
        user_add,
        "make an account, whoever may register",
        "Asks for the password; when standard input is no terminal, its first line is taken.",
    )
    each.add_argument("name", metavar="NAME")
    each = add(
        users,
        "reset",
        user_reset,
        "print a one-time code with which a user sets a new password",
        "All devices of the user are logged out when it is used.",
    )
    each.add_argument("name", metavar="NAME")
    add(users, "devices", user_devices, "list the devices that a user is logged in with").add_argument("name", metavar="NAME")
    each = add(
        commands,
        "revoke",
        revoke,
        "log out a user's device and cut it off",
        "`user devices` lists them. The user's other devices are told.",
    )
    each.add_argument("name", metavar="NAME")
    which = each.add_mutually_exclusive_group(required=True)
    which.add_argument("device", metavar="DEVICE", type=int, nargs="?", help="the number of the device")
    which.add_argument("--all", action="store_true", help="all devices of the user")
    each = add(commands, "invite", invite, "print an invitation, for a node whose registration is by invitation")
    each.add_argument("--uses", type=int, default=1, metavar="N", help="people who may register with it (default: 1)")
    each.add_argument("--days", type=int, default=14, metavar="N", help="days it holds; 0: without an end (default: 14)")
    each = add(
        commands,
        "backup",
        backup_to,
        "write a verified copy of a running node's data",
        "The new file PATH appears complete and verified, or not at all; an existing one is not overwritten. The node goes on"
        " meanwhile. Expired messages are erased first and are not in it. Keep kith.toml with it.",
    )
    each.add_argument("path", metavar="PATH", type=Path)
    each = add(
        commands,
        "restore",
        restore,
        "make a data folder from a backup",
        "Reads all of the copy and checks every row first. FOLDER must be empty or new, and no node may run on it. Put the old"
        " node's kith.toml into it before the first run.",
    )
    each.add_argument("backup", metavar="BACKUP", type=Path)
    each.add_argument("target", metavar="FOLDER", type=Path)
    each = add(
        commands,
        "doctor",
        examine,
        "read everything that is stored and name whatever is wrong with it",
        "For the folder of a stopped node, or a backup file. Changes nothing. Exit status 1 when something is wrong.",
    )
    each.add_argument("path", metavar="PATH", type=Path, nargs="?", help="folder or backup (default: the data folder)")
    add(commands, "status", status, "say how the running node is", "Exit status 1 when none runs, or when something is wrong.")
    return parser


def _add_common(parser: argparse.ArgumentParser, ending: str) -> None:
    """Options that may stand before the command or after it."""
    group = parser.add_argument_group("where and how")
    group.add_argument("--config", dest=f"config{ending}", type=Path, metavar="FILE", help="default: FOLDER/kith.toml")
    group.add_argument("--folder", dest=f"folder{ending}", type=Path, metavar="FOLDER", help="node.folder; default: ./data")
    group.add_argument(
        "--set", dest=f"set{ending}", action="append", metavar="SECTION.KEY=VALUE", help="one setting; may come several times"
    )


# --- configuration ----------------------------------------------------------------------------------------------------


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


def _load(options: argparse.Namespace) -> config.Config:
    flags = _flags(options)
    file, named = _file(options, flags)
    return config.load(file if named or file.exists() else None, os.environ, flags)


def _load_or_write(options: argparse.Namespace) -> tuple[config.Config, bool]:
    """The configuration to run with, and whether it was written just now.

    None is written where the secret is given otherwise. Nor beside a database: with a new secret, all devices would be logged
    out and repeated commands would count as new ones."""
    flags = _flags(options)
    file, named = _file(options, flags)
    if named or file.exists() or "auth.secret" in flags or "KITH_AUTH_SECRET" in os.environ:
        return _load(options), False
    config.load(None, os.environ, flags)  # nothing is written for a command line that is wrong
    if (file.parent / DATABASE).exists():
        raise Refusal(
            f"{file.parent} holds data but no kith.toml: put back the one it was used with. (If that is lost, set"
            " KITH_AUTH_SECRET to 64 random hexadecimal digits; everybody has to log in again.)",
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
        return _load(options), False
    finally:
        unfinished.unlink()
    return _load(options), True


def _problems(loaded: config.Config) -> list[str]:
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


def check_config(options: argparse.Namespace) -> int:
    """See the parser."""
    node.raise_file_limit()
    if options.all:
        for each in config.describe():
            print(f"{each.key} = {_shown(each.default)}{f'   ({each.allowed})' if each.allowed else ''}\n    {each.why}")
        return DONE
    loaded = _load(options)
    problems = _problems(loaded)
    if problems:
        raise settings.ConfigError(problems)
    for each in config.describe():
        value = getattr(getattr(loaded, each.section), each.name)
        print(f"{each.key} = {'(secret)' if each.secret else _shown(value)}")
    source = loaded.source or "defaults, as there is no file yet; `run` writes one"
    print(f"# from {source}; at most {config.connection_limit(loaded.limits, node.file_limit())} connections")
    return DONE


def _shown(value: Any) -> str:
    """A value as an operator reads it. Records hide their own secrets (`settings.setting`)."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(each) for each in value) + "]"
    return "(none)" if value is None else str(value)


# --- run --------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """See the parser."""
    node.raise_file_limit()
    loaded, written = _load_or_write(options)
    problems = _problems(loaded)
    if problems:
        raise settings.ConfigError(problems)
    telemetry.start_logging(loaded.log.level, loaded.log.format)
    return uvloop.run(_serve(loaded, written))


async def _serve(loaded: config.Config, written: bool) -> int:
    running = node.Node(loaded)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stop_or_hurry() -> None:
        if stop.is_set():
            running.hurry()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_or_hurry)
    await running.start()
    loop.add_signal_handler(signal.SIGHUP, running.gateway.reload)
    _tell(running, written)
    waits = {loop.create_task(event.wait()) for event in (stop, running.ended)}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await running.stop()
    return GAVE_UP if running.failure is not None else DONE


def _tell(running: node.Node, written: bool) -> None:
    """What runs and what to do next, for people; then one line for programs."""
    loaded = running.settings
    file = loaded.source or "none: defaults, environment and flags"
    print(f"Kith runs on {loaded.node.folder}, process {os.getpid()}.")
    print(f"  talk      make chat   (clients connect to {running.url})")
    print(f"  settings  {file}{', written just now with fresh secrets' if written else ''}")
    print(f"  people    registration is {loaded.auth.registration}; `server.py user add NAME` adds somebody in any case")
    print(f"  metrics   {running.internal_url}/metrics, with /healthz and /readyz")
    print("  stop      Ctrl-C, or SIGTERM")
    print(f"ready {running.url}", flush=True)


# --- a running node ---------------------------------------------------------------------------------------------------


def _ask(options: argparse.Namespace, request: control.AnyRequest) -> dict[str, Any]:
    return control.ask(_load(options).command_socket, request)


def _password(name: str) -> str:
    """From a prompt, twice; from a pipe, its first line. Never from the command line, which every user can see (ps)."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"Password for {name}: ")
    if first != getpass.getpass("Once more: "):
        raise Refusal("the two passwords differ")
    return first


def user_add(options: argparse.Namespace) -> int:
    """See the parser."""
    added = _ask(options, control.AddUser(options.name, _password(options.name)))
    print(f"added {added['name']} (user {added['id']})")
    return DONE


def user_reset(options: argparse.Namespace) -> int:
    """See the parser."""
    found = _ask(options, control.ResetUser(options.name))
    print(found["code"])
    print(f"Works once, for {found['minutes']} minutes.", file=sys.stderr)
    return DONE


def user_devices(options: argparse.Namespace) -> int:
    """See the parser."""
    for each in _ask(options, control.ListDevices(options.name))["devices"]:
        print(f"{each['id']}\t{each['name'] or '(no name)'}\tlast seen {_day(each['last_seen'])}")
    return DONE


def revoke(options: argparse.Namespace) -> int:
    """See the parser."""
    if options.device is not None and options.device < 1:
        raise Refusal("a device has a number from 1 on; `user devices NAME` lists them", REFUSED)
    gone = _ask(options, control.Revoke(options.name, options.device or 0))["devices"]
    for each in gone:
        print(f"revoked {each['id']}\t{each['name'] or '(no name)'}")
    return DONE


def invite(options: argparse.Namespace) -> int:
    """See the parser."""
    if options.uses < 1 or options.days < 0:
        raise Refusal("--uses is at least 1, --days at least 0", REFUSED)
    made = _ask(options, control.Invite(options.uses, options.days))
    print(made["code"])
    holds = f"for {made['days']} days" if made["days"] else "without an end"
    note = f"For {made['uses']} to register with, {holds}."
    if made["registration"] != "invite":
        note += f" Note that registration is {made['registration']} now (auth.registration)."
    print(note, file=sys.stderr)
    return DONE


def backup_to(options: argparse.Namespace) -> int:
    """See the parser."""
    made = _ask(options, control.Backup(str(options.path.absolute())))
    print(f"wrote {made['path']}: {made['bytes']} bytes in {made['seconds']} s, verified")
    return DONE


def status(options: argparse.Namespace) -> int:
    """See the parser."""
    found = _ask(options, control.Status())
    actors = ", ".join(f"{count} {kind}" for kind, count in found["actors"].items())
    print(f"process {found['pid']}, up {dt.timedelta(seconds=found['uptime_s'])}, epoch {found['epoch']}")
    print(f"clients at {found['url']}, metrics at {found['internal']}/metrics")
    print(f"{found['connections']} connections; actors: {actors}; {found['restarts']} restarts after crashes")
    print(f"{found['messages_committed']} messages, {found['events_committed']} events stored since the start")
    for problem in found["problems"]:
        print(f"problem: {problem}")
    return FAILED if found["problems"] else DONE


def _day(milliseconds: int) -> str:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


# --- data -------------------------------------------------------------------------------------------------------------


def _progress(word: str) -> Callable[[int, int], None]:
    """One line on a terminal that counts; nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda _done, _total: None
    return lambda done, total: print(
        f"\r{word}: {done} of {total} streams", end="\n" if done == total else "", file=sys.stderr, flush=True
    )


def restore(options: argparse.Namespace) -> int:
    """See the parser."""
    if not options.backup.is_file():
        raise Refusal(f"{options.backup} is no file")
    backup.restore(options.backup, options.target, _progress("checking"))
    print(f"restored {options.target}; put the old node's kith.toml into it, then: server.py --folder {options.target} run")
    return DONE


def examine(options: argparse.Namespace) -> int:
    """See the parser."""
    path: Path = options.path or _load(options).node.folder
    if path.is_file():
        findings = doctor.examine(path, _progress("reading"))
    elif path.is_dir():
        findings = doctor.doctor(path, _progress("reading"))
    else:
        raise Refusal(f"{path} does not exist")
    for each in findings:
        print(f"{each.where}: {each.what}")
    if findings:
        print(f"{len(findings)} findings; what to do stands in docs/operations.md", file=sys.stderr)
        return FAILED
    print(f"{path}: nothing is wrong")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
