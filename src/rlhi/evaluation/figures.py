"""What can be said of an arm without comparing it: lengths, and where a truth is known, how good its replies are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlhi.evaluation.scores import words
from rlhi.evaluation.turns import EvalTurn
from rlhi.records import Record, Reply

if TYPE_CHECKING:
    from rlhi.world.truth import Truth, TruthScore


class ArmFigures(Record):
    """Means over an arm's replies, its seeds pooled.

    Where a truth is known, only the replies that it can score count, and it counts their words.
    """

    arm: str
    """Name of the arm."""
    n: int
    """Replies counted."""
    unscored: int
    """Replies left out, since the truth says nothing of their turns."""
    users: int
    """Users among the turns counted."""
    seeds: tuple[int, ...]
    """Seeds pooled."""
    words: float
    """Mean length, in words."""
    wanted_words: float | None
    """Mean of the lengths that users want (the middle of each range), in words; null without truth."""
    wanted_low: float | None
    """Mean of the least length wanted, in words; null without truth."""
    wanted_high: float | None
    """Mean of the most length wanted, in words; null without truth."""
    personalization: float | None
    """Share of the user's preferences met, 0–1; null without truth."""
    correctness: float | None
    """Share of what was asked that is right, 0–1; null without truth."""
    overall: float | None
    """The truth's score of the whole reply, 0–1; null without truth."""


def arm_figures(turns: Iterable[EvalTurn], replies: Iterable[Reply], truth: Truth | None) -> list[ArmFigures]:
    """A row per arm that has replies to these turns, sorted by name."""
    evaluated = {(turn.conversation_id, turn.turn) for turn in turns}
    by_arm: dict[str, list[tuple[Reply, TruthScore | None]]] = defaultdict(list)
    for reply in sorted(replies, key=lambda r: (r.arm, r.seed, r.conversation_id, r.turn)):
        if (reply.conversation_id, reply.turn) not in evaluated:
            continue
        score = truth.score(reply.conversation_id, reply.turn, reply.text) if truth else None
        by_arm[reply.arm].append((reply, score))
    rows = (_figures(arm, found, truth is not None) for arm, found in by_arm.items())
    return [row for row in rows if row]


def _figures(arm: str, found: list[tuple[Reply, TruthScore | None]], known: bool) -> ArmFigures | None:
    scores = [score for _, score in found if score is not None]
    counted = [(reply, score) for reply, score in found if score is not None or not known]
    if not counted:
        return None
    return ArmFigures(
        arm=arm,
        n=len(counted),
        unscored=len(found) - len(counted),
        users=len({reply.user_id for reply, _ in counted}),
        seeds=tuple(sorted({reply.seed for reply, _ in counted})),
        words=sum(score.words if score else words(reply.text) for reply, score in counted) / len(counted),
        wanted_words=_mean(sum(score.wanted_words) / 2 for score in scores),
        wanted_low=_mean(score.wanted_words[0] for score in scores),
        wanted_high=_mean(score.wanted_words[1] for score in scores),
        personalization=_mean(score.personalization for score in scores),
        correctness=_mean(score.instruction_following for score in scores),
        overall=_mean(score.overall for score in scores),
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
