"""What the scores show, in one sentence, and no more than they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from rlhi.evaluation.control import CHANCE, Difference, Fate, control_arm, fate
from rlhi.records import Score
from rlhi.settings import Arm, Evaluation

Outcome = Literal["gain", "loss", "no_difference", "no_scores"]
Control = Fate | Literal["none"]


def verdict(scores: Sequence[Score], differences: Sequence[Difference], settings: Evaluation) -> dict[str, Any]:
    """The sentence under `sentence`, and the figures in it.

    It speaks of one arm, named by rule before any score is seen (`headline_arm`), of all turns, of the dimension
    `overall`, and of the first judge in the recipe's order that has judged that arm. Where the 95 % interval includes
    50 %, no difference is claimed. How much of a gain is personal says the difference between the arm and the same
    policy under another user's persona, judged by the same judge on the same turns (`rlhi.evaluation.control`).
    """
    arm = headline_arm(settings)
    row = _find(scores, arm, settings)
    if arm is None or row is None:
        judged = f"no comparison of “{arm.name}” was judged" if arm else "there is no arm to compare"
        return {"sentence": f"No verdict: {judged}.", "outcome": "no_scores", "control": "none"}
    outcome: Outcome = "gain" if row.low > CHANCE else "loss" if row.high < CHANCE else "no_difference"
    control = control_arm(settings, arm)
    names = (row.arm, control.name if control else None, row.judge)
    against_control = next((d for d in differences if (d.arm, d.control, d.judge) == names), None)
    told: Control = fate(against_control) if against_control and outcome == "gain" else "none"
    sentence = _compared(row, outcome)
    if outcome == "gain" and arm.persona == "own":
        sentence += _personal(against_control, row)
    if row.judge == "likelihood":
        sentence += " This is weak evidence: only the base model's own likelihoods judged."
    return {
        "sentence": sentence,
        "outcome": outcome,
        "control": told,
        **row.model_dump(mode="json", exclude={"dimension", "turns", "length", "length_against"}),
        "difference": against_control.model_dump(mode="json") if against_control else None,
    }


def headline_arm(settings: Evaluation) -> Arm | None:
    """The arm that the verdict is about: the last in the recipe that is trained on pairs and sees the user's own card.

    Without one, the last trained arm that does not see a wrong card; then any arm that does not.
    """
    others = [a for a in settings.arms if a.name != settings.against and a.persona != "wrong"]
    ranked = sorted(others, key=lambda a: (a.train not in ("none", "sft"), a.train != "none", a.persona == "own"))
    return ranked[-1] if ranked else None


def _find(scores: Sequence[Score], arm: Arm | None, settings: Evaluation) -> Score | None:
    for judge in settings.judges:
        for row in scores:
            if arm and (row.arm, row.judge, row.dimension, row.turns) == (arm.name, judge, "overall", "all"):
                return row
    return None


def _compared(row: Score, outcome: Outcome) -> str:
    figures = f"{_rate(row)} of {row.n} comparisons with {row.users} {'user' if row.users == 1 else 'users'}"
    if outcome == "no_difference":
        return f"No difference shown: “{row.arm}” wins {figures} against “{row.against}”, judged by {row.judge}."
    does = "beats" if outcome == "gain" else "loses to"
    return f"“{row.arm}” {does} “{row.against}”: it wins {figures}, judged by {row.judge}."


def _personal(found: Difference | None, row: Score) -> str:
    """How many points of a gain are personal, and how sure that is."""
    if found is None:
        return " No control with another user's persona was judged, so nothing is said of personalization."
    interval = f"95 % interval {_points(found.low)} to {_points(found.high)}"
    control = f"with another user's persona (“{found.control}”)"
    wins = f"it wins {_points(found.control_win_rate)} %"
    shared = "" if found.n == row.n else f", counted on the {found.n} comparisons that both have"
    told = fate(found)
    if told in ("personal", "partly"):
        how = "" if told == "personal" else " in part"
        whole = found.difference > found.gain
        share = (
            f"all of its {_points(found.gain)}"
            if whole
            else f"{_points(found.difference)} of its {_points(found.gain)}"
        )
        less = f"{_points(found.difference)} fewer, " if whole else ""
        return (
            f" The gain is personal{how}: {share} percentage points above 50 % are gone {control}, where {wins} "
            f"({less}{interval}){shared}."
        )
    head = (
        "This gain is not personalization"
        if told == "not_personal"
        else "How much of the gain is personal is not shown"
    )
    return (
        f" {head}: {control} {wins}, with the user's own {_points(found.win_rate)} %, a difference of "
        f"{_points(found.difference)} percentage points ({interval}){shared}."
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-", "−")


def _rate(row: Score) -> str:
    return f"{100 * row.win_rate:.1f} % (95 % interval {100 * row.low:.1f}–{100 * row.high:.1f} %)"
