"""What can be said of an arm without comparing it: lengths, and where a truth is known, how good its replies are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rlhi.evaluation.scores import words
from rlhi.evaluation.turns import EvalTurn
from rlhi.records import Record, Reply, TurnKind

if TYPE_CHECKING:
    from rlhi.world.truth import Truth, TruthScore


class ArmFigures(Record):
    """Means over an arm's replies, its seeds pooled."""

    arm: str
    """Name of the arm."""
    turns: TurnKind
    """Which turns were counted."""
    n: int
    """Replies."""
    users: int
    """Users among them."""
    seeds: tuple[int, ...]
    """Seeds pooled."""
    words: float
    """Mean length, in words."""
    judged: int
    """Replies that the truth can score; the figures below are means over these."""
    personalization: float | None
    """Share of the user's preferences met, 0–1; null without truth."""
    correctness: float | None
    """Share of what was asked that is right, 0–1; null without truth."""
    overall: float | None
    """The truth's score of the whole reply, 0–1; null without truth."""
    judged_words: float | None
    """Mean length of the scored replies, in words; null without truth."""
    wanted_words: float | None
    """Mean of the lengths that users want (the middle of each range), in words; null without truth."""
    wanted_low: float | None
    """Mean of the least length wanted, in words; null without truth."""
    wanted_high: float | None
    """Mean of the most length wanted, in words; null without truth."""


def arm_figures(turns: Iterable[EvalTurn], replies: Iterable[Reply], truth: Truth | None) -> list[ArmFigures]:
    """A row per arm and kind of turn, sorted by both."""
    kinds = {(turn.conversation_id, turn.turn): turn.kind for turn in turns}
    groups: dict[tuple[str, TurnKind], list[tuple[Reply, TruthScore | None]]] = defaultdict(list)
    for reply in sorted(replies, key=lambda r: (r.arm, r.seed, r.conversation_id, r.turn)):
        score = truth.score(reply.conversation_id, reply.turn, reply.text) if truth else None
        for kind in (kinds[reply.conversation_id, reply.turn], "all"):
            groups[reply.arm, kind].append((reply, score))
    return [_figures(arm, kind, groups[arm, kind]) for arm, kind in sorted(groups)]


def _figures(arm: str, kind: TurnKind, rows: list[tuple[Reply, TruthScore | None]]) -> ArmFigures:
    scored = [score for _, score in rows if score is not None]
    return ArmFigures(
        arm=arm,
        turns=kind,
        n=len(rows),
        users=len({reply.user_id for reply, _ in rows}),
        seeds=tuple(sorted({reply.seed for reply, _ in rows})),
        words=sum(words(reply.text) for reply, _ in rows) / len(rows),
        judged=len(scored),
        personalization=_mean(score.personalization for score in scored),
        correctness=_mean(score.instruction_following for score in scored),
        overall=_mean(score.overall for score in scored),
        judged_words=_mean(score.words for score in scored),
        wanted_words=_mean(sum(score.wanted_words) / 2 for score in scored),
        wanted_low=_mean(score.wanted_words[0] for score in scored),
        wanted_high=_mean(score.wanted_words[1] for score in scored),
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None
