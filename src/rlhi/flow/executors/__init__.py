"""Executors schedule a stage's rows; each calls `run_row` and gives the results in input order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rlhi.flow.stage import Context, RowResult, Stage
from rlhi.records import Record

MakeContext = Callable[[], Context]
Progress = Callable[[RowResult], None]


class Executor(Protocol):
    """Runs a stage over rows."""

    def execute(
        self, stage: Stage[Any, Any], rows: Sequence[Record], make_context: MakeContext, on_row: Progress
    ) -> list[RowResult]:
        """Results in the order of `rows`; `on_row` is called as each is finished, in any order."""
        ...
