"""`python -m bench.demo`: a scene of a play between real clients on a node of its own; then everybody tells what they have.

It starts the server on a temporary folder, plays what the text says (bench/demo_script.py reads it, bench/demo_stage.py plays
it), brings every device back, and compares what each one has, and how it was acknowledged, with what was confirmed to those
who said it.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import signal
import sys
import tempfile
import time

import rich.console

from bench import demo_readback, demo_script, demo_show, process
from bench.demo_cast import SceneFailed
from bench.demo_stage import Stage
from client import errors
from protocol import codes

PLAY = pathlib.Path(__file__).parent / "data" / "hamlet_1_1.txt"
#: Seconds between two steps: quick to read along, and the whole stays far under 30 s.
PACE_S = 0.1
#: Columns where there is no terminal to ask.
WIDTH = 120
#: Exit status.
AGREED, DISAGREED, NOT_PLAYED = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all agree, 1 somebody has it otherwise, 2 the scene could not be played."""
    options = _parser().parse_args(arguments)
    # SIGTERM ends it as Ctrl-C does: the node is stopped, the folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal = sys.stdout.isatty()
    console = rich.console.Console(highlight=False, width=None if terminal else WIDTH)
    began = time.monotonic()
    try:
        play = demo_script.read(options.play)
        stage, finding = run(play, console, options.pace)
    except (demo_script.ScriptError, SceneFailed, process.ServerFailed, errors.ClientError, codes.Refused) as error:
        print(f"not played: {error}", file=sys.stderr)
        return NOT_PLAYED
    except KeyboardInterrupt:
        print("ended before the end", file=sys.stderr)
        return NOT_PLAYED
    demo_show.transcripts(console, finding, each=options.each)
    demo_show.readings(console, finding)
    return conclude(console, stage, finding, time.monotonic() - began)


def run(play: demo_script.Play, console: rich.console.Console, pace_s: float) -> tuple[Stage, demo_readback.Finding]:
    """Start a node, play, read back, stop the node, remove its folder; whatever happens, the last two."""
    console.rule(f"[bold]{play.title}[/]")
    console.print(f"{play.scene}. {play.author}; {play.rights}", justify="center", style="dim")
    with tempfile.TemporaryDirectory(prefix="kith-demo-") as folder, demo_show.Playing(console, len(play.steps)) as playing:
        playing.phase("starting a node")
        server = process.OwnServer(pathlib.Path(folder), {})
        try:
            return asyncio.run(_played(play, server.url, pace_s, playing))
        finally:
            server.stop()


async def _played(
    play: demo_script.Play, url: str, pace_s: float, playing: demo_show.Playing
) -> tuple[Stage, demo_readback.Finding]:
    stage = Stage(play, url, pace_s, playing.step)
    try:
        playing.phase(f"{len(play.cast)} people register")
        await stage.gather()
        playing.phase("playing")
        await stage.perform()
        playing.phase("everybody comes back and reads")
        return stage, await demo_readback.read_back(stage)
    finally:
        await stage.end()


def conclude(console: rich.console.Console, stage: Stage, finding: demo_readback.Finding, seconds: float) -> int:
    """Say what was found; the exit status."""
    if finding.differences:
        demo_show.differences(console, finding.differences)
        console.print("[bold red]They do not agree.[/]")
        return DISAGREED
    devices = [device for person in stage.people.values() for device in person.devices]
    said = [line for conversation in stage.conversations.values() for line in conversation.said]
    readings = sum(1 + len(version.records) for version in finding.versions)
    typed = sum(sum(device.typed.values()) for device in devices)
    cuts = sum(device.relay.cuts for device in devices)
    console.print(
        f"[bold green]All agree.[/] {len(said)} lines in {len(stage.conversations)} conversations, {readings} readings by "
        f"{len(stage.people)} people on {len(devices)} devices, {finding.receipts} receipts; {cuts} connections cut, "
        f"{stage.lost_answers} confirmation lost and repeated; somebody was seen typing {typed} times; {seconds:.1f} s."
    )
    return AGREED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--play", type=pathlib.Path, default=PLAY, help="the text (its format stands at the top of the default)"
    )
    parser.add_argument("--pace", type=float, default=PACE_S, metavar="SECONDS", help=f"between two steps (default: {PACE_S})")
    parser.add_argument("--each", action="store_true", help="also print every reader's own copy, in full")
    return parser


if __name__ == "__main__":
    sys.exit(main())
