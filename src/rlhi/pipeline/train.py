"""The step from pairs to policies: one training per source of pairs and seed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rlhi.errors import StageError
from rlhi.flow import processes
from rlhi.flow.identity import code_digest
from rlhi.flow.table import read_many
from rlhi.models.factory import identify
from rlhi.pipeline.code import CODE
from rlhi.pipeline.session import Session, describe
from rlhi.recipe import EMBEDDED, Arm
from rlhi.records import PreferencePair
from rlhi.settings import TRAINED_ON, TrainedOn, pair_stage

if TYPE_CHECKING:
    from rlhi.training.train import TrainingResult


def policy_name(train: str, seed: int) -> str:
    """Where a trained policy lies in the run, also its name in the manifest."""
    return f"model/{train}/seed-{seed}"


def kinds(arms: tuple[Arm, ...]) -> list[TrainedOn]:
    """The trainings that the arms need, each once, in their order."""
    return list(dict.fromkeys(arm.train for arm in arms if arm.train != "none"))


def train(session: Session) -> None:
    """Train every policy that an arm needs."""
    for kind in kinds(session.recipe.evaluation.arms):
        for seed in session.recipe.seeds:
            _train(session, kind, seed)


def _train(session: Session, kind: TrainedOn, seed: int) -> None:
    recipe, folder, name = session.recipe, session.folder, policy_name(kind, seed)
    sources = [pair_stage(source) for source in TRAINED_ON[kind]]
    base = EMBEDDED.model_copy(update={"model": recipe.training.model, "dtype": "float32"})
    identity = {
        "stage": name,
        "settings": recipe.training.model_dump(mode="json", exclude={"report_to"}),
        "seed": seed,
        "models": {"base": identify(base)},
        "inputs": session.inputs(*sources),
        "code": code_digest(*CODE["model"]),
    }
    if session.reuse(name, identity):
        return
    pairs = read_many([folder.rows_path(stage) for stage in sources], PreferencePair)
    if not pairs:
        raise StageError(
            f"there is no pair to train {kind!r} on: see what was dropped and why with `rlhi show {folder.path}`"
        )
    from rlhi.training.train import train as fit

    began = time.monotonic()
    with processes.main_first():
        work = folder.work_dir(name, identity)
    session.progress.start(name, None)
    steps = 0

    def on_step(step: int, total: int) -> None:
        nonlocal steps
        if steps == 0:
            session.progress.start(name, total)
        session.progress.advance(step - steps)
        steps = step

    objective = "sft" if kind == "sft" else recipe.training.objective
    result = fit(
        pairs,
        recipe.training,
        objective=objective,
        seed=seed,
        out=work / "policy",
        name=f"{recipe.name}/{name}",
        on_step=on_step,
    )
    facts = {
        "rows_in": len(pairs),
        "rows_out": result.pairs,
        "held_out": result.held_out,
        "dropped": result.drop_counts(),
        "failed": 0,
        "seconds": round(time.monotonic() - began, 3),
        "summary": _summary(result),
        "shortened": len(result.shortened),
        "metrics": result.metrics,
    }
    if processes.is_main():
        folder.publish(name, work / "policy", identity, facts, result.dropped)
    processes.wait()
    session.progress.finish(name, describe(folder.stage(name)))


def _summary(result: TrainingResult) -> str:
    shortened = f" {len(result.shortened)} pairs lost their oldest turns." if result.shortened else ""
    return f"{result.steps} steps. {result.validation}{shortened} {result.step}"
