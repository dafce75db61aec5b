"""What the command line asks of a running node, by its command socket, and how it shows the answers."""

from __future__ import annotations

import argparse
import datetime as dt
import getpass
import sys
from typing import Any

import arguments
import control
from arguments import DONE, FAILED, REFUSED, Refusal
from protocol import ids


def _ask(options: argparse.Namespace, request: control.AnyRequest) -> dict[str, Any]:
    return control.ask(arguments.load(options).command_socket, request)


def _password(name: str) -> str:
    """From a prompt, twice; from a pipe, its first line. Never from the command line, which every user can see (ps)."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"Password for {name}: ")
    if first != getpass.getpass("Once more: "):
        raise Refusal("the two passwords differ")
    return first


def user_add(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
    password = _password(options.name)
    if not password:
        raise Refusal("the password is empty")
    added = _ask(options, control.AddUser(options.name, password))
    print(f"added {added['name']} (user {added['id']})")
    return DONE


def user_reset(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
    found = _ask(options, control.ResetUser(options.name))
    print(found["code"])
    print(f"Works once, for {found['minutes']} minutes.", file=sys.stderr)
    return DONE


def user_devices(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
    for each in _ask(options, control.ListDevices(options.name))["devices"]:
        print(f"{each['id']}\t{each['name'] or '(no name)'}\tlast seen {_day(each['last_seen'])}")
    return DONE


def revoke(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
    if options.device is not None and not 1 <= options.device <= ids.MAX_ID:
        raise Refusal("a device has a number from 1 on; `user devices NAME` lists them", REFUSED)
    gone = _ask(options, control.Revoke(options.name, options.device or 0))["devices"]
    for each in gone:
        print(f"revoked {each['id']}\t{each['name'] or '(no name)'}")
    return DONE


def invite(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
    if not 1 <= options.uses <= control.MAX_USES or not 0 <= options.days <= control.MAX_DAYS:
        raise Refusal(f"--uses is 1 to {control.MAX_USES}, --days 0 to {control.MAX_DAYS}", REFUSED)
    made = _ask(options, control.Invite(options.uses, options.days))
    print(made["code"])
    holds = f"for {made['days']} days" if made["days"] else "without an end"
    note = f"For {made['uses']} to register with, {holds}."
    if made["registration"] != "invite":
        note += f" Note that registration is {made['registration']} now (auth.registration)."
    print(note, file=sys.stderr)
    return DONE


def backup_to(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
    made = _ask(options, control.Backup(str(options.path.absolute())))
    print(f"wrote {made['path']}: {made['bytes']} bytes in {made['seconds']} s, every row read")
    for each in made["findings"]:
        print(each)
    if not made["wrong"]:
        return DONE
    print(f"{made['wrong']} findings: the node's store is damaged; see docs/operations.md", file=sys.stderr)
    return FAILED


def status(options: argparse.Namespace) -> int:
    """See the parser in `server.py`."""
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
