"""Results as text for people."""

from __future__ import annotations

from bench import result


def text(found: result.Result) -> str:
    """A few lines: the main figures, then everything else that was measured, errors last and loud."""
    figures = found.figures
    lines = [f"{found.workload}: {_number(figures.rate_per_s)}/s ({'durable' if found.durable else 'in memory'})"]
    if figures.p50_ms is not None:
        lines.append(
            f"  p50 {_number(figures.p50_ms)} ms, p99 {_number(figures.p99_ms)} ms, p99.9 {_number(figures.p999_ms)} ms"
        )
    if figures.server_cpu_s is not None:
        lines.append(f"  server: {figures.server_cpu_s:.2f} CPU seconds in {figures.seconds:.1f} s")
    if figures.server_rss_bytes is not None:
        lines.append(f"  server: {figures.server_rss_bytes / 2**20:.1f} MiB resident")
    if figures.bytes_per_message is not None:
        lines.append(f"  {figures.bytes_per_message:.0f} bytes on the wire a message")
    lines += [f"  {name}: {_number(value)}" for name, value in figures.metrics.items()]
    lines.append(f"  {', '.join(f'{name}={value}' for name, value in found.params.items())}")
    if figures.errors:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in figures.errors.most_common())
        lines.append(f"  NOT A RESULT: {figures.errors.total()} ERRORS: {kinds}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    """With as many digits as mean something."""
    if value is None:
        return "not seen"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.3g}"
