"""A chat model that answers by a script, for tests of what stands around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rlhi.models.base import ChatRequest, Choice, Completion, ScoreAnswer, ScoreRequest, Usage

Step = str | Exception | Completion


def completion(*texts: str, finish: str = "stop") -> Completion:
    choices = tuple(Choice.model_validate({"text": text, "finish": finish}) for text in texts)
    return Completion(choices=choices, usage=Usage(prompt_tokens=10, completion_tokens=len(texts)))


class ScriptedModel:
    """Gives the steps of a script one by one, or what a function makes of the request; keeps the requests."""

    model = "scripted"

    def __init__(self, script: Iterable[Step] | Callable[[ChatRequest], Step]) -> None:
        self._script = script if callable(script) else iter(script)
        self.requests: list[ChatRequest | ScoreRequest] = []
        self.closed = False

    async def complete(self, request: ChatRequest) -> Completion:
        self.requests.append(request)
        step = self._script(request) if callable(self._script) else next(self._script)
        if isinstance(step, Exception):
            raise step
        return completion(step) if isinstance(step, str) else step

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        self.requests.append(request)
        values = tuple(-float(len(reply)) for reply in request.replies)
        return ScoreAnswer(log_likelihoods=values, tokens=tuple(map(len, request.replies)), usage=Usage())

    async def close(self) -> None:
        self.closed = True
