"""Progress on standard error: what goes on now, and how far it is. Silent where nobody looks (no terminal)."""

from __future__ import annotations

import types

import rich.console
import rich.progress


class Bar:
    """One line: the workload, the run, the phase. `phase` of the same text adds nothing, so that many processes may say it."""

    def __init__(self) -> None:
        console = rich.console.Console(stderr=True)
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            refresh_per_second=4,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._title = ""
        self._text = ""

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | types.TracebackType | None) -> None:
        self._progress.stop()

    def title(self, text: str) -> None:
        """What the following phases belong to."""
        self._title = text
        self._text = ""

    def phase(self, text: str, total: float) -> None:
        """A phase of `total` steps begins."""
        if text == self._text:
            return
        self._text = text
        self._progress.reset(self._task, description=f"{self._title}: {text}", total=total)

    def advance(self, steps: float) -> None:
        self._progress.advance(self._task, steps)

    def at(self, steps: float) -> None:
        """`steps` of the phase are done."""
        self._progress.update(self._task, completed=steps)
