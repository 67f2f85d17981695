"""The whole way from conversations to the verdict, with models whose behaviour is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from rlhi.evaluation.comparison import compare
from rlhi.evaluation.control import differences
from rlhi.evaluation.finding import verdict
from rlhi.evaluation.judges import JudgeStage
from rlhi.evaluation.replies import ReplyStage
from rlhi.evaluation.scores import scores
from rlhi.evaluation.turns import select
from rlhi.flow.executors.local import LocalExecutor
from rlhi.flow.stage import Context, Stage
from rlhi.models.base import ChatRequest, Choice, Completion, Usage
from rlhi.records import PersonaCard, Record, Reply, Score, Verdict
from rlhi.settings import Arm, Evaluation
from tests.evaluation.material import card, conversation, label

USERS = [f"u{i}" for i in range(12)]
WISH = {user: "Wants rhymes." if place % 2 else "Wants numbers." for place, user in enumerate(USERS)}
ARMS = (
    Arm(name="plain", persona="own"),
    Arm(name="heeds", train="ugr", persona="own"),
    Arm(name="flatters", train="ubr", persona="own"),
    Arm(name="heeds another", train="ugr", persona="wrong"),
)


@dataclass
class ScriptedPolicy:
    """`heeds` repeats the wish of its persona, `flatters` a fixed one, `plain` none."""

    train: str
    model: str = "scripted"

    async def complete(self, request: ChatRequest) -> Completion:
        persona = request.messages[0].content if request.messages[0].role == "system" else ""
        heeded = next((wish for wish in sorted(set(WISH.values())) if wish in persona), "")
        text = {"none": "Well.", "ugr": f"Well. {heeded}", "ubr": "Well. Wants rhymes."}[self.train]
        return Completion(choices=(Choice(text=text, finish="stop"),), usage=Usage())

    async def close(self) -> None:
        return None


@dataclass
class FakeTruthScore:
    personalization: float
    instruction_following: float
    overall: float


class FakeTruth:
    """A reply is worth as many points as it heeds hidden wishes; who asks is in the conversation's id."""

    def score(self, conversation_id: str, turn: int, reply: str) -> FakeTruthScore:
        heeded = float(WISH[conversation_id.partition("/")[0]] in reply)
        wrong = any(wish in reply for wish in WISH.values()) and not heeded
        return FakeTruthScore(heeded, 1.0, heeded - wrong)


def run(stage: Stage[Record, Record], rows: Sequence[Record], ctx: Context) -> list[Record]:
    results = LocalExecutor().execute(stage, rows, lambda: ctx, lambda _: None)
    assert not [result.failed for result in results if result.failed]
    return [row for result in results for row in result.outputs]


def evaluate(settings: Evaluation, seeds: Sequence[int], truth: FakeTruth) -> tuple[list[Score], dict[str, Any]]:
    talks = [conversation(f"{user}/{n}", user, [f"Ask {n}", "More"]) for user in USERS for n in range(3)]
    labels = [label(talk.conversation_id, 1, "continuation") for talk in talks]
    cards: list[PersonaCard] = [card(t.user_id, [WISH[t.user_id]], t.conversation_id) for t in talks]
    turns, _ = select(
        talks,
        labels,
        cards,
        settings,
        seed=0,
        trained=set(),
        persona_tokens=100,
        prompt_tokens=1000,
        count=lambda text: len(text.split()),
    )
    replies: list[Record] = []
    for arm in settings.arms:
        for seed in seeds:
            stage = ReplyStage(arm=arm.name, persona=arm.persona, seed=seed, temperature=1, top_p=1, max_tokens=9)
            replies += run(stage, turns, Context(models={"policy": ScriptedPolicy(arm.train)}))  # type: ignore[arg-type]
    said = [Reply.model_validate(row) for row in replies]
    rows, dropped = compare(turns, said, settings.against)
    assert not dropped
    made = run(JudgeStage(judge="truth", prompts=""), rows, Context(resources={"truth": truth}))  # type: ignore[arg-type]
    verdicts = [Verdict.model_validate(row) for row in made]
    table = scores(verdicts, said, turns, settings, 0)
    return table, verdict(table, differences(verdicts, settings, 0), settings)


SETTINGS = Evaluation(arms=ARMS, against="plain", judges=("truth",), truth="t", max_turns=60, bootstrap=200)


def test_the_arm_that_heeds_the_persona_wins_and_the_controls_unmask_the_others() -> None:
    table, _ = evaluate(SETTINGS, (0, 1), FakeTruth())
    rates = {(row.arm, row.turns): row.win_rate for row in table if row.dimension == "overall"}
    for kind in ("initial", "follow_up", "all"):
        assert rates["heeds", kind] == 1.0
        assert rates["flatters", kind] == pytest.approx(0.5, abs=0.05)
        assert rates["heeds another", kind] == 0.0
    assert {row.users for row in table} == {12}


def test_the_verdict_is_about_the_last_trained_arm_and_its_own_control() -> None:
    without = SETTINGS.model_copy(update={"arms": tuple(arm for arm in ARMS if arm.name != "flatters")})
    _, found = evaluate(without, (0,), FakeTruth())
    assert (found["arm"], found["outcome"], found["control"]) == ("heeds", "gain", "personal")
    _, flattery = evaluate(SETTINGS, (0,), FakeTruth())
    assert (flattery["arm"], flattery["outcome"]) == ("flatters", "no_difference")
