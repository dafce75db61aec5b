"""`python -m bench WORKLOAD`: measure a Kith node, and print what was found."""

from __future__ import annotations

import argparse
import json
import pathlib
import secrets
import sys

from bench import generators, machine, people, process, result, show, workload
from bench.workloads import abuse, actors, direct, group, history, idle, latency, storm

WORKLOADS = {
    each.name: each
    for each in (
        actors.WORKLOAD,
        direct.WORKLOAD,
        latency.WORKLOAD,
        group.WORKLOAD,
        idle.WORKLOAD,
        storm.WORKLOAD,
        history.WORKLOAD,
        abuse.WORKLOAD,
    )
}
ALL = "all"
RUNS_OF_ALL = 3


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 measured, 1 measured with errors, 2 not measured."""
    options = _parser().parse_args(arguments)
    names = list(WORKLOADS) if options.workload == ALL else [options.workload]
    runs = options.runs or (RUNS_OF_ALL if options.workload == ALL else 1)
    results = []
    try:
        with workload.surroundings(_remote(options), options.profile) as around:
            for name in names:
                try:
                    results.append(measure(around, WORKLOADS[name], runs, options.seconds, dict(options.param)))
                except workload.NotPossible as reason:
                    if options.workload != ALL:
                        raise
                    print(f"left out: {reason}", file=sys.stderr)
                    continue
                print(show.text(results[-1]), flush=True)
    except (generators.GeneratorFailed, process.ServerFailed, workload.NotPossible) as error:
        print(error, file=sys.stderr)
        return 2
    if options.workload == ALL:
        print(f"\n{show.table(results)}")
        if not show.fill(machine.ROOT / "README.md", results):
            print(f"README.md has no place for the table: a line {show.BEGIN} and a line {show.END}", file=sys.stderr)
    if options.json:
        found = [each.as_json() for each in results]
        options.json.write_text(json.dumps({"results": found} if options.workload == ALL else found[0], indent=2) + "\n")
    return 1 if any(each.figures.errors for each in results) else 0


def measure(
    around: workload.Surroundings, what: workload.Workload, runs: int, seconds: float | None, params: dict[str, int]
) -> result.Result:
    """Run a workload so many times. ValueError for a parameter that it does not have."""
    unknown = params.keys() - what.params.keys()
    if unknown:
        raise workload.NotPossible(f"{what.name} has no parameter {', '.join(unknown)}; there are {', '.join(what.params)}")
    chosen = {**what.params, **params}
    found = []
    for number in range(runs):
        around.bar.title(f"{what.name} {number + 1}/{runs}")
        found.append(what.run(workload.Run(around, what.name, chosen, seconds or what.seconds)))
    durable = what.durable and (around.remote is not None or not machine.is_volatile(around.scratch))
    figures = result.medians(found)
    texts = (what.name, what.what, what.rate, what.target, what.headline(figures))
    return result.Result(*texts, {**chosen, "runs": runs}, durable, figures)


def _remote(options: argparse.Namespace) -> workload.Remote | None:
    if options.url is None:
        return None
    prefix = f"b{secrets.token_hex(4)}-"
    accounts: people.Accounts = people.Registered(prefix)
    if options.jwt_secret:
        accounts = people.Signed(prefix, options.jwt_secret, options.jwt_issuer, options.jwt_audience)
    return workload.Remote(options.url, accounts, options.pid)


def _parameter(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name, int(value)


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {each.name:8} {each.what}; rate: {each.rate}" for each in WORKLOADS.values())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=f"workloads (each is described in bench/workloads/):\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", choices=[*WORKLOADS, ALL], help="what to measure; all: everything, for the README")
    parser.add_argument("--seconds", type=float, help="how long to measure, in each run (default: the workload's own)")
    parser.add_argument("--runs", type=int, help=f"runs, of which the medians are shown (default: 1; of all: {RUNS_OF_ALL})")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the result as a JSON object")
    parser.add_argument("--param", type=_parameter, action="append", default=[], metavar="NAME=N", help="another size")
    parser.add_argument("--profile", choices=["calls", "samples"], help="run the server under a profiler; shown at the end")
    there = parser.add_argument_group("a server that runs already", "its limits must let the generator through")
    there.add_argument("--url", help="ws://host:port/ws; without it, a node of its own on a temporary folder")
    there.add_argument("--pid", type=int, default=0, help="its process, if on this machine, for CPU and memory")
    there.add_argument("--jwt-secret", help="the HS256 key of one of its issuers; without it, accounts are registered")
    there.add_argument("--jwt-issuer", default="bench", help="(default: bench)")
    there.add_argument("--jwt-audience", default="kith", help="(default: kith)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
