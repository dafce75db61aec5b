"""`server.py` under a profiler: `python -m bench.profiled_server calls|samples [flags of server.py]`.

calls    cProfile in every thread, by its CPU time: exact counts; small functions look dearer than they are.
samples  what the main thread's Python was doing, up to 1,000 times a second of the process's CPU time (the kernel's clock may
         allow fewer): lines and functions, little distortion. Time inside C functions counts for the line that called them;
         time of the loop and of other threads for whatever Python came next. The CPU of each thread stands above the lists.
"""

from __future__ import annotations

import collections
import cProfile
import os
import pathlib
import pstats
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import server

#: Rows of each list.
ROWS = 45
SAMPLE_S = 0.001
#: Samples between two looks at the CPU of the threads: some end before the server does.
THREADS_EVERY = 100


def calls(run: Callable[[], int]) -> int:
    """Run under cProfile, and print where the time went."""
    profiles = [cProfile.Profile(time.thread_time)]
    original = threading.Thread.run

    def profiled(thread: threading.Thread) -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.runcall(original, thread)

    if sys.version_info < (3, 12):  # later, the profiler of one thread is that of all
        threading.Thread.run = profiled  # type: ignore[method-assign, assignment]
    status = profiles[0].runcall(run)
    stats = pstats.Stats(*profiles, stream=sys.stderr)
    stats.sort_stats("tottime").print_stats(ROWS)
    stats.sort_stats("cumulative").print_stats(ROWS)
    return status


def samples(run: Callable[[], int]) -> int:
    """Run with a sampling timer, and print what was seen most."""
    threads: dict[str, float] = {}
    lines: collections.Counter[str] = collections.Counter()
    own: collections.Counter[str] = collections.Counter()
    total: collections.Counter[str] = collections.Counter()

    def sample(_number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        if not own.total() % THREADS_EVERY:
            threads.update(_threads())
        lines[f"{_name(frame)}:{frame.f_lineno}"] += 1
        own[_name(frame)] += 1
        seen = set()
        at: FrameType | None = frame
        while at is not None:
            seen.add(_name(at))
            at = at.f_back
        total.update(seen)

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    try:
        return run()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        for name, seconds in {**threads, **_threads()}.items():
            print(f"{seconds:7.2f} s  {name}", file=sys.stderr)
        count = max(sum(own.values()), 1)
        for title, seen in (("itself", own), ("with what it calls", total), ("line", lines)):
            print(f"\n--- {count} samples: {title}", file=sys.stderr)
            for name, times in seen.most_common(ROWS):
                print(f"{100 * times / count:6.2f} %  {name}", file=sys.stderr)


def _threads() -> dict[str, float]:
    """CPU seconds of each living thread so far (/proc/PID/task/TID/stat)."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for task in pathlib.Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        found[f"{task.name} {names.get(int(task.name), '')}"] = ticks / os.sysconf("SC_CLK_TCK")
    return found


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{'/'.join(code.co_filename.split('/')[-2:])} {code.co_qualname}"


if __name__ == "__main__":
    how, *arguments = sys.argv[1:]
    sys.exit({"calls": calls, "samples": samples}[how](lambda: server.main(arguments)))
