"""The layers around a back end: `Cached(Filled(Retrying(Limited(back end))))`, in this order.

A hit takes no slot; a request that backs off holds none; exactly one layer retries, on a typed decision; and what was
half answered is asked again in part, each part with its own retries and slot.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from rlhi.models.base import (
    ChatModel,
    ChatRequest,
    Completion,
    ModelError,
    ScoreAnswer,
    ScoreRequest,
    ScoringModel,
    Transient,
    Usage,
)
from rlhi.models.store import Store, key_of
from rlhi.records import digest

Answer = TypeVar("Answer", Completion, ScoreAnswer)

FIRST_BACKOFF = 1.0
"""Seconds before the second try, before jitter; doubled from try to try."""
LONGEST_BACKOFF = 60.0
"""Seconds."""
LONGEST_WAIT = 600.0
"""Seconds; a server that asks for a longer wait than this has run out of more than breath, and is not waited for."""


@dataclass
class Tally:
    """What one role's calls to one model came to."""

    sent: int = 0
    """Calls sent to the back end, repeated ones included."""
    cached: int = 0
    """Requests answered from the store, or by the same request under way."""
    retries: int = 0
    """Calls that failed in passing and were repeated."""
    prompt_tokens: int = 0
    """Tokens read in calls sent."""
    completion_tokens: int = 0
    """Tokens written in calls sent."""
    seconds: float = 0.0
    """Time that calls took, added up over all that were under way at once."""


@dataclass
class Meter:
    """Counts calls by role and model."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    """Counts by role and model."""

    def tally(self, role: str, model: str) -> Tally:
        """The count of a role's calls to a model."""
        return self.tallies.setdefault((role, model), Tally())

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Counts by role as plain values, with the names of the role's models."""
        roles: dict[str, dict[str, Any]] = {}
        for (role, model), tally in sorted(self.tallies.items()):
            sums = roles.setdefault(role, {"models": [], **asdict(Tally())})
            sums["models"].append(model)
            for name, value in asdict(tally).items():
                sums[name] = round(sums[name] + value, 3)
        return roles


class Layer:
    """A model around another one, with its name and its end."""

    def __init__(self, inner: ChatModel) -> None:
        self.inner = inner
        """The model below."""

    @property
    def model(self) -> str:
        """The inner model's name."""
        return self.inner.model

    async def close(self) -> None:
        """Close the inner model."""
        await self.inner.close()

    def scorer(self) -> ScoringModel:
        """The inner model, where it can score. Raises `ModelError` where it cannot."""
        if not hasattr(self.inner, "score"):
            raise ModelError(
                f"{self.model} cannot say how likely a reply is; bind the role to a model of back end `transformers`"
            )
        return self.inner  # type: ignore[return-value]


class Limited(Layer):
    """Lets at most `concurrency` calls through at once (None = any number), and counts them."""

    def __init__(self, inner: ChatModel, concurrency: int | None, tally: Tally | None = None) -> None:
        super().__init__(inner)
        self._slots = asyncio.Semaphore(concurrency) if concurrency else None
        self._tally = tally or Tally()

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask when a slot is free."""
        return await self._sent(lambda: self.inner.complete(request))

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Ask when a slot is free."""
        scorer = self.scorer()
        return await self._sent(lambda: scorer.score(request))

    async def _sent(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._slots is None:
            return await self._counted(ask)
        async with self._slots:
            return await self._counted(ask)

    async def _counted(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        self._tally.sent += 1
        began = time.monotonic()
        try:
            answer = await ask()
        finally:
            self._tally.seconds += time.monotonic() - began
        self._tally.prompt_tokens += answer.usage.prompt_tokens
        self._tally.completion_tokens += answer.usage.completion_tokens
        return answer


class Retrying(Layer):
    """Asks again after a `Transient` failure, with exponential back-off and jitter; raises the last one."""

    def __init__(
        self,
        inner: ChatModel,
        retries: int,
        tally: Tally | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(inner)
        self._retries, self._sleep = retries, sleep
        self._rng = rng or random.Random()
        self._tally = tally or Tally()

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask until there is an answer, or no try is left."""
        return await self._persist(lambda: self.inner.complete(request))

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Ask until there is an answer, or no try is left."""
        scorer = self.scorer()
        return await self._persist(lambda: scorer.score(request))

    async def _persist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        for failures in range(self._retries):
            try:
                return await ask()
            except Transient as error:
                wait = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**failures) * self._rng.uniform(0.5, 1.0)
                if error.retry_after is not None:
                    if error.retry_after > LONGEST_WAIT:
                        raise
                    # The jitter is added: a whole pool told to wait 5 s must not come back as one.
                    wait = error.retry_after + min(wait, 1.0)
            self._tally.retries += 1
            await self._sleep(wait)
        return await ask()


class Filled(Layer):
    """Asks again, with other seeds, for the choices that a server left out of its answer.

    Some servers ignore `n` and give one choice. From the first such answer on, every choice is asked for by itself.
    """

    def __init__(self, inner: ChatModel) -> None:
        super().__init__(inner)
        self._singly = False

    async def complete(self, request: ChatRequest) -> Completion:
        """Ask for `request.n` choices, and for what is missing from them."""
        parts: list[Completion] = []
        if request.n == 1 or not self._singly:
            parts.append(await self.inner.complete(request))
            self._singly = self._singly or (request.n > 1 and len(parts[0].choices) == 1)
        missing = range(sum(len(part.choices) for part in parts), request.n)
        parts += await _all([self.inner.complete(_single(request, number)) for number in missing])
        choices = tuple(choice for part in parts for choice in part.choices)
        usage = Usage(
            prompt_tokens=sum(part.usage.prompt_tokens for part in parts),
            completion_tokens=sum(part.usage.completion_tokens for part in parts),
        )
        return Completion(choices=choices[: request.n], usage=usage)

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Pass on."""
        return await self.scorer().score(request)


def _single(request: ChatRequest, number: int) -> ChatRequest:
    seed = int(digest([request.key, number])[:8], 16) >> 1
    return request.model_copy(update={"n": 1, "sampling": request.sampling.model_copy(update={"seed": seed})})


async def _all(asked: list[Awaitable[Completion]]) -> list[Completion]:
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class _Flight:
    task: asyncio.Task[Any]
    waiting: int = 0


class Cached(Layer):
    """Looks an answer up in the store before it asks, and stores what it is given.

    The same request asked for while it is under way is not sent again. Errors are never stored, and `reject` forgets an
    answer that nobody can use: then the request is asked for anew, with another seed.
    """

    def __init__(self, inner: ChatModel, store: Store, tally: Tally | None = None, *, thinking_tokens: int = 0) -> None:
        super().__init__(inner)
        self.thinking_tokens = thinking_tokens
        """Tokens that the model may think before an answer in JSON."""
        self._store = store
        self._tally = tally or Tally()
        self._flights: dict[bytes, _Flight] = {}

    async def complete(self, request: ChatRequest) -> Completion:
        """The stored answer, or a new one."""
        stored = self._store.get(request)
        if stored is not None and len(stored.choices) == request.n:
            self._tally.cached += 1
            return stored

        async def ask() -> Completion:
            again = request.sample + self._store.rejections(request)
            answer = await self.inner.complete(request.model_copy(update={"sample": again}))
            self._store.put(request, answer)
            return answer

        return await self._once(request, ask)

    def reject(self, request: ChatRequest) -> None:
        """Forget the answer to `request`, which cannot be used."""
        self._store.reject(request)

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """The stored answer, or a new one."""
        stored = self._store.get(request)
        if stored is not None:
            self._tally.cached += 1
            return stored
        scorer = self.scorer()

        async def ask() -> ScoreAnswer:
            answer = await scorer.score(request)
            self._store.put(request, answer)
            return answer

        return await self._once(request, ask)

    async def _once(self, request: ChatRequest | ScoreRequest, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        key = key_of(request)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(ask()))
            flight.task.add_done_callback(lambda _: self._flights.pop(key, None))
        else:
            self._tally.cached += 1
        flight.waiting += 1
        try:
            # Whoever gives up waiting must not take the answer away from the others.
            answer: Answer = await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()
        return answer
