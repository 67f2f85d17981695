"""The reward of a sequence-classification model that reads persona, chat and reply."""

from __future__ import annotations

from collections.abc import Sequence

from rlhi.models.base import ScoreRequest, ScoringModel
from rlhi.personas.render import prompt
from rlhi.records import ChatMessage


class ClassifierReward:
    """A reward model of back end `classifier`; what is known of the user stands in the system message."""

    def __init__(self, model: ScoringModel) -> None:
        self.model = model
        self.name = f"classifier({model.model})"

    async def score(
        self, context: Sequence[ChatMessage], replies: Sequence[str], lines: Sequence[str]
    ) -> list[float | None]:
        """Rewards in the model's own unit; the chat is computed once for all replies."""
        messages = prompt(lines, context) if lines else context
        request = ScoreRequest(model=self.model.model, messages=tuple(messages), replies=tuple(replies))
        answer = await self.model.score(request)
        return list(answer.rewards)
