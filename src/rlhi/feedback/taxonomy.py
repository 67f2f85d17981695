"""The six labels of a user message, and the five levels of satisfaction, in one place."""

from __future__ import annotations

from typing import get_args

from rlhi.records import Label

DEFINITIONS: dict[Label, str] = {
    "new_request": "opens another task",
    "reattempt_with_feedback": "asks again or complains, and says what is wrong or wanted",
    "reattempt_without_feedback": "asks the same again, rephrases, or only says it is wrong",
    "positive_feedback": "thanks, praises, accepts",
    "continuation": "builds on an accepted answer",
    "other": "unclear, empty, not addressed to the answer",
}
"""What each label means, as prompts and reports say it."""

LABELS: tuple[Label, ...] = get_args(Label)
"""The labels in the order of every table and of the local labeler's outputs."""

EVIDENT: frozenset[Label] = frozenset({"reattempt_with_feedback", "reattempt_without_feedback", "positive_feedback"})
"""Labels that the user's own words must show: their span is never empty."""

SATISFACTION: dict[int, str] = {
    1: "clear rejection",
    2: "correction",
    3: "neutral",
    4: "positive engagement",
    5: "clear satisfaction",
}
"""The levels of satisfaction with the reply before the message (WildReward's scale)."""
