"""On a simulated world: the truth judges replies that are known to be better or worse, and the controls stay level."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhi.evaluation.comparison import compare
from rlhi.evaluation.figures import arm_figures
from rlhi.evaluation.judges import JudgeStage
from rlhi.evaluation.scores import scores
from rlhi.evaluation.turns import EvalTurn, select
from rlhi.flow.executors.local import LocalExecutor
from rlhi.flow.stage import Context
from rlhi.logs import ingest
from rlhi.records import Conversation, LabelledTurn, Reply, Score, Verdict
from rlhi.settings import Arm, Evaluation, Logs
from rlhi.world.simulate import write_world
from rlhi.world.truth import Truth
from tests.evaluation.material import label

ARMS = tuple(Arm(name=name) for name in ("logged", "nonsense", "again"))
SETTINGS = Evaluation(arms=ARMS, against="logged", judges=("truth",), truth="t", max_turns=120, bootstrap=300)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Truth, list[Conversation], list[EvalTurn]]:
    folder: Path = tmp_path_factory.mktemp("world")
    write_world(folder, users=12, seed=5, conversations=(4, 6))
    talks = ingest(Logs(paths=(str(folder / "logs"),), heldout_users=0.9), seed=0).conversations
    truth = Truth(folder / "truth")
    labels: list[LabelledTurn] = [
        label(talk.conversation_id, turn, kind, talk.user_id)
        for talk in talks
        for turn in range(1, len(talk.user_turns()))
        if (kind := truth.label(talk.conversation_id, turn))
    ]
    turns, dropped = select(
        talks,
        labels,
        [],
        SETTINGS,
        seed=0,
        trained=set(),
        persona_tokens=100,
        prompt_tokens=1000,
        count=lambda text: len(text.split()),
    )
    heldout = sum(len(talk.user_turns()) for talk in talks if talk.split == "heldout")
    assert len(turns) + len(dropped) == heldout
    return truth, talks, turns


def replies(talks: list[Conversation], turns: list[EvalTurn]) -> list[Reply]:
    by_id = {talk.conversation_id: talk for talk in talks}
    made = []
    for turn in turns:
        logged = by_id[turn.conversation_id].reply(turn.turn) or ""
        for arm, text in (("logged", logged), ("nonsense", "Hmm."), ("again", logged)):
            facts = {"conversation_id": turn.conversation_id, "turn": turn.turn, "user_id": turn.user_id}
            made.append(Reply.model_validate(facts | {"arm": arm, "seed": 0, "persona_of": "", "text": text}))
    return made


def judge(truth: Truth, turns: list[EvalTurn], said: list[Reply]) -> list[Score]:
    rows, _ = compare(turns, said, "logged")
    ctx = Context(resources={"truth": truth})
    results = LocalExecutor().execute(JudgeStage(judge="truth", prompts=""), rows, lambda: ctx, lambda _: None)
    assert not any(result.failed or result.dropped for result in results)
    verdicts = [row for result in results for row in result.outputs if isinstance(row, Verdict)]
    return scores(verdicts, said, turns, SETTINGS, 0)


def test_turns_ask_something_by_the_truth_too_and_come_in_both_kinds(world) -> None:
    truth, _, turns = world
    assert all(truth.score(turn.conversation_id, turn.turn, "x") for turn in turns)
    assert {turn.kind for turn in turns} == {"initial", "follow_up"}


def test_a_reply_without_content_loses_and_the_placebo_is_even(world) -> None:
    truth, talks, turns = world
    table = {(row.arm, row.dimension, row.turns): row for row in judge(truth, turns, replies(talks, turns))}
    for kind in ("initial", "follow_up", "all"):
        assert table["nonsense", "overall", kind].win_rate < 0.2
        placebo = table["again", "overall", kind]
        assert placebo.win_rate == 0.5 and placebo.low <= 0.5 <= placebo.high
    assert table["nonsense", "overall", "all"].high < 0.5


def test_figures_of_the_arms(world) -> None:
    truth, talks, turns = world
    rows = {row.arm: row for row in arm_figures(turns, replies(talks, turns), truth)}
    logged, nonsense = rows["logged"], rows["nonsense"]
    assert logged.unscored == 0 and logged.n == len(turns)
    assert logged.correctness and nonsense.correctness is not None and logged.correctness > nonsense.correctness + 0.4
    assert nonsense.words == 1 and logged.wanted_words and logged.wanted_low and logged.wanted_low < logged.wanted_words
    assert rows["again"] == logged.model_copy(update={"arm": "again"})
