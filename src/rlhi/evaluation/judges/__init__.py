"""Judges: who says which of two replies is better. Each gives the share won by the first reply, per dimension.

A judge is a class with the method of `Judge`, found by its name among the registered ones (`truth`, `likelihood`, and
the entry points `rlhi.judges` of other packages); any other name is that of a chat model, asked with a prompt.
A judge that cannot be read raises, so that its row fails and is counted: it never turns into a score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, get_args

from rlhi.evaluation.comparison import Comparison
from rlhi.flow.stage import Context, Drop, Stage
from rlhi.models.base import TooLong
from rlhi.records import Dimension, Verdict
from rlhi.registry import Registry

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
TIE: Mapping[Dimension, float] = dict.fromkeys(DIMENSIONS, 0.5)
CHAT = "chat"

JUDGES = Registry(
    "judge",
    "rlhi.judges",
    {
        "truth": "rlhi.evaluation.judges.truth:TruthJudge",
        "likelihood": "rlhi.evaluation.judges.likelihood:LikelihoodJudge",
        CHAT: "rlhi.evaluation.judges.chat:ChatJudge",
    },
)


class Judge(Protocol):
    """What a judge must write; it is made without arguments, in the worker."""

    async def wins(self, row: Comparison, ctx: Context) -> Mapping[Dimension, float] | Drop:
        """1 where the arm's reply is better, 0 where the other's is, 0.5 for a tie; raise to give no score."""
        ...


class JudgeStage(Stage[Comparison, Verdict]):
    """Three verdicts, one per dimension, for each comparison.

    Resources: a judge that is a chat model and `likelihood` use the role `judge`; `truth` uses the resource `truth`.
    """

    name = "verdicts"
    judge: str
    """A registered judge, or the name of a chat model."""
    prompts: str
    """Fingerprint of the prompts."""

    def about(self, row: Comparison) -> str:
        """Arm, seed and turn."""
        return f"{self.judge} on {row.arm}, seed {row.seed}: {row.turn.about}"

    async def run(self, row: Comparison, ctx: Context) -> Sequence[Verdict] | Drop:
        """Ask the judge."""
        judge: Any = JUDGES.get(self.judge if self.judge in JUDGES.names() else CHAT)()
        try:
            wins = await judge.wins(row, ctx)
        except TooLong as error:
            return Drop("prompt_too_long", str(error))
        if isinstance(wins, Drop):
            return wins
        return [
            Verdict(
                arm=row.arm,
                against=row.against,
                seed=row.seed,
                judge=self.judge,
                dimension=dimension,
                conversation_id=row.turn.conversation_id,
                turn=row.turn.turn,
                user_id=row.turn.user_id,
                win=wins[dimension],
            )
            for dimension in DIMENSIONS
        ]


def better(first: float, second: float, tolerance: float = 0.0) -> float:
    """1 where the first figure is higher, 0 where it is lower, 0.5 where they differ by `tolerance` or less."""
    difference = first - second
    if math.isnan(difference):
        raise ValueError(f"a judge gave no number: {first} against {second}")
    return 0.5 if abs(difference) <= tolerance else float(difference > 0)


__all__ = ["DIMENSIONS", "JUDGES", "TIE", "Judge", "JudgeStage", "better"]
