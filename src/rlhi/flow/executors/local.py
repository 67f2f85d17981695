"""Run a stage in this process: coroutines that pull rows from one iterator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rlhi.flow.executors import MakeContext, Progress
from rlhi.flow.stage import RowResult, Stage, run_row
from rlhi.records import Record


class LocalExecutor:
    """In-process asyncio: as many rows under way as `concurrency`; the models' own limits hold below it."""

    def __init__(self, concurrency: int = 256) -> None:
        self.concurrency = concurrency

    def execute(
        self, stage: Stage[Any, Any], rows: Sequence[Record], make_context: MakeContext, on_row: Progress
    ) -> list[RowResult]:
        """Results in the order of `rows`."""
        try:
            return asyncio.run(self._execute(stage, rows, make_context, on_row))
        except BaseExceptionGroup as group:
            raise _first(group) from None

    async def _execute(
        self, stage: Stage[Any, Any], rows: Sequence[Record], make_context: MakeContext, on_row: Progress
    ) -> list[RowResult]:
        ctx, pending = make_context(), iter(enumerate(rows))
        results: dict[int, RowResult] = {}

        async def worker() -> None:
            for place, row in pending:
                results[place] = await run_row(stage, row, ctx)
                on_row(results[place])

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, len(rows))):
                    group.create_task(worker())
        finally:
            for model in ctx.models.values():
                await model.close()
        return [results[place] for place in range(len(rows))]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
