"""Any chat model as a judge, asked in both orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from rlhi import prompts
from rlhi.evaluation.comparison import Comparison
from rlhi.evaluation.judges import DIMENSIONS, TIE
from rlhi.flow.stage import Context
from rlhi.models.base import ChatModel, Sampling
from rlhi.models.structured import ask
from rlhi.records import Dimension
from rlhi.rewards.rubric import MAX_CHARS, transcript

PROMPTS = ("judge",)
QUESTIONS: dict[Dimension, str] = {
    "personalization": "personalization: it fits what is known of this user and what this user said later",
    "instruction_following": "instruction following: it does what the last user message asks, rightly and in full",
    "overall": "overall: this user would rather have it, taking all together",
}


class Preference(BaseModel):
    """The answer that the prompt `judge` asks for."""

    model_config = ConfigDict(extra="forbid")
    verdict: Literal["A", "B", "tie"]


class ChatJudge:
    """Asks for each dimension twice, with the replies in both orders; orders that disagree are a tie.

    The judge sees the persona and what the user said next, except for instruction following, which is judged on the
    conversation alone. An answer that cannot be read raises `BadAnswer`: the row fails and gives no score.
    """

    async def wins(self, row: Comparison, ctx: Context) -> Mapping[Dimension, float]:
        """Never drops; identical replies tie without a call."""
        if row.identical:
            return TIE
        model = ctx.model("judge")
        results = await asyncio.gather(*(self._both_orders(row, dimension, model) for dimension in DIMENSIONS))
        return dict(zip(DIMENSIONS, results, strict=True))

    async def _both_orders(self, row: Comparison, dimension: Dimension, model: ChatModel) -> float:
        first, second = await asyncio.gather(
            self._ask(row, dimension, model, row.reply, row.reply_against),
            self._ask(row, dimension, model, row.reply_against, row.reply),
        )
        return {("A", "B"): 1.0, ("B", "A"): 0.0}.get((first, second), 0.5)

    async def _ask(self, row: Comparison, dimension: Dimension, model: ChatModel, a: str, b: str) -> str:
        messages = prompts.render(
            "judge",
            trusted={"dimension": QUESTIONS[dimension]},
            persona="not shown" if dimension == "instruction_following" else known(row),
            conversation=prompts.clip(transcript(row.turn.context), MAX_CHARS),
            reply_a=prompts.clip(a, MAX_CHARS),
            reply_b=prompts.clip(b, MAX_CHARS),
        )
        answer = await ask(model, messages, Preference, sampling=Sampling(temperature=0, max_tokens=64))
        return answer.verdict


def known(row: Comparison) -> str:
    """What a judge may know of the user: persona lines, and what was said after another reply to the same message."""
    parts = ["\n".join(f"- {line}" for line in row.turn.own) or "nothing"]
    if row.turn.later_feedback:
        said = "\n\n".join(row.turn.later_feedback)
        parts.append(f"Later, about an older reply to the same message, this user said:\n{said}")
    return prompts.clip("\n".join(parts), MAX_CHARS)
