"""What of a gain is personal: the paired difference to the control, its interval, and the sentence made of both."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from rlhi.evaluation.control import Difference, control_arm, differences, fate
from rlhi.evaluation.finding import verdict
from rlhi.evaluation.scores import scores
from rlhi.records import Reply, Verdict
from rlhi.settings import Arm, Evaluation
from tests.evaluation import material
from tests.evaluation.material import eval_turn, reply

BASE, OURS, WRONG = "base + persona", "UGR+UBR + persona", "wrong persona"
SETTINGS = Evaluation(bootstrap=400)


def won(arm: str, wins: dict[str, list[float]], seed: int = 0) -> list[Verdict]:
    """Verdicts by user: one conversation each, turn by turn."""
    return [
        material.verdict(arm, user, f"{user}/c", win, turn=turn, seed=seed)
        for user, row in wins.items()
        for turn, win in enumerate(row)
    ]


def crowd(users: int, share: float, *, turns: int = 50, every: int = 1) -> dict[str, list[float]]:
    """Users who win this share on the whole (of 9, 18, … users), each a turn more or less than the next."""
    counts = [round(share * turns) + (number // every) % 3 - 1 for number in range(users)]
    return {f"u{n:02}": [1.0] * count + [0.0] * (turns - count) for n, count in enumerate(counts)}


def told(
    ours: dict[str, list[float]], wrong: dict[str, list[float]], settings: Evaluation = SETTINGS
) -> dict[str, Any]:
    verdicts = [*won(OURS, ours), *won(WRONG, wrong)]
    turns = [eval_turn(f"{u}/c", turn, u) for u, row in ours.items() for turn in range(len(row))]
    replies: list[Reply] = [
        reply(arm, u, f"{u}/c", "x", turn)
        for arm in (OURS, WRONG, BASE)
        for u, row in ours.items()
        for turn in range(len(row))
    ]
    return verdict(scores(verdicts, replies, turns, settings, 0), differences(verdicts, settings, 0), settings)


def test_the_difference_by_hand() -> None:
    ours = won(OURS, {"u1": [1, 1, 0.5], "u2": [1, 0]})
    wrong = won(WRONG, {"u1": [1, 0], "u2": [0.5, 0.5], "u3": [1]})
    (row,) = differences([*ours, *wrong], SETTINGS, 0)
    assert (row.arm, row.control, row.against, row.judge) == (OURS, WRONG, BASE, "likelihood")
    assert (row.n, row.users) == (4, 2)
    assert (row.win_rate, row.control_win_rate, row.difference) == pytest.approx((3 / 4, 2 / 4, 1 / 4))
    assert -1 <= row.low <= 0.25 <= row.high <= 1


def test_only_the_same_turn_and_seed_is_compared() -> None:
    ours = [*won(OURS, {"u1": [1, 1]}), *won(OURS, {"u1": [0, 0]}, seed=1)]
    (row,) = differences([*ours, *won(WRONG, {"u1": [0]}, seed=1)], SETTINGS, 0)
    assert (row.n, row.win_rate, row.difference, row.low, row.high) == (1, 0, 0, -1, 1)
    assert differences([*ours, *won(WRONG, {"u1": [0]}, seed=2)], SETTINGS, 0) == []


def test_other_judges_and_dimensions_do_not_count() -> None:
    wrong = won(WRONG, {"u1": [0]})
    ours = won(OURS, {"u1": [1]})
    for change in ({"judge": "truth"}, {"dimension": "personalization"}, {"against": "base"}):
        assert differences([*ours, *(row.model_copy(update=change) for row in wrong)], SETTINGS, 0) == []


def test_neither_order_nor_other_arms_change_a_figure() -> None:
    rows = [*won(OURS, crowd(9, 0.8)), *won(WRONG, crowd(9, 0.6))]
    more = [*rows, *won("base", crowd(9, 0.1))]
    random.Random(1).shuffle(more)
    assert differences(more, SETTINGS, 0) == differences(rows, SETTINGS, 0) != []


@pytest.mark.parametrize(("ours", "wrong", "control", "words"), [
    (0.8, 0.54, "personal", "The gain is personal: "),   # though the control wins too
    (0.8, 0.3, "personal", "The gain is personal: all of its 30.0 percentage points"),
    (0.8, 0.7, "partly", "The gain is personal in part: 10.0 of its 30.0 percentage points"),
    (0.8, 0.8, "not_personal", "This gain is not personalization: with another user's persona"),
    (0.8, 0.9, "not_personal", "a difference of −10.0 percentage points"),
])  # fmt: skip
def test_the_sentence_says_how_much_is_personal(ours: float, wrong: float, control: str, words: str) -> None:
    found = told(crowd(36, ours), crowd(36, wrong, every=3))
    assert (found["outcome"], found["control"]) == ("gain", control)
    assert words in found["sentence"], found["sentence"]
    row = found["difference"]
    assert row["difference"] == pytest.approx(ours - wrong)
    interval = f"95 % interval {100 * row['low']:.1f} to {100 * row['high']:.1f}".replace("-", "−")
    assert interval in found["sentence"]
    assert ("The gain is personal" in found["sentence"]) == (control in ("personal", "partly"))


def test_a_control_judged_on_few_users_proves_nothing_either_way() -> None:
    ours = crowd(30, 0.8)
    for users in (1, 2):
        few = {user: [0.0] * 50 for user in list(ours)[:users]}
        found = told(ours, few)
        assert (found["control"], found["difference"]["users"]) == (
            ("unclear", users) if users == 1 else ("unclear", 2)
        )
        assert "How much of the gain is personal is not shown" in found["sentence"]
        assert f"counted on the {50 * users} comparisons that both have" in found["sentence"]


def test_a_user_who_differs_from_the_others_widens_the_interval() -> None:
    """Nine users see no difference and one sees all of it: no difference is shown, whatever the number of turns."""
    ours = {f"u{n}": [1.0] * 50 for n in range(10)}
    wrong = {user: ([0.0] if user == "u0" else [1.0]) * 50 for user in ours}
    (row,) = differences([*won(OURS, ours), *won(WRONG, wrong)], SETTINGS, 0)
    assert row.difference == pytest.approx(0.1) and row.low <= 0 < row.high


def test_without_a_control_nothing_is_said_of_personalization() -> None:
    alone = Evaluation(arms=(Arm(name=BASE), Arm(name=OURS, train="ugr")), bootstrap=200)
    found = told(crowd(20, 0.8), {}, alone)
    assert (found["outcome"], found["control"], found["difference"]) == ("gain", "none", None)
    assert "nothing is said of personalization" in found["sentence"]
    unjudged = told(crowd(20, 0.8), {})
    assert (unjudged["control"], unjudged["difference"]) == ("none", None)
    assert "nothing is said of personalization" in unjudged["sentence"]


def test_without_a_gain_nothing_is_said_of_it() -> None:
    for share, outcome in ((0.5, "no_difference"), (0.2, "loss")):
        found = told(crowd(20, share), crowd(20, 0.1))
        assert (found["outcome"], found["control"]) == (outcome, "none")
        assert "personal" not in found["sentence"].replace("persona”", "")


def test_a_control_has_the_same_training_and_another_persona() -> None:
    arms = (
        Arm(name="base"),
        Arm(name="a", train="ugr"),
        Arm(name="plain", train="ugr", persona="none"),
        Arm(name="other", train="ubr", persona="wrong"),
        Arm(name="same", train="ugr", persona="wrong"),
    )
    settings = Evaluation(arms=arms, against="base")
    found = {arm.name: control_arm(settings, arm) for arm in arms}
    assert found["a"] == arms[4]
    assert [name for name, control in found.items() if control] == ["a"]


def difference(win_rate: float, found: float, low: float, high: float) -> Difference:
    return Difference(
        arm=OURS, control=WRONG, against=BASE, judge="truth", win_rate=win_rate, control_win_rate=win_rate - found,
        difference=found, low=low, high=high, n=9, users=3,
    )  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), [
    ((0.75, 0.125, 0.01, 0.25), "personal"),       # just half of the gain
    ((0.75, 0.12, 0.01, 0.24), "partly"),
    ((0.75, 0.12, 0.0, 0.24), "unclear"),          # the interval holds 0, and most of the gain too
    ((0.75, 0.0, -0.125, 0.12), "not_personal"),
    ((0.75, 0.0, -0.125, 0.125), "unclear"),
    ((0.5, 0.3, 0.2, 0.4), "unclear"),             # no gain on the comparisons that both have
])  # fmt: skip
def test_the_rule_at_its_bounds(row: tuple[float, float, float, float], expected: str) -> None:
    assert fate(difference(*row)) == expected


@examples(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=6),
        min_size=1,
        max_size=12,
    )
)
def test_any_verdicts_give_a_sentence_that_fits_its_figures(users: list[list[tuple[float, float]]]) -> None:
    quick = Evaluation(bootstrap=100)
    ours = {f"u{n:02}": [own for own, _ in row] for n, row in enumerate(users)}
    wrong = {f"u{n:02}": [other for _, other in row] for n, row in enumerate(users)}
    found = told(ours, wrong, quick)
    row = Difference.model_validate(found["difference"])
    assert row.low - 1e-12 <= row.difference <= row.high + 1e-12
    assert row.difference == pytest.approx(row.win_rate - row.control_win_rate)
    assert row.win_rate == pytest.approx(found["win_rate"]) and row.n == found["n"]
    personal = "The gain is personal" in found["sentence"]
    assert personal == (found["outcome"] == "gain" and row.low > 0)
    (mirrored,) = differences([*won(OURS, wrong), *won(WRONG, ours)], quick, 0)
    assert mirrored.difference == pytest.approx(-row.difference)
