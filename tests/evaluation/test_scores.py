"""Win rates, lengths, figures and the file, counted by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass

import orjson
import pytest

from rlhi.evaluation.control import Difference
from rlhi.evaluation.figures import arm_figures
from rlhi.evaluation.finding import verdict as finding
from rlhi.evaluation.scores import scores, write_scores
from rlhi.records import Score
from rlhi.settings import Arm, Evaluation
from tests.evaluation.material import eval_turn, reply, verdict

BASE, OURS = "base + persona", "UGR+UBR + persona"
SETTINGS = Evaluation(bootstrap=200)
TURNS = [eval_turn("c1"), eval_turn("c1", 1), eval_turn("c2"), eval_turn("c3", user="u2")]
VERDICTS = [
    verdict(OURS, "u1", "c1", 1),
    verdict(OURS, "u1", "c1", 0.5, turn=1),
    verdict(OURS, "u1", "c2", 1),
    verdict(OURS, "u2", "c3", 0),
    verdict(OURS, "u2", "c3", 1, seed=1),
]
REPLIES = [
    *(reply(OURS, "u1", "c1", "one two three", turn=turn) for turn in (0, 1)),
    reply(OURS, "u1", "c2", "one two three four"),
    *(reply(OURS, "u2", "c3", "one", seed=seed) for seed in (0, 1)),
    *(reply(BASE, "u1", "c1", "one two", turn=turn) for turn in (0, 1)),
    reply(BASE, "u1", "c2", "a b c d e f"),
    *(reply(BASE, "u2", "c3", "a b", seed=seed) for seed in (0, 1)),
]


def test_win_rates_and_lengths_by_hand() -> None:
    rows = {row.turns: row for row in scores(VERDICTS, REPLIES, TURNS, SETTINGS, 0)}
    assert {k: (r.win_rate, r.n, r.users) for k, r in rows.items()} == {
        "initial": (0.75, 4, 2),
        "follow_up": (0.5, 1, 1),
        "all": (0.7, 5, 2),
    }
    assert rows["all"].length == pytest.approx((3 + 3 + 4 + 1 + 1) / 5)
    assert rows["all"].length_against == pytest.approx((2 + 2 + 6 + 2 + 2) / 5)
    assert (rows["initial"].length, rows["follow_up"].length_against) == (2.25, 2.0)
    assert rows["all"].seeds == (0, 1) and rows["follow_up"].seeds == (0,)
    assert (rows["follow_up"].low, rows["follow_up"].high) == (0, 1)


def test_seeds_of_a_turn_belong_to_the_same_user() -> None:
    """Ten seeds of two users are two users: the interval is as wide as with one seed."""
    turns = [eval_turn("c1"), eval_turn("c2", user="u2")]

    def row(seeds: int) -> Score:
        every = [(user, name, s) for user, name in (("u1", "c1"), ("u2", "c2")) for s in range(seeds)]
        verdicts = [verdict(OURS, user, name, float(user == "u1"), seed=s) for user, name, s in every]
        replies = [reply(arm, user, name, "x", seed=s) for arm in (OURS, BASE) for user, name, s in every]
        return next(r for r in scores(verdicts, replies, turns, SETTINGS, 0) if r.turns == "all")

    one, ten = row(1), row(10)
    assert ten.users == 2 and ten.n == 20
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))


def test_neither_order_nor_other_arms_change_a_figure() -> None:
    plain = scores(VERDICTS, REPLIES, TURNS, SETTINGS, 0)
    other = [v.model_copy(update={"arm": "base"}) for v in VERDICTS]
    more = [*VERDICTS, *other]
    replies = [*REPLIES, *(r.model_copy(update={"arm": "base"}) for r in REPLIES if r.arm == OURS)]
    random.Random(1).shuffle(more)
    random.Random(2).shuffle(replies)
    rows = scores(more, replies, TURNS[::-1], SETTINGS, 0)
    assert [row for row in rows if row.arm == OURS] == plain
    assert [row.arm for row in rows] == ["base"] * 3 + [OURS] * 3


@dataclass
class FakeScore:
    personalization: float
    instruction_following: float
    overall: float
    words: int
    wanted_words: tuple[int, int]


class FakeTruth:
    """A reply is right in proportion to its words; conversation c2 asks nothing."""

    def score(self, conversation_id: str, turn: int, text: str) -> FakeScore | None:
        count = len(text.split())
        return None if conversation_id == "c2" else FakeScore(count / 10, count / 5, count / 4, count, (2, 6))


def test_figures_of_an_arm_by_hand() -> None:
    strangers = [reply(OURS, "u1", "c9", "to a turn that is not evaluated")]
    ours, base = arm_figures(TURNS, REPLIES + strangers, FakeTruth())  # type: ignore[arg-type]
    assert (ours.arm, base.arm) == (OURS, BASE)
    assert (ours.n, ours.unscored, ours.users, ours.seeds, ours.words) == (4, 1, 2, (0, 1), 2.0)
    assert (ours.personalization, ours.correctness, ours.overall) == pytest.approx((0.2, 0.4, 0.5))
    assert (ours.wanted_low, ours.wanted_words, ours.wanted_high) == (2, 4, 6)
    assert (base.words, base.correctness) == pytest.approx((2.0, 0.4))


def test_without_truth_only_lengths_are_known() -> None:
    (row,) = arm_figures(TURNS, REPLIES[:5], None)
    assert (row.arm, row.n, row.unscored) == (OURS, 5, 0)
    assert row.words == pytest.approx(2.4)
    assert (row.personalization, row.correctness, row.overall, row.wanted_words) == (None, None, None, None)


def test_an_arm_of_which_the_truth_knows_nothing_has_no_row() -> None:
    assert arm_figures(TURNS, [reply(OURS, "u1", "c2", "one")], FakeTruth()) == []  # type: ignore[arg-type]


def test_the_file_has_the_same_bytes_whatever_the_order_and_no_key_is_hidden(tmp_path) -> None:
    for number, verdicts in enumerate((VERDICTS, VERDICTS[::-1])):
        rows = scores(verdicts, REPLIES, TURNS, SETTINGS, 0)
        figures = arm_figures(TURNS, REPLIES[:: 1 - 2 * number], FakeTruth())  # type: ignore[arg-type]
        write_scores(tmp_path / f"{number}.json", rows, finding(rows, [], SETTINGS), {"arms": figures})
    first, second = ((tmp_path / f"{number}.json").read_bytes() for number in (0, 1))
    assert first == second
    content = orjson.loads(first)
    assert set(content) == {"scores", "verdict", "arms"}
    assert [Score.model_validate(row) for row in content["scores"]] == rows
    assert content["verdict"]["sentence"] and content["arms"][0]["correctness"]
    with pytest.raises(ValueError, match="verdict"):
        write_scores(tmp_path / "x.json", rows, {}, {"verdict": 1})


def row(arm: str, rate: float, low: float, high: float, **changes: object) -> Score:
    return Score(
        arm=arm,
        against=BASE,
        judge="truth",
        dimension="overall",
        turns="all",
        win_rate=rate,
        low=low,
        high=high,
        n=300,
        users=25,
        length=40,
        length_against=44,
        seeds=(0, 1, 2),
    ).model_copy(update=changes)


TRUTH = Evaluation(judges=("truth",), truth="truth")


@pytest.mark.parametrize(("ours", "outcome", "words"), [
    ((0.72, 0.66, 0.78), "gain", "beats"),
    ((0.54, 0.49, 0.59), "no_difference", "No difference shown"),
    ((0.54, 0.50, 0.59), "no_difference", "No difference shown"),
    ((0.40, 0.34, 0.46), "loss", "loses to"),
])  # fmt: skip
def test_the_verdict_says_what_is_shown_and_no_more(ours: tuple[float, float, float], outcome: str, words: str) -> None:
    found = finding([row(OURS, *ours)], [], TRUTH)
    assert (found["outcome"], found["control"], found["arm"], found["judge"]) == (outcome, "none", OURS, "truth")
    assert words in found["sentence"] and f"{100 * ours[1]:.1f}–{100 * ours[2]:.1f} %" in found["sentence"]
    assert ("beats" in found["sentence"]) == (outcome == "gain")


def compared(arm: str, control: str, **changes: object) -> Difference:
    return Difference(
        arm=arm, control=control, against=BASE, judge="truth", win_rate=0.7, control_win_rate=0.69, difference=0.01,
        low=-0.03, high=0.05, n=300, users=25,
    ).model_copy(update=changes)  # fmt: skip


def test_the_arm_of_the_verdict_is_named_before_any_score_is_seen() -> None:
    rows = [row("UGR + persona", 0.9, 0.85, 0.95), row(OURS, 0.6, 0.55, 0.65)]
    assert finding(rows, [], TRUTH)["arm"] == OURS
    arms = (
        Arm(name="plain", persona="none"),
        Arm(name="tuned", train="ugr"),
        Arm(name="copied", train="sft"),
        Arm(name="foreign", train="ugr", persona="wrong"),
    )
    own = Evaluation(arms=arms, against="plain", judges=("truth",), truth="truth")
    rows = [row("tuned", 0.7, 0.6, 0.8), row("copied", 0.9, 0.8, 1.0), row("foreign", 0.69, 0.6, 0.75)]
    found = finding(rows, [compared("tuned", "foreign")], own)
    assert (found["arm"], found["control"]) == ("tuned", "not_personal")


def test_the_first_judge_speaks_and_a_control_of_another_judge_does_not_count() -> None:
    both = Evaluation(judges=("truth", "likelihood"), truth="truth")
    rows = [
        row(OURS, 0.9, 0.85, 0.95, judge="likelihood"),
        row(OURS, 0.6, 0.55, 0.65),
        row("wrong persona", 0.3, 0.2, 0.4, judge="likelihood"),
    ]
    other = compared(OURS, "wrong persona", judge="likelihood", difference=0.3, low=0.2, high=0.4)
    found = finding(rows, [other], both)
    assert (found["judge"], found["win_rate"], found["control"]) == ("truth", 0.6, "none")


def test_the_likelihood_judge_is_called_weak_and_an_empty_table_gives_no_verdict() -> None:
    weak = finding([row(OURS, 0.9, 0.85, 0.95, judge="likelihood")], [], Evaluation())
    assert "weak evidence" in weak["sentence"]
    assert finding([], [], TRUTH)["outcome"] == "no_scores"
    nothing = finding([row(OURS, 0.9, 0.8, 1.0, dimension="personalization")], [], TRUTH)
    assert nothing["outcome"] == "no_scores" and OURS in nothing["sentence"]
