"""An arm answers under the persona that it is meant to see."""

from __future__ import annotations

import asyncio
import pickle
from typing import Literal

import pytest

from rlhi.evaluation.comparison import compare
from rlhi.evaluation.replies import ReplyStage
from rlhi.evaluation.turns import EvalTurn
from rlhi.flow.stage import Context, RowResult, run_row
from rlhi.flow.table import read_rows, write_rows
from rlhi.personas.render import HEAD
from rlhi.records import Reply
from tests.evaluation.material import ScriptedModel, eval_turn, reply


def stage(persona: Literal["none", "own", "wrong"]) -> ReplyStage:
    return ReplyStage(arm="ours", persona=persona, seed=3, temperature=0.6, top_p=0.9, max_tokens=50)


def answer(persona: Literal["none", "own", "wrong"], turn: EvalTurn) -> tuple[RowResult, ScriptedModel]:
    model = ScriptedModel(say=lambda last: f" On: {last}\n")
    return asyncio.run(run_row(stage(persona), turn, Context(models={"policy": model}))), model


@pytest.mark.parametrize(("persona", "line", "owner"), [
    ("none", None, ""),
    ("own", "Prefers short answers.", "u1"),
    ("wrong", "Prefers long answers.", "u2"),
])  # fmt: skip
def test_the_persona_of_the_arm_is_in_the_prompt(
    persona: Literal["none", "own", "wrong"], line: str | None, owner: str
) -> None:
    result, model = answer(persona, eval_turn())
    (made,) = result.outputs
    assert made == reply("ours", "u1", "c1", "On: How do I boil an egg?", seed=3).model_copy(
        update={"persona_of": owner}
    )
    (request,) = model.requests
    first = request.messages[0]
    assert (first.role == "system") == (line is not None)
    if line:
        assert first.content.startswith(HEAD) and f"- {line}" in first.content
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.seed) == (0.6, 0.9, 50, 3)


def test_a_user_of_whom_nothing_is_known_is_answered_without_persona() -> None:
    result, model = answer("own", eval_turn(own=(), flags=("no_persona",)))
    (made,) = result.outputs
    assert isinstance(made, Reply) and made.persona_of == ""
    assert [m.role for m in model.requests[0].messages] == ["user"]


def test_without_a_wrong_card_the_control_drops_the_turn() -> None:
    result, model = answer("wrong", eval_turn(wrong=(), wrong_user=""))
    assert result.dropped is not None and result.dropped.reason == "no_wrong_persona"
    assert model.requests == []


def test_stage_and_rows_survive_pickle_and_parquet(tmp_path) -> None:
    assert pickle.loads(pickle.dumps(stage("own"))) == stage("own")
    assert (ReplyStage.reads, ReplyStage.writes) == (EvalTurn, Reply)
    write_rows(tmp_path / "turns.parquet", EvalTurn, [eval_turn(), eval_turn("c2", 1, own=(), flags=("no_persona",))])
    assert read_rows(tmp_path / "turns.parquet", EvalTurn) == [
        eval_turn(),
        eval_turn("c2", 1, own=(), flags=("no_persona",)),
    ]


def test_replies_are_compared_on_the_same_turn_and_seed_only() -> None:
    turns = [eval_turn("c1"), eval_turn("c2")]
    replies = [
        reply("ours", "u1", "c1", "ours, seed 0"),
        reply("base", "u1", "c1", "base, seed 0"),
        reply("ours", "u1", "c1", "ours, seed 1", seed=1),
        reply("base", "u1", "c1", "base, seed 1", seed=1),
        reply("ours", "u1", "c2", "alone"),
        reply("base", "u1", "c9", "of no turn"),
        reply("ours", "u1", "c9", "of no turn either"),
    ]
    rows, dropped = compare(turns, replies, "base")
    assert [(r.seed, r.reply, r.reply_against) for r in rows] == [
        (0, "ours, seed 0", "base, seed 0"),
        (1, "ours, seed 1", "base, seed 1"),
    ]
    assert all((r.arm, r.against, r.turn) == ("ours", "base", turns[0]) for r in rows)
    assert [d.reason for d in dropped] == ["no_counterpart", "no_counterpart"]
    assert compare(turns, replies[::-1], "base") == (rows, dropped)
