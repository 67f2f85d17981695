"""A chat model that rates a reply from 1 to 10 under what is known of the user."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from rlhi import prompts
from rlhi.models.base import ChatModel, Sampling
from rlhi.models.structured import BadAnswer, ask
from rlhi.records import ChatMessage

MAX_CHARS = 4000


class Rating(BaseModel):
    """The answer that the prompt `rubric` asks for."""

    model_config = ConfigDict(extra="forbid")
    score: float = Field(ge=1, le=10)


def transcript(context: Sequence[ChatMessage]) -> str:
    """A chat as lines of text, for a prompt."""
    return "\n\n".join(f"{message.role}: {message.content}" for message in context)


class RubricReward:
    """Rates each reply on its own, once at temperature 0 or several times at temperature 1, and then on average.

    Whole numbers of one greedy rating often tie; a mean of samples comes near the rating that the model expects. An
    answer that cannot be read gives no rating, for good, and a reply without any gets no score.
    """

    def __init__(self, model: ChatModel, ratings: int = 1) -> None:
        self.model = model
        self.samplings = (
            [Sampling(temperature=0, max_tokens=32)]
            if ratings == 1
            else [Sampling(temperature=1, max_tokens=32, seed=seed) for seed in range(ratings)]
        )
        """One for each rating."""
        self.name = f"rubric({model.model})"

    async def _rate(self, request: str, reply: str, lines: Sequence[str]) -> float | None:
        messages = prompts.render(
            "rubric",
            persona="\n".join(lines) or "nothing",
            request=prompts.clip(request, MAX_CHARS),
            reply=prompts.clip(reply, MAX_CHARS),
        )
        asked = (ask(self.model, messages, Rating, sampling=each, keep_bad=True) for each in self.samplings)
        found = await asyncio.gather(*asked, return_exceptions=True)
        if failure := next((f for f in found if isinstance(f, BaseException) and not isinstance(f, BadAnswer)), None):
            raise failure
        scores = [rating.score for rating in found if isinstance(rating, Rating)]
        return sum(scores) / len(scores) if scores else None

    async def score(
        self, context: Sequence[ChatMessage], replies: Sequence[str], lines: Sequence[str]
    ) -> list[float | None]:
        """Ratings 1–10."""
        request = transcript(context)
        return list(await asyncio.gather(*(self._rate(request, reply, lines) for reply in replies)))
