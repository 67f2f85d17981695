"""The arms of a run as the report names, marks and orders them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlhi.records import Score
from rlhi.report.data import ReportData

Kind = Literal["trained", "untrained", "control"]
TRUTH = "truth"
LIKELIHOOD = "likelihood"


@dataclass(frozen=True)
class ArmMark:
    """How an arm is marked."""

    name: str
    """Its name in the recipe."""
    kind: Kind
    """`control` = it sees another user's persona; `untrained` = the policy as it was."""
    against: bool
    """Whether the others are compared with it."""


def arms(data: ReportData) -> list[ArmMark]:
    """The arms in the recipe's order, then those that only the scores name."""
    evaluation = data.recipe.get("evaluation") or {}
    declared: dict[str, dict[str, Any]] = {arm["name"]: arm for arm in evaluation.get("arms") or ()}
    against = evaluation.get("against") or next((score.against for score in data.scores), "")
    seen = [*declared, *(score.arm for score in data.scores), *(str(row.get("arm")) for row in data.arms)]
    return [ArmMark(name, _kind(declared.get(name, {})), name == against) for name in dict.fromkeys(seen)]


def _kind(arm: dict[str, Any]) -> Kind:
    if arm.get("persona") == "wrong":
        return "control"
    return "untrained" if arm.get("train", "none") == "none" else "trained"


def judges(scores: Sequence[Score]) -> list[str]:
    """Judges, the most trustworthy first: the truth, then models, then the base model's statistics."""
    weight = {TRUTH: 0, LIKELIHOOD: 2}
    return sorted({score.judge for score in scores}, key=lambda judge: (weight.get(judge, 1), judge))


def headline(data: ReportData) -> Score | None:
    """The score that the verdict speaks of; None where there is no verdict."""
    named = (data.verdict.get("arm"), data.verdict.get("judge"), "overall", "all")
    return next((s for s in data.scores if (s.arm, s.judge, s.dimension, s.turns) == named), None)
