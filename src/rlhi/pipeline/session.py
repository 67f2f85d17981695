"""What every step of a run shares: the folder, the completion store, the back ends, and how a stage is carried out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rlhi.flow.executors import Executor
from rlhi.flow.executors.local import LocalExecutor
from rlhi.flow.folder import RunFolder
from rlhi.flow.identity import Identity, code_digest, file_digest
from rlhi.flow.stage import Context, Stage
from rlhi.models.factory import identify, open_model
from rlhi.models.layers import Meter
from rlhi.models.store import Store
from rlhi.progress import Progress
from rlhi.recipe import Model, Recipe
from rlhi.records import Dropped, Quarantined, Record

Rows = tuple[Sequence[Record], Sequence[Dropped]]


@dataclass(frozen=True)
class Table:
    """What a stage over a whole table made."""

    rows_in: int
    """Rows read."""
    rows: Sequence[Record]
    """Rows made."""
    dropped: Sequence[Dropped] = ()
    """Rows left out on purpose."""
    quarantined: Sequence[Quarantined] | None = None
    """What could not be read; None where the stage reads no logs."""
    beside: Callable[[], Path] | None = None
    """Writes one more file of the stage and returns its path."""


Resources = Callable[[Context, "Session"], dict[str, Any]]


class Session:
    """A recipe at work in a run folder."""

    def __init__(self, recipe: Recipe, folder: RunFolder, progress: Progress, executor: Executor | None = None) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.executor = executor or LocalExecutor()
        self.failed = 0
        """Rows that failed in the stages carried out or reused."""
        self.reused: list[str] = []
        """Stages whose output was taken over as it was."""

    @cached_property
    def store(self) -> Store:
        """The completion store, shared by all runs in the same folder."""
        return Store(self.recipe.store_path())

    def open(self, settings: Model, role: str, meter: Meter) -> Any:
        """A back end with its layers, counted under `role`."""
        return open_model(settings, store=self.store, meter=meter, role=role)

    def inputs(self, *stages: str) -> dict[str, str]:
        """Digests of the rows of earlier stages: equal rows make equal identities, however they came about."""
        return {stage: file_digest(self.folder.rows_path(stage)) for stage in stages}

    def reuse(self, name: str, identity: Identity) -> bool:
        """Whether a stage's output stands; tells the person why if it does not."""
        state, changed = self.folder.state(name, identity)
        if state == "done":
            self.reused.append(name)
            self.progress.finish(name, f"reused: {describe(self.folder.stage(name))}")
        elif state == "changed":
            self.progress.note(f"{name} is made anew: {'; '.join(changed[:4])}")
        return state == "done"

    def table(self, name: str, record: type[Record], identity: Identity, make: Callable[[], Table]) -> None:
        """A stage over the whole table at once."""
        if self.reuse(name, identity):
            return
        self.progress.start(name, None)
        began = time.monotonic()
        made = make()
        self.folder.write_stage(
            name,
            identity,
            record,
            made.rows,
            rows_in=made.rows_in,
            dropped=made.dropped,
            quarantined=made.quarantined,
            beside=made.beside,
            facts={"seconds": round(time.monotonic() - began, 3)},
        )
        self.progress.finish(name, describe(self.folder.stage(name)))

    def stage(
        self,
        name: str,
        stage: Stage[Any, Any],
        make_rows: Callable[[], Rows],
        *,
        inputs: dict[str, str],
        models: dict[str, Model],
        code: Sequence[str],
        rows_from: dict[str, Any] | None = None,
        resources: Resources | None = None,
    ) -> None:
        """Carry out a row-wise stage, or find it done.

        `models` are the back ends by role; `rows_from` is what decides the rows besides `inputs` and the stage's own
        settings; `resources` builds what else the stage needs, inside the worker.
        """
        identity = {
            "stage": name,
            "version": stage.version,
            "settings": stage.model_dump(mode="json"),
            "models": {role: identify(settings) for role, settings in sorted(models.items())},
            "inputs": inputs,
            "code": code_digest(*code),
        }
        if rows_from is not None:
            identity["rows"] = rows_from
        if self.reuse(name, identity):
            return
        rows, dropped = make_rows()
        meter, began = Meter(), time.monotonic()

        def context() -> Context:
            ctx = Context(models={role: self.open(settings, role, meter) for role, settings in models.items()})
            ctx.resources = resources(ctx, self) if resources else {}
            return ctx

        self.progress.start(name, len(rows))
        results = self.executor.execute(stage, rows, context, lambda _: self.progress.advance())
        failed = [result.failed for result in results if result.failed]
        self.folder.write_stage(
            name,
            identity,
            stage.writes,
            (row for result in results for row in result.outputs),
            rows_in=len(rows) + len(dropped),
            dropped=[*dropped, *(result.dropped for result in results if result.dropped)],
            failed=failed,
            facts={"seconds": round(time.monotonic() - began, 3), "calls": meter.as_dict()},
        )
        self.failed += len(failed)
        self.progress.finish(name, describe(self.folder.stage(name)))


def describe(entry: dict[str, Any]) -> str:
    """A manifest entry on one line: rows in, out, dropped by reason, failed."""
    parts = [f"{entry['rows_in']} in, {entry['rows_out']} out"] if "rows_in" in entry else []
    for kind in ("quarantined", "dropped"):
        if reasons := entry.get(kind):
            parts.append(f"{kind} " + ", ".join(f"{count} {reason}" for reason, count in reasons.items()))
    if entry.get("held_out"):
        parts.append(f"{entry['held_out']} held out")
    if entry.get("failed"):
        parts.append(f"{entry['failed']} failed")
    if "summary" in entry:
        parts.append(entry["summary"])
    return "; ".join(parts)
