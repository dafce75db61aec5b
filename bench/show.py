"""Figures as text for people: one result in full, all of them as the table of the README."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from bench import machine, result

#: Between these lines of the README stands what `python -m bench all` wrote last.
BEGIN = "<!-- bench: begin (written by `make bench`; do not edit) -->"
END = "<!-- bench: end -->"
UNSEEN = "not seen"


def short(value: float | None) -> str:
    """A number with as many digits as mean something."""
    if value is None:
        return UNSEEN
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def count(value: float | None) -> str:
    """How many: three digits mean something, the others are zeros."""
    if value is None:
        return UNSEEN
    digits = max(len(f"{abs(value):.0f}") - 3, 0)
    return f"{round(value, -digits):,.0f}"


def ms(value: float | None) -> str:
    return UNSEEN if value is None else f"{short(value)} ms"


def kib(value: float | None) -> str:
    return UNSEEN if value is None else f"{value / 1024:.1f} KiB"


def mb(value: float | None) -> str:
    return UNSEEN if value is None else f"{value / 1e6:.0f} MB"


def durability(found: result.Result) -> str:
    if found.durable is None:
        return "nothing is written" if found.url is None else "durability unknown"
    return "durable" if found.durable else "in memory"


def mistakes(found: result.Result) -> str:
    """Errors by kind, or nothing."""
    kinds = ", ".join(f"{number} x {kind}" for kind, number in found.figures.errors.most_common())
    return f"NOT A RESULT, {found.figures.errors.total()} errors: {kinds}" if kinds else ""


def text(found: result.Result) -> str:
    """A few lines: the main figures, then everything else that was measured, errors last and loud."""
    figures = found.figures
    lines = [f"{found.workload}: {short(figures.rate_per_s)}/s {found.rate} ({durability(found)})"]
    if figures.p50_ms is not None:
        lines.append(f"  p50 {ms(figures.p50_ms)}, p99 {ms(figures.p99_ms)}, p99.9 {ms(figures.p999_ms)}")
    if figures.server_cpu_s is not None:
        lines.append(f"  server: {figures.server_cpu_s:.2f} CPU seconds in {figures.seconds:.1f} s")
    if figures.server_rss_bytes is not None:
        lines.append(f"  server: {mb(figures.server_rss_bytes)} resident")
    if figures.bytes_per_message is not None:
        lines.append(f"  {figures.bytes_per_message:.0f} bytes on the wire a message")
    lines += [f"  {name}: {short(value)}" for name, value in figures.metrics.items()]
    lines.append(f"  {', '.join(f'{name}={value}' for name, value in found.params.items())}")
    if found.url is not None:
        lines.append(f"  {found.url}, whose version is not known")
    if figures.errors:
        lines.append(f"  {mistakes(found)}")
    return "\n".join(lines)


def table(results: Sequence[result.Result]) -> str:
    """Markdown: a row for each workload, then the machine. A workload with errors shows those instead of a figure.

    Of nodes of this checkout alone."""
    rows = ["| workload | what | measured | target |", "| --- | --- | --- | --- |"]
    for found in results:
        what = f"{found.what} ({durability(found)})"
        rows.append(f"| `{found.workload}` | {what} | {mistakes(found) or found.headline} | {found.target} |")
    place, software = machine.describe(), machine.versions()
    memory = int(place["memory_bytes"]) / 2**30
    runs = ", ".join(sorted({str(found.params["runs"]) for found in results}))
    apart = "server on one core and generator on another" if None not in machine.cores() else "server and generator on one core"
    note = (
        f"Medians of {runs} runs each, 128-byte bodies, {apart}."
        f" {place['cpu']}, {place['cores']} cores, {memory:.0f} GiB, Linux {place['kernel']};"
        f" Python {software['python']}, SQLite {software['sqlite']}; commit {machine.commit() or 'unknown'}, {machine.date()}."
    )
    return "\n".join([*rows, "", note])


def fill(readme: pathlib.Path, results: Sequence[result.Result]) -> bool:
    """Put the table between the marks of the README; False where it has none."""
    content = readme.read_text() if readme.exists() else ""
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return False
    readme.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")
    return True
