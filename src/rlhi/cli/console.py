"""What a person sees: progress and messages on stderr; results on stdout."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from rlhi.flow import processes
from rlhi.progress import Progress, Silent

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False)


class Bars:
    """One bar for the stage at work, one line for each that has ended."""

    def __init__(self) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=stderr,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def start(self, name: str, total: int | None) -> None:
        """Show a bar for a stage."""
        self._clear()
        self._task = self._bars.add_task(name, total=total)

    def advance(self, done: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.advance(self._task, done)

    def finish(self, name: str, summary: str) -> None:
        """Put a line in the place of the bar."""
        self._clear()
        self.say(f"{name:<28} {summary}")

    def note(self, text: str) -> None:
        """A line above the bar."""
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line, without markup."""
        self._bars.console.print(text, markup=False)

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


def progress() -> AbstractContextManager[Progress]:
    """What shows the course of a run: bars, and nothing in all but the first of several processes."""
    return Bars() if processes.is_main() else nullcontext(Silent())


def emit(value: Any) -> None:
    """Machine-readable result on stdout."""
    order = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    sys.stdout.buffer.write(orjson.dumps(value, default=str, option=order))
    sys.stdout.buffer.flush()
