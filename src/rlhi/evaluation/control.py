"""How much of an arm's gain is personal: the arm against its control, on the same turns and seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from rlhi.evaluation.intervals import by_user, difference_interval
from rlhi.records import Record, Verdict, digest
from rlhi.settings import Arm, Evaluation

CHANCE = 0.5
MOST = 0.5
"""Share of a gain from which on it is called personal, and not personal in part."""

Fate = Literal["personal", "partly", "not_personal", "unclear"]
_Key = tuple[str, int, int]


class Difference(Record):
    """An arm's win rate less that of its control, both against the same arm, on the comparisons that both have."""

    arm: str
    """The arm, which sees the user's own card."""
    control: str
    """The arm with the same training that sees another user's card."""
    against: str
    """What both are compared with."""
    judge: str
    """Who judged both, on `overall`."""
    win_rate: float = Field(ge=0, le=1)
    """Share won by the arm on these comparisons, ties half."""
    control_win_rate: float = Field(ge=0, le=1)
    """Share won by the control on these comparisons, ties half."""
    difference: float = Field(ge=-1, le=1)
    """`win_rate` − `control_win_rate`."""
    low: float = Field(ge=-1, le=1)
    """Lower end of the 95 % interval of the difference, clustered by user."""
    high: float = Field(ge=-1, le=1)
    """Upper end of the 95 % interval of the difference, clustered by user."""
    n: int
    """Turns and seeds that both were judged on."""
    users: int
    """Users among them."""

    @property
    def gain(self) -> float:
        """What the arm wins above chance, −0.5 to 0.5."""
        return self.win_rate - CHANCE


def control_arm(settings: Evaluation, arm: Arm) -> Arm | None:
    """The arm with the same training and another user's card; None without one, or where `arm` sees no own card."""
    same = [other for other in settings.arms if other.persona == "wrong" and other.train == arm.train]
    return same[0] if same and arm.persona == "own" else None


def differences(verdicts: Iterable[Verdict], settings: Evaluation, seed: int) -> list[Difference]:
    """A row per judge and arm that has a control and comparisons in common with it, in the order of the recipe.

    Only the dimension `overall` counts. Seeds are pooled, as in `scores`. Neither the order of the rows nor other arms
    change a figure.
    """
    won: dict[tuple[str, str], dict[_Key, Verdict]] = defaultdict(dict)
    for row in verdicts:
        if row.dimension == "overall" and row.against == settings.against:
            won[row.judge, row.arm][row.conversation_id, row.turn, row.seed] = row
    found = []
    for judge in settings.judges:
        for arm in settings.arms:
            control = control_arm(settings, arm)
            if control is not None:
                ours, theirs = won[judge, arm.name], won[judge, control.name]
                shared = [(ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]
                if shared:
                    found.append(_difference(shared, settings.bootstrap, seed))
    return found


def _difference(shared: list[tuple[Verdict, Verdict]], resamples: int, seed: int) -> Difference:
    ours, theirs = shared[0]
    sums, counts = by_user([own.user_id for own, _ in shared], [own.win - control.win for own, control in shared])
    name = digest([seed, "difference", ours.arm, theirs.arm, ours.against, ours.judge])
    low, high = difference_interval(sums, counts, resamples, np.random.default_rng(int(name[:16], 16)))
    return Difference(
        arm=ours.arm,
        control=theirs.arm,
        against=ours.against,
        judge=ours.judge,
        win_rate=float(np.mean([own.win for own, _ in shared])),
        control_win_rate=float(np.mean([control.win for _, control in shared])),
        difference=float(sums.sum() / counts.sum()),
        low=low,
        high=high,
        n=len(shared),
        users=len(counts),
    )


def fate(row: Difference) -> Fate:
    """What becomes of a gain under another user's persona. It is meant for an arm that is shown to gain.

    With the interval of the difference above 0, the gain is personal where the difference is at least half of it, else
    `partly`. With an interval that holds 0, it is `not_personal` where the interval also shows that less than half of
    the gain can be personal, else `unclear`.
    """
    if row.gain <= 0:
        return "unclear"
    if row.low > 0:
        return "personal" if row.difference >= MOST * row.gain else "partly"
    return "not_personal" if row.high < MOST * row.gain else "unclear"
