"""The steps after training: what every arm answers, what the judges say, the scores, and the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rlhi import prompts
from rlhi.errors import StageError
from rlhi.evaluation.comparison import compare
from rlhi.evaluation.control import differences
from rlhi.evaluation.figures import arm_figures
from rlhi.evaluation.finding import verdict
from rlhi.evaluation.judges import JUDGES, JudgeStage
from rlhi.evaluation.replies import ReplyStage
from rlhi.evaluation.scores import scores, write_scores
from rlhi.evaluation.turns import EvalTurn, select, trained_requests
from rlhi.flow.folder import RunFolder
from rlhi.flow.identity import Identity, code_digest, file_digest
from rlhi.flow.stage import Context
from rlhi.flow.table import read_many, read_rows
from rlhi.flow.whole import write_atomic
from rlhi.pipeline.code import CODE, TRUTH
from rlhi.pipeline.data import counting, prompt_limit, token_counter
from rlhi.pipeline.session import Rows, Session, Table
from rlhi.pipeline.train import policy_name
from rlhi.recipe import LOCAL, Arm, Model
from rlhi.records import Conversation, LabelledTurn, PersonaCard, PreferencePair, Reply, Score, Verdict
from rlhi.settings import pair_stage, slug

if TYPE_CHECKING:
    from rlhi.world.truth import Truth


def evaluate(session: Session) -> None:
    """Draw the turns, let every arm answer, let every judge compare, count."""
    _turns(session)
    for arm in session.recipe.evaluation.arms:
        for seed in session.recipe.seeds:
            _replies(session, arm, seed)
    for judge in session.recipe.evaluation.judges:
        _verdicts(session, judge)
    _scores(session)


def _turns(session: Session) -> None:
    recipe, folder = session.recipe, session.folder
    pairs = [pair_stage(source) for source in recipe.pairs.enabled()]
    prompt_tokens = prompt_limit(recipe, recipe.evaluation.max_tokens, "evaluation.max_tokens")
    settings = {
        "max_turns": recipe.evaluation.max_turns,
        "include_later": recipe.evaluation.include_later,
        **counting(session),
        "prompt_tokens": prompt_tokens,
    }
    identity = {
        "stage": "turns",
        "settings": settings,
        "seed": recipe.seeds[0],
        "inputs": session.inputs("conversations", "labels", "personas", *pairs),
        "code": code_digest(*CODE["turns"]),
    }

    def make() -> Table:
        used = [path for path in (folder.rows_path(stage) for stage in pairs) if path.exists()]
        rows, dropped = select(
            read_rows(folder.rows_path("conversations"), Conversation),
            read_rows(folder.rows_path("labels"), LabelledTurn),
            read_rows(folder.rows_path("personas"), PersonaCard),
            recipe.evaluation,
            seed=recipe.seeds[0],
            trained=trained_requests(read_many(used, PreferencePair)),
            persona_tokens=recipe.personas.max_tokens,
            prompt_tokens=prompt_tokens,
            count=token_counter(recipe.training.model),
        )
        if not rows:
            raise StageError(
                "there is no turn to evaluate: no held-out user asks anything in a later conversation. "
                "Raise logs.heldout_users or logs.later, lower logs.min_conversations, or read more logs"
            )
        return Table(len(rows) + len(dropped), rows, dropped)

    session.table("turns", EvalTurn, identity, make)


def reply_stage(arm: Arm, seed: int) -> str:
    """Name of the stage that holds an arm's replies."""
    return f"replies/{slug(arm.name)}-seed-{seed}"


def _replies(session: Session, arm: Arm, seed: int) -> None:
    recipe, settings = session.recipe, session.recipe.evaluation
    policy = recipe.back_end(LOCAL)
    if arm.train != "none":
        trained = session.folder.path / policy_name(arm.train, seed)
        policy = policy.model_copy(update={"model": str(trained)})
    stage = ReplyStage(
        arm=arm.name,
        persona=arm.persona,
        seed=seed,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_tokens=settings.max_tokens,
    )
    session.stage(
        reply_stage(arm, seed),
        stage,
        lambda: (read_rows(session.folder.rows_path("turns"), EvalTurn), []),
        inputs=session.inputs("turns"),
        models={"policy": policy},
        code=CODE["replies"],
    )


def _reply_stages(session: Session) -> list[str]:
    return [reply_stage(arm, seed) for arm in session.recipe.evaluation.arms for seed in session.recipe.seeds]


def _read_replies(session: Session) -> list[Reply]:
    return read_many([session.folder.rows_path(stage) for stage in _reply_stages(session)], Reply)


def _verdicts(session: Session, judge: str) -> None:
    recipe, folder = session.recipe, session.folder
    chat = judge not in JUDGES.names()
    models: dict[str, Model] = {} if judge == "truth" else {"judge": recipe.back_end(judge if chat else LOCAL)}

    def rows() -> Rows:
        return compare(
            read_rows(folder.rows_path("turns"), EvalTurn), _read_replies(session), recipe.evaluation.against
        )

    by_truth = judge == "truth"
    session.stage(
        f"verdicts/{slug(judge)}",
        JudgeStage(judge=judge, prompts=prompts.fingerprint("judge") if chat else ""),
        rows,
        inputs=session.inputs("turns", *_reply_stages(session)) | (_truth_inputs(session) if by_truth else {}),
        models=models,
        code=(*CODE["verdicts"], *(TRUTH if by_truth else ())),
        resources=_truth_resource if by_truth else None,
    )


def _truth_inputs(session: Session) -> dict[str, str]:
    folder = session.recipe.evaluation.truth_dir()
    return {f"truth/{path.name}": file_digest(path) for path in sorted(folder.iterdir())}


def _truth(session: Session) -> Truth | None:
    if "truth" not in session.recipe.evaluation.judges:
        return None
    from rlhi.world.truth import Truth

    return Truth(session.recipe.evaluation.truth_dir())


def _truth_resource(ctx: Context, session: Session) -> dict[str, Any]:
    return {"truth": _truth(session)}


def _scores(session: Session) -> None:
    recipe, folder = session.recipe, session.folder
    judged = [f"verdicts/{slug(judge)}" for judge in recipe.evaluation.judges]
    by_truth = "truth" in recipe.evaluation.judges
    given = session.inputs("turns", *_reply_stages(session), *judged)
    identity: Identity = {
        "stage": "scores",
        "settings": recipe.evaluation.model_dump(mode="json"),
        "seed": recipe.seeds[0],
        "inputs": given | (_truth_inputs(session) if by_truth else {}),
        "code": code_digest(*CODE["scores"], *(TRUTH if by_truth else ())),
    }

    def make() -> Table:
        turns = read_rows(folder.rows_path("turns"), EvalTurn)
        replies = _read_replies(session)
        verdicts = read_many([folder.rows_path(stage) for stage in judged], Verdict)
        rows = scores(verdicts, replies, turns, recipe.evaluation, recipe.seeds[0])
        arms = arm_figures(turns, replies, _truth(session))
        personal = differences(verdicts, recipe.evaluation, recipe.seeds[0])
        found = verdict(rows, personal, recipe.evaluation)
        path = folder.path / "scores.json"

        def beside() -> Path:
            write_scores(path, rows, found, {"arms": arms, "differences": personal})
            return path

        return Table(len(verdicts), rows, beside=beside)

    session.table("scores", Score, identity, make)


def read_scores(folder: RunFolder) -> dict[str, Any]:
    """Content of scores.json; empty where the run has none yet."""
    path = folder.path / "scores.json"
    found: dict[str, Any] = orjson.loads(path.read_bytes()) if path.exists() else {}
    return found


def report(session: Session) -> None:
    """Write `report.html`."""
    from rlhi.report.build import build
    from rlhi.report.load import load

    began = time.monotonic()
    page = session.folder.path / "report.html"
    write_atomic(page, build(load(session.folder.path, session.reused)).encode())
    session.progress.finish("report", f"{page} ({time.monotonic() - began:.1f} s)")
