"""The world's own judge: simulated users' hidden preferences and the right answers are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rlhi.errors import UsageError
from rlhi.evaluation.comparison import Comparison
from rlhi.evaluation.judges import better
from rlhi.flow.stage import Context, Drop
from rlhi.records import Dimension

if TYPE_CHECKING:
    from rlhi.world.truth import Truth

ROUNDING = 1e-9


class TruthJudge:
    """The reply with the higher score in the world's truth wins; equal scores tie."""

    async def wins(self, row: Comparison, ctx: Context) -> Mapping[Dimension, float] | Drop:
        """Drops with `no_truth` what the truth does not know or what asks for nothing."""
        truth: Truth | None = ctx.resources.get("truth")
        if truth is None:
            raise UsageError("the judge `truth` needs `evaluation.truth`, the folder that `rlhi world` wrote")
        place = row.turn.conversation_id, row.turn.turn
        ours, theirs = truth.score(*place, row.reply), truth.score(*place, row.reply_against)
        if ours is None or theirs is None:
            return Drop("no_truth", "the truth says nothing of this turn")
        return {
            "personalization": better(ours.personalization, theirs.personalization, ROUNDING),
            "instruction_following": better(ours.instruction_following, theirs.instruction_following, ROUNDING),
            "overall": better(ours.overall, theirs.overall, ROUNDING),
        }
