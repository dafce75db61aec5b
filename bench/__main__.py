"""`python -m bench WORKLOAD`: measure a Kith node, and print what was found."""

from __future__ import annotations

import argparse
import json
import pathlib
import secrets
import sys

from bench import generators, machine, people, process, result, show, wire, workload
from bench.workloads import abuse, actors, direct, group, history, idle, latency, maximum, storm

WORKLOADS = {
    each.name: each
    for each in (
        actors.WORKLOAD,
        direct.WORKLOAD,
        latency.WORKLOAD,
        maximum.WORKLOAD,
        group.WORKLOAD,
        idle.WORKLOAD,
        storm.WORKLOAD,
        history.WORKLOAD,
        abuse.WORKLOAD,
    )
}
ALL = "all"
RUNS_OF_ALL = 3
#: What --help says of other servers.
RAISED = """a server that runs already takes the generator for one very busy address, so raise there (all but `abuse`):
{}
and, for `idle`, its limit of open files (ulimit -n) and limits.max_connections. For wss:// its certificate has to be
known to this machine; SSL_CERT_FILE names another file of authorities. Accounts are registered, 32 at a time, and stay:
auth.registration must be "open"; or give --jwt-secret of one of its [[auth.jwt]] issuers. `history`, `storm` and `actors`
need a node of their own, `abuse` one on a loopback address. What is not known of such a server (machine without --pid,
versions, commit, durability) is null in the JSON object."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 measured, 1 measured with errors, 2 not measured."""
    options = options_of(arguments)
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
        if options.url is None:
            print(f"\n{show.table(results)}")
        if not is_full(options):
            print("README.md stays as it is: its table is of full runs, on a node of this checkout", file=sys.stderr)
        elif not show.fill(machine.ROOT / "README.md", results):
            print(f"README.md has no place for the table: a line {show.BEGIN} and a line {show.END}", file=sys.stderr)
    if options.json:
        found = [each.as_json() for each in results]
        options.json.write_text(json.dumps({"results": found} if options.workload == ALL else found[0], indent=2) + "\n")
    return 1 if any(each.figures.errors for each in results) else 0


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """SystemExit with status 2 and a line, when they do not fit."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if problem := _problem(options):
        parser.error(problem)
    return options


def measure(
    around: workload.Surroundings, what: workload.Workload, runs: int, seconds: float | None, params: dict[str, int]
) -> result.Result:
    """Run a workload so many times. NotPossible with a parameter that it does not have."""
    unknown = params.keys() - what.params.keys()
    if unknown:
        raise workload.NotPossible(f"{what.name} has no parameter {', '.join(unknown)}; there are {', '.join(what.params)}")
    chosen = {**what.params, **params}
    found = []
    for number in range(runs):
        around.bar.title(f"{what.name} {number + 1}/{runs}")
        found.append(what.run(workload.Run(around, what.name, chosen, seconds or what.seconds)))
    figures = result.medians(found)
    texts = (what.name, what.what, what.rate, what.target, what.headline(figures))
    remote = around.remote
    if remote is not None:
        return result.Result(*texts, {**chosen, "runs": runs}, None, figures, remote.url, bool(remote.pid))
    durable = what.durable and not machine.is_volatile(around.scratch)
    return result.Result(*texts, {**chosen, "runs": runs}, durable, figures)


def is_full(options: argparse.Namespace) -> bool:
    """Whether this is what the README shows: every workload at its own size and length, on a node that nothing slows down."""
    is_long = options.seconds is None and (options.runs or RUNS_OF_ALL) >= RUNS_OF_ALL
    return options.workload == ALL and is_long and options.url is None and options.profile is None


def _problem(options: argparse.Namespace) -> str | None:
    """What is wrong with the options together."""
    if options.workload == ALL and options.param:
        return "--param belongs to one workload"
    if options.url is None and (options.pid or options.jwt_secret):
        return "--pid and --jwt-secret belong to --url"
    if options.url is not None and options.profile:
        return "--profile starts a node of its own; --url has one"
    if options.url is not None:
        try:
            wire.endpoint(options.url)
        except ValueError as error:
            return f"--url {error}"
    return None


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
    raised = "\n".join(f"  {key} = {value}" for key, value in process.UNLIMITED.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog=f"workloads (each is described in bench/workloads/):\n{listed}\n\n{RAISED.format(raised)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workload", choices=[*WORKLOADS, ALL], help="what to measure; all: everything, for the README")
    parser.add_argument("--seconds", type=float, help="how long to measure, in each run (default: the workload's own)")
    parser.add_argument("--runs", type=int, help=f"runs, of which the medians are shown (default: 1; of all: {RUNS_OF_ALL})")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the result as a JSON object")
    parser.add_argument("--param", type=_parameter, action="append", default=[], metavar="NAME=N", help="another size")
    parser.add_argument("--profile", choices=["calls", "samples"], help="run the server under a profiler; shown at the end")
    there = parser.add_argument_group("a server that runs already", "its limits must let the generator through: see below")
    there.add_argument("--url", help="ws[s]://host:port/ws; without it, a node of its own on a temporary folder")
    there.add_argument("--pid", type=int, default=0, help="its process, if on this machine, for CPU and memory")
    there.add_argument("--jwt-secret", help="the HS256 key of one of its issuers; without it, accounts are registered")
    there.add_argument("--jwt-issuer", default="bench", help="(default: bench)")
    there.add_argument("--jwt-audience", default="kith", help="(default: kith)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
