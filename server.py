"""The command line: run a node, check its configuration, talk to it while it runs, look after its data."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

import uvloop

import config
import node
import settings
import telemetry

logger = telemetry.logger("server")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 it failed, 2 the words or the configuration are wrong."""
    options = _parser().parse_args(arguments)
    try:
        loaded = _configuration(options)
    except settings.ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    return int(options.command(loaded, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="server.py", description=__doc__)
    parser.add_argument("--config", type=Path, help="the configuration (default: data/kith.toml; `run` writes a first one)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override one setting")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run the node until SIGTERM or SIGINT; SIGHUP reads the certificate again")
    run.set_defaults(command=_run)
    return parser


def _configuration(options: argparse.Namespace) -> config.Config:
    flags = {}
    for each in options.set:
        key, separator, value = each.partition("=")
        if not separator:
            raise settings.ConfigError([f"--set {each}: must be SECTION.KEY=VALUE"])
        flags[key] = value
    file = options.config
    if file is None:
        file = Path(flags.get("node.folder", "data")) / "kith.toml"
        if not file.exists():
            _first_configuration(file)
    return config.load(file, os.environ, flags)


def _first_configuration(file: Path) -> None:
    """Write a configuration with fresh secrets, for the owner's eyes only."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = config.default_toml({key: secrets.token_hex(32) for key in config.secret_keys()})
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)


def _run(loaded: config.Config, options: argparse.Namespace) -> int:
    problems = config.check(loaded)
    if problems:
        for problem in problems:
            print(problem, file=sys.stderr)
        return 2
    telemetry.start_logging(loaded.log.level, loaded.log.format)
    return uvloop.run(_serve(loaded))


async def _serve(loaded: config.Config) -> int:
    running = node.Node(loaded)
    await running.start()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, running.gateway.reload)
    host, port = running.gateway.addresses[0]
    print(f"ready ws://{host}:{port}/ws", flush=True)
    await stop.wait()
    await running.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
