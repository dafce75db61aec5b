"""Where and with what something was measured, and what a process used: read from /proc, so on Linux alone."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import pathlib
import platform
import resource
import sqlite3
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
#: Libraries that a figure depends on.
LIBRARIES = ("msgspec", "pykka", "uvloop", "websockets")
#: File systems in memory: nothing on them is durable.
VOLATILE = ("tmpfs", "ramfs")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, in user and kernel mode (proc(5), /proc/pid/stat, fields 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return _field(pathlib.Path(f"/proc/{pid}/status"), "VmRSS") * 1024


def describe() -> dict[str, str | int]:
    """The machine: processor, cores, memory, kernel."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": _field(pathlib.Path("/proc/meminfo"), "MemTotal") * 1024,
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, **found}


def commit() -> str:
    """The commit that was measured; "+" if the checkout differs from it, "" if there is none."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def date() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")


def scratch() -> pathlib.Path:
    """Where temporary data folders go: on a disk if there is one."""
    usual = pathlib.Path(tempfile.gettempdir())
    spare = pathlib.Path("/var/tmp")
    return spare if is_volatile(usual) and spare.is_dir() else usual


def is_volatile(path: pathlib.Path) -> bool:
    """Whether a folder lies in memory."""
    best, kind = "", ""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        place, name = line.split()[1:3]
        if path.resolve().is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind in VOLATILE


def cores() -> tuple[int | None, int | None]:
    """One core for the server and another for everything else; None where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def pin(core: int | None) -> None:
    """Keep this process, and what it starts, on one core."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def give_way() -> None:
    """Let this thread, and those it starts, run only while nobody else wants its core.

    SCHED_IDLE rather than nice(2): also the least nice of processes may keep a core for a few milliseconds from one that has
    just been woken (sched(7))."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def raise_file_limit() -> None:
    """Let this process, and what it starts, open as many files as it may: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _field(file: pathlib.Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(f"{file} has no {name}")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
