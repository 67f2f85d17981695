"""What the scores show, in one sentence, and no more than they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rlhi.records import Score
from rlhi.settings import Arm, Evaluation

Outcome = Literal["gain", "loss", "no_difference", "no_scores"]
Control = Literal["gone", "unclear", "survives", "none"]
CHANCE = 0.5


def verdict(scores: Sequence[Score], settings: Evaluation) -> dict[str, Any]:
    """The sentence under `sentence`, and the figures in it.

    It speaks of one arm, named by rule before any score is seen (`headline_arm`), of all turns, of the dimension
    `overall`, and of the first judge of the recipe. Where the 95 % interval includes 50 %, no difference is claimed. A
    gain is called personal only where the same model under another user's persona is shown to win less; where that
    control wins too, the sentence says that the gain is not personalization.
    """
    arm = headline_arm(settings)
    row = _find(scores, arm, settings)
    if arm is None or row is None:
        return {"sentence": "No verdict: nothing was judged.", "outcome": "no_scores", "control": "none"}
    outcome: Outcome = "gain" if row.low > CHANCE else "loss" if row.high < CHANCE else "no_difference"
    control = _find(scores, control_arm(settings, arm), settings)
    fate: Control = _fate(row, control) if outcome == "gain" else "none"
    sentence = _compared(row, outcome)
    if outcome == "gain":
        sentence += _with_control(control, fate, arm)
    if row.judge == "likelihood":
        sentence += " This is weak evidence: only the base model's own likelihoods judged."
    return {
        "sentence": sentence,
        "outcome": outcome,
        "control": fate,
        **row.model_dump(mode="json", exclude={"dimension", "turns", "length", "length_against"}),
        "control_score": control.model_dump(mode="json") if control else None,
    }


def headline_arm(settings: Evaluation) -> Arm | None:
    """The arm that the verdict is about: the last in the recipe that is trained on pairs and sees the user's own card.

    Without one, the last trained arm that does not see a wrong card; then any arm that does not.
    """
    others = [a for a in settings.arms if a.name != settings.against and a.persona != "wrong"]
    ranked = sorted(others, key=lambda a: (a.train not in ("none", "sft"), a.train != "none", a.persona == "own"))
    return ranked[-1] if ranked else None


def control_arm(settings: Evaluation, arm: Arm | None) -> Arm | None:
    """The arm with the same training and another user's card, if the recipe has one."""
    same = [a for a in settings.arms if arm and a.persona == "wrong" and a.train == arm.train]
    return same[0] if same and arm and arm.persona == "own" else None


def _find(scores: Sequence[Score], arm: Arm | None, settings: Evaluation) -> Score | None:
    for judge in settings.judges:
        for row in scores:
            if arm and (row.arm, row.judge, row.dimension, row.turns) == (arm.name, judge, "overall", "all"):
                return row
    return None


def _fate(row: Score, control: Score | None) -> Control:
    """What is left of a gain under another user's persona."""
    if control is None or control.judge != row.judge:
        return "none"
    if control.low > CHANCE:
        return "survives"
    return "gone" if control.high < row.low else "unclear"


def _compared(row: Score, outcome: Outcome) -> str:
    figures = f"{_rate(row)} of {row.n} comparisons with {row.users} {'user' if row.users == 1 else 'users'}"
    if outcome == "no_difference":
        return f"No difference shown: “{row.arm}” wins {figures} against “{row.against}”, judged by {row.judge}."
    does = "beats" if outcome == "gain" else "loses to"
    return f"“{row.arm}” {does} “{row.against}”: it wins {figures}, judged by {row.judge}."


def _with_control(control: Score | None, fate: Control, arm: Arm) -> str:
    if control is None or fate == "none":
        return " No control with another user's persona was judged, so nothing is said of personalization." * (
            arm.persona == "own"
        )
    rate = f"with another user's persona (“{control.arm}”) it wins {_rate(control)}"
    return {
        "gone": f" The gain is personal: {rate}.",
        "unclear": f" How much of the gain is personal is not shown: {rate}.",
        "survives": f" This gain is not personalization: {rate} too.",
    }[fate]


def _rate(row: Score) -> str:
    return f"{100 * row.win_rate:.1f} % (95 % interval {100 * row.low:.1f}–{100 * row.high:.1f} %)"
