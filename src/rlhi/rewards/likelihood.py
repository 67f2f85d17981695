"""A reward that needs no reward model: how much likelier does the persona make this reply?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlhi.models.base import ScoreAnswer, ScoreRequest, ScoringModel
from rlhi.personas.render import prompt
from rlhi.records import ChatMessage

NULL = ("Prefers good answers.",)
"""A persona that anybody could have."""


def plausible(total: float, tokens: int, length_slope: float) -> float:
    """Mean log-probability per token, freed of length: log π(y|x) / |y| − length_slope · log |y|, in nats.

    A mean is higher in longer replies, which go on as they began: pairs chosen by it alone would teach length.
    """
    return total / tokens - length_slope * math.log(tokens)


class Plausibility:
    """How likely a model finds a reply by anybody's taste, p₀: log π(y|x,p₀) per token, freed of length.

    A slip of the pen, a wrong fact or a sentence said twice costs some tokens dearly, whatever the user wants.
    """

    def __init__(self, model: ScoringModel, length_slope: float) -> None:
        self.model = model
        self.length_slope = length_slope

    async def score(self, context: Sequence[ChatMessage], replies: Sequence[str]) -> list[float]:
        """Plausibility of each reply, in nats per token."""
        answer = await _ask(self.model, prompt(NULL, context), replies)
        return [
            plausible(total, tokens, self.length_slope)
            for total, tokens in zip(answer.log_likelihoods, answer.tokens, strict=True)
        ]


async def _ask(model: ScoringModel, messages: Sequence[ChatMessage], replies: Sequence[str]) -> ScoreAnswer:
    return await model.score(ScoreRequest(model=model.model, messages=tuple(messages), replies=tuple(replies)))


class LikelihoodReward:
    """Pointwise mutual information between persona p and reply y, and how plausible y is per token.

    r(y) = log π(y|x,p) − log π(y|x,p₀) + fluency · (log π(y|x,p) / |y| − length_slope · log |y|), in nats

    The difference is the sequence-level form of the hindsight advantage of arXiv 2603.12273 (there with the follow-up
    in the place of the persona): positive where the persona speaks for the reply, and free of what both terms share.
    It is taken against a persona p₀ that says nothing, not against none: that a persona is there at all makes some
    replies likelier (another language, for one), and this is no evidence of what this user wants.
    It is a sum over the reply: evidence for a wish is no weaker in a long reply. Alone it would prefer slips of the pen
    that a persona makes a little likelier; the last term speaks against those.
    """

    def __init__(self, model: ScoringModel, fluency: float, length_slope: float = 0.0) -> None:
        self.model = model
        self.fluency = fluency
        self.length_slope = length_slope
        self.name = f"likelihood({model.model})"

    async def score(
        self, context: Sequence[ChatMessage], replies: Sequence[str], lines: Sequence[str]
    ) -> list[float | None]:
        """Rewards in nats; without lines only the plausibility term is left."""
        null = await _ask(self.model, prompt(NULL, context), replies)
        known = await _ask(self.model, prompt(lines, context), replies) if lines else null
        return [
            with_persona - without + self.fluency * plausible(with_persona, tokens, self.length_slope)
            for with_persona, without, tokens in zip(
                known.log_likelihoods, null.log_likelihoods, null.tokens, strict=True
            )
        ]
