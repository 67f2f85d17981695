"""Statistics of the base model in the place of a judge, for runs that have none. Weak evidence: see the class."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

from rlhi.evaluation.comparison import Comparison
from rlhi.evaluation.judges import TIE, better
from rlhi.flow.stage import Context
from rlhi.models.base import ScoreRequest, ScoringModel
from rlhi.personas.render import prompt
from rlhi.prompts import clip
from rlhi.records import ChatMessage, Dimension

FEEDBACK_CHARS = 300
NOISE = 1e-4
"""Differences below are rounding of the model's arithmetic, in nats."""


class LikelihoodJudge:
    """Compares two replies by how likely the untrained model finds them.

    With y a reply of |y| tokens, x its context, and e the evidence (the user's own persona and what the user said
    next):

    - personalization: log p(y|e,x) − log p(y|x), the pointwise mutual information of reply and evidence, in nats. By
      Bayes' rule the reply with more of it makes the evidence more probable. A tie where there is no evidence.
    - instruction_following: log p(y|x) / |y|, nats per token: a plausible, fluent answer to this request.
    - overall: log p(y|e,x) / |y|, nats per token: a plausible answer to this request of this user. It is the sum of
      the second figure and of the first one per token.

    A model trained on a reward of this form is favoured by it, and likely is not good: it is evidence only beside
    another judge.
    """

    async def wins(self, row: Comparison, ctx: Context) -> Mapping[Dimension, float]:
        """Never drops; identical replies tie without a call."""
        if row.identical:
            return TIE
        model = cast(ScoringModel, ctx.model("judge"))
        lines = evidence(row)
        replies = (row.reply, row.reply_against)
        plain = await asyncio.gather(*(_score(model, row.turn.context, reply) for reply in replies))
        chat = prompt(lines, row.turn.context)
        known = await asyncio.gather(*(_score(model, chat, reply) for reply in replies)) if lines else plain
        gains = [with_evidence[0] - without[0] for with_evidence, without in zip(known, plain, strict=True)]
        follows = [total / tokens for total, tokens in plain]
        overall = [total / tokens for total, tokens in known]
        return {
            "personalization": better(gains[0], gains[1], NOISE),
            "instruction_following": better(follows[0], follows[1], NOISE),
            "overall": better(overall[0], overall[1], NOISE),
        }


def evidence(row: Comparison) -> list[str]:
    """Persona lines and what the user said next, each on one line."""
    said = (" ".join(clip(text, FEEDBACK_CHARS).split()) for text in row.turn.later_feedback)
    return [*row.turn.own, *(f'Said next: "{text}"' for text in said if text)]


async def _score(model: ScoringModel, chat: Sequence[ChatMessage], reply: str) -> tuple[float, int]:
    """Log-likelihood in nats and tokens; one reply per request, so that the store finds the base arm's again."""
    answer = await model.score(ScoreRequest(model=model.model, messages=tuple(chat), replies=(reply,)))
    return answer.log_likelihoods[0], answer.tokens[0]
