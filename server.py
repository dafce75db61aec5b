"""The command line of a Kith server: run a node, check its configuration, command it while it runs, look after its data."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

import arguments
import commands
import config
import control
import node
import settings
import telemetry
from arguments import DONE, FAILED, GAVE_UP, REFUSED, Refusal
from protocol import events
from storage import errors, records
from storage.sqlite import backup, doctor, isolate
from storage.sqlite import store as sqlite
from storage.sqlite.connection import FILE as DATABASE

MANUAL = """\
settings:
  A value comes from --set, else from the environment, else from the configuration file, else from its default:
    --set listener.port=8470        KITH_LISTENER_PORT=8470        [listener] port = 8470   (TOML)
  The file is FOLDER/kith.toml, unless --config names another. `run` writes a first one, with fresh secrets and every
  setting explained in it; `check-config --all` explains them too. Unknown keys and impossible values are refused.

files in the data folder (mode 0700):
  kith.toml   the configuration, with the node's secret: back it up, without it invitations and invite links are void
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
  server.py backup /var/backups/kith/monday.db
  server.py restore /var/backups/kith/monday.db /srv/kith-new
"""

Command = Callable[[argparse.Namespace], int]


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status, as the manual says."""
    options = _parser().parse_args(words)
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
    arguments.add_common(parser, "")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")

    def add(group: Any, name: str, command: Command, text: str, more: str = "") -> argparse.ArgumentParser:
        found: argparse.ArgumentParser = group.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}. {more}".strip()
        )
        found.set_defaults(command=command)
        arguments.add_common(found, "_late")
        return found

    add(
        verbs,
        "run",
        run,
        "run the node until SIGTERM or SIGINT",
        "Writes a first configuration when there is none. Prints `ready URL` on a line of its own once clients can connect;"
        " logs go to standard error.",
    )
    check = add(
        verbs,
        "check-config",
        check_config,
        "say what would be in force, or everything that is wrong with it",
        "Needs no node and changes nothing. Secrets are not shown. Each problem names its place, its key and the reason.",
    )
    check.add_argument("--all", action="store_true", help="explain every setting, with default, unit and bounds")
    user = verbs.add_parser("user", help="add a user, let one set a new password, list devices")
    users = user.add_subparsers(required=True, metavar="COMMAND", title="commands")
    each = add(
        users,
        "add",
        commands.user_add,
        "make an account, whoever may register",
        "Asks for the password; when standard input is no terminal, its first line is taken.",
    )
    each.add_argument("name", metavar="NAME")
    each = add(
        users,
        "reset",
        commands.user_reset,
        "print a one-time code with which a user sets a new password",
        "All devices of the user are logged out when it is used.",
    )
    each.add_argument("name", metavar="NAME")
    add(users, "devices", commands.user_devices, "list the devices that a user is logged in with").add_argument(
        "name", metavar="NAME"
    )
    each = add(
        verbs,
        "revoke",
        commands.revoke,
        "log out a user's device and cut it off",
        "`user devices` lists them. The user's other devices are told.",
    )
    each.add_argument("name", metavar="NAME")
    which = each.add_mutually_exclusive_group(required=True)
    which.add_argument("device", metavar="DEVICE", type=int, nargs="?", help="the number of the device")
    which.add_argument("--all", action="store_true", help="all devices of the user")
    each = add(verbs, "invite", commands.invite, "print an invitation, for a node whose registration is by invitation")
    each.add_argument("--uses", type=int, default=1, metavar="N", help="people who may register with it (default: 1)")
    each.add_argument("--days", type=int, default=14, metavar="N", help="days it holds; 0: without an end (default: 14)")
    each = add(
        verbs,
        "backup",
        commands.backup_to,
        "write a verified copy of a running node's data",
        "The new file PATH appears complete, or not at all; an existing one is not overwritten. The node goes on meanwhile."
        " Expired messages are erased first and are not in it. Every row of the copy is read: exit status 1 and a line for each"
        " that is damaged. Keep kith.toml with it.",
    )
    each.add_argument("path", metavar="PATH", type=Path)
    each = add(
        verbs,
        "restore",
        restore,
        "make a data folder from a backup",
        "Reads all of the copy and checks every row first. FOLDER must be empty or new, and no node may run on it. Put the old"
        " node's kith.toml into it before the first run.",
    )
    each.add_argument("backup", metavar="BACKUP", type=Path)
    each.add_argument("target", metavar="FOLDER", type=Path)
    each.add_argument("--with-damage", action="store_true", help="take a damaged copy too; what is wrong with it is named")
    each = add(
        verbs,
        "doctor",
        examine,
        "read everything that is stored and name whatever is wrong with it",
        "For the folder of a stopped node, or a backup file. Without --isolate it changes nothing. Exit status 1 when something"
        " is wrong.",
    )
    each.add_argument("path", metavar="PATH", type=Path, nargs="?", help="folder or backup (default: the data folder)")
    each.add_argument(
        "--isolate",
        action="store_true",
        help="give up what is damaged in the folder, so that a node can start on it: each thing lost is named",
    )
    add(
        verbs,
        "status",
        commands.status,
        "say how the running node is",
        "Exit status 1 when none runs, or when something is wrong.",
    )
    return parser


def check_config(options: argparse.Namespace) -> int:
    """See the parser."""
    node.raise_file_limit()
    if options.all:
        for each in config.describe():
            print(f"{each.key} = {_shown(each.default)}{f'   ({each.allowed})' if each.allowed else ''}\n    {each.why}")
        return DONE
    loaded = arguments.load(options)
    problems = arguments.problems(loaded)
    if problems:
        raise settings.ConfigError(problems)
    for warning in arguments.warnings(loaded):
        _complain(f"warning: {warning}")
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
    loaded, written = arguments.load_or_write(options, DATABASE)
    problems = arguments.problems(loaded)
    if problems:
        raise settings.ConfigError(problems)
    for warning in arguments.warnings(loaded):
        _complain(f"warning: {warning}")
    telemetry.start_logging(loaded.log.level, loaded.log.format)
    return uvloop.run(_serve(loaded, written))


def open_store(loaded: config.Config) -> Awaitable[sqlite.SQLiteStore]:
    """The back end of a node: here it is chosen."""
    return sqlite.open_store(loaded.node.folder, readers=loaded.storage.reader_threads)


async def _serve(loaded: config.Config, written: bool) -> int:
    running = node.Node(loaded, open_store)
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
    found = backup.restore(options.backup, options.target, _progress("checking"), with_damage=options.with_damage)
    _show(found)
    print(f"restored {options.target}; put the old node's kith.toml into it, then: server.py --folder {options.target} run")
    return DONE


def examine(options: argparse.Namespace) -> int:
    """See the parser."""
    path: Path = options.path or arguments.load(options).node.folder
    if not path.exists():
        raise Refusal(f"{path} does not exist")
    if options.isolate:
        if not path.is_dir():
            raise Refusal(f"{path} is no data folder; only there something is given up", REFUSED)
        for line in isolate.isolate(path, lost_event):
            print(f"given up: {line}")
    findings = (doctor.doctor if path.is_dir() else doctor.examine)(path, _progress("reading"))
    if findings:
        _show(findings)
        return FAILED
    print(f"{path}: nothing is wrong")
    return DONE


def _show(findings: Sequence[records.Finding]) -> None:
    for each in findings:
        print(f"{each.where}: {each.what}")
    if findings:
        print(f"{len(findings)} findings; what to do stands in docs/operations.md", file=sys.stderr)


def lost_event(n: int, before: bytes | None) -> bytes:
    """What stands in the place of an event whose bytes have rotted (see `isolate.Placeholder`): a message of nobody, with the
    time of the event before, that has expired. So readers are told that it is gone, and its stream's state does not change."""
    time = events.decode(before).time if before is not None else 0
    return events.encode(events.Message(n, time, 0, 0, 0, events.NIL, expires_at=1))


if __name__ == "__main__":
    sys.exit(main())
