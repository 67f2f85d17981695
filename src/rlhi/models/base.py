"""The protocol of every chat back end: requests in, completions out.

A request holds everything that changes the answer and nothing else, so its digest is the key of the completion
store. Back ends raise the typed errors below; only the retrying layer decides on them.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from pydantic import Field

from rlhi.errors import RlhiError
from rlhi.records import ChatMessage, Record


class Sampling(Record):
    """How to sample."""

    temperature: float = Field(1.0, ge=0)
    """0 = greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus."""
    max_tokens: int = Field(512, ge=1)
    """Limit on the completion, in tokens."""
    seed: int = 0
    """Seed; each of the `n` samples and each request draws from its own stream."""


class ChatRequest(Record):
    """Ask for `n` completions of a chat."""

    model: str
    """Fingerprint or served name of the model: what tells it from every other."""
    messages: tuple[ChatMessage, ...]
    """The chat; the model answers as the assistant."""
    sampling: Sampling = Sampling()
    """How to sample."""
    n: int = Field(1, ge=1)
    """How many completions."""
    json_schema: dict[str, Any] | None = None
    """JSON schema that the answer must follow, where the server can enforce it."""
    sample: int = 0
    """Number of the try: another number asks again for what is otherwise the same request. The store counts up here,
    in what is sent, how often an answer to the request was rejected."""


class ScoreRequest(Record):
    """Ask how likely each of some replies is after a chat."""

    model: str
    """Fingerprint of the model."""
    messages: tuple[ChatMessage, ...]
    """The chat that the replies follow."""
    replies: tuple[str, ...]
    """The replies; each is ended with the template's end of turn."""


class Usage(Record):
    """Tokens of one call."""

    prompt_tokens: int = 0
    """Tokens read."""
    completion_tokens: int = 0
    """Tokens written."""


class Choice(Record):
    """One completion."""

    text: str
    """The answer."""
    finish: Literal["stop", "length"]
    """`length` = cut at `max_tokens`."""


class Completion(Record):
    """The answer to a `ChatRequest`: `n` choices."""

    choices: tuple[Choice, ...]
    """As many as `n` asked for."""
    usage: Usage
    """Tokens of the call, all choices together."""

    @property
    def text(self) -> str:
        """The first choice's text."""
        return self.choices[0].text


class ScoreAnswer(Record):
    """The answer to a `ScoreRequest`."""

    log_likelihoods: tuple[float, ...] = ()
    """From a language model: sum of the log-probabilities of each reply's tokens with its end of turn, in nats."""
    rewards: tuple[float, ...] = ()
    """From a reward model: what it gives each reply, in its own unit."""
    tokens: tuple[int, ...]
    """Tokens of each reply with its end of turn; from a reward model, of the whole chat."""
    usage: Usage
    """Tokens of the call."""


class ChatModel(Protocol):
    """The one method that a back end must write, and the name by which its answers are stored."""

    @property
    def model(self) -> str:
        """What tells this model from every other: goes into `ChatRequest.model`."""
        ...

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer a request, or raise a `ModelError`."""
        ...

    async def close(self) -> None:
        """Free connections and memory."""
        ...


class ScoringModel(ChatModel, Protocol):
    """A back end that can also say how likely a reply is."""

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Log-likelihood of replies, or raise a `ModelError`."""
        ...


class ModelError(RlhiError):
    """A call failed for good: retrying the same request cannot help."""


class TooLong(ModelError):
    """A chat is longer than the model reads."""


class Transient(ModelError):
    """A call failed in a way that may pass: rate limit, overload, time-out, connection lost, half an answer."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the server asked to wait, if it did."""


class Unreachable(ModelError):
    """The server cannot be reached, refuses the key, or does not know the model: no request will ever work."""
