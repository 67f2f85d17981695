"""`rlhi run`: every step in its order, after a look at whether the recipe can work at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhi.errors import UsageError
from rlhi.evaluation.judges import JUDGES
from rlhi.flow import processes
from rlhi.flow.folder import RunFolder
from rlhi.flow.lock import alone
from rlhi.logs import languages, readers
from rlhi.logs.files import expand
from rlhi.models.factory import check, identify
from rlhi.models.store import Store
from rlhi.pipeline import data, evaluate, train
from rlhi.pipeline.session import Session
from rlhi.progress import Progress, Silent
from rlhi.recipe import LOCAL, Recipe, load
from rlhi.training import requirements

STEPS: dict[str, Callable[[Session], None]] = {
    "ingest": data.conversations,
    "label": data.labels,
    "personas": data.personas,
    "pairs": data.pairs,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "report": evaluate.report,
}
"""Name on the command line -> what it does, in the order of a run."""

USES: dict[str, tuple[str, ...]] = {
    "label": ("labeler",),
    "personas": ("persona",),
    "pairs": ("policy", "rewriter", "validity", "reward"),
}
"""Roles that a step asks."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    folder: Path
    """The run folder."""
    stages: dict[str, Any]
    """Manifest entries by stage."""
    failed: int
    """Rows that failed; `rlhi run` again tries just those."""
    scores: dict[str, Any]
    """Content of scores.json; empty before the evaluation."""


def preflight(recipe: Recipe, steps: list[str]) -> None:
    """Raise `UsageError` at once where a path, a model or a server of the recipe cannot work."""
    if "ingest" in steps:
        expand(recipe.logs.paths)
        languages.check(recipe.logs.languages)
        if recipe.logs.format != "auto" or recipe.logs.mapping is not None:
            readers.chosen(recipe.logs)
    truth = recipe.evaluation.truth_dir() / "turns.jsonl"
    if "evaluate" in steps and "truth" in recipe.evaluation.judges and not truth.exists():
        raise UsageError(
            f"evaluation.truth: {recipe.evaluation.truth} holds no turns.jsonl; it is the folder `truth` that "
            "`rlhi world` writes"
        )
    if {"train", "evaluate"} & set(steps):
        recipe.check_arms()
    names = {getattr(recipe.roles, role) for step in steps for role in USES.get(step, ())}
    if "evaluate" in steps:
        names |= {judge for judge in recipe.evaluation.judges if judge not in JUDGES.names()}
    if "train" in steps:
        requirements.check(recipe.training)
    if {"pairs", "train", "evaluate"} & set(steps):
        identify(recipe.back_end(LOCAL))
    if names - {LOCAL}:
        asyncio.run(_check(recipe, sorted(names - {LOCAL})))


async def _check(recipe: Recipe, names: list[str]) -> None:
    store = Store(recipe.store_path())
    for name in names:
        await check(recipe.back_end(name), store)


def run(recipe: Recipe | str | Path, progress: Progress | None = None, steps: list[str] | None = None) -> Outcome:
    """Carry out a recipe, or some of its steps, in its run folder; what is done already is reused.

    Raises `UsageError` before anything is computed where the recipe cannot work or another process works on the same
    run, `StageError` where a stage is left without rows. Rows that fail are counted in the outcome.
    """
    if not isinstance(recipe, Recipe):
        recipe = load(recipe)
    names = steps or list(STEPS)
    if processes.count() > 1 and names != ["train"]:
        raise UsageError(
            f"{processes.count()} processes were started, which only `train` makes use of: run the other steps without "
            "`accelerate launch`"
        )
    preflight(recipe, names)
    progress = progress or Silent()
    if names == ["report"]:  # it reads, so it need not wait for who writes
        return _carry_out(recipe, names, progress)
    with alone(recipe.run_dir(), progress.note) if processes.is_main() else nullcontext():
        if processes.is_main():
            RunFolder(recipe.run_dir()).save_recipe(recipe.model_dump(mode="json"))
        return _carry_out(recipe, names, progress)


def _carry_out(recipe: Recipe, names: list[str], progress: Progress) -> Outcome:
    session = Session(recipe, RunFolder(recipe.run_dir()), progress)
    for name in names:
        STEPS[name](session)
    return outcome(session.folder.path, session.failed)


def outcome(run_dir: Path, failed: int = 0) -> Outcome:
    """What a run has come to so far. Raises `UsageError` where there is none."""
    folder = RunFolder.existing(run_dir)
    return Outcome(folder=run_dir, stages=folder.manifest["stages"], failed=failed, scores=evaluate.read_scores(folder))


def step(run_dir: Path, name: str, settings: list[str], progress: Progress | None = None) -> Outcome:
    """Carry out one step on a run that exists, under the recipe that lies in it."""
    RunFolder.existing(run_dir)
    recipe = load(run_dir / "recipe.yaml", settings)
    place = {"runs": str(run_dir.parent), "name": run_dir.name}
    return run(recipe.model_copy(update=place), progress, [name])
