"""Builds a back end and its layers from a recipe's settings."""

from __future__ import annotations

from typing import Any

from rlhi.errors import UsageError
from rlhi.models.base import ChatRequest, Sampling, ScoringModel, Unreachable
from rlhi.models.layers import Cached, Filled, Limited, Meter, Retrying
from rlhi.models.store import Store
from rlhi.records import ChatMessage
from rlhi.registry import Registry
from rlhi.settings import Model

BACKENDS = Registry(
    "back end",
    "rlhi.backends",
    {
        "openai": "rlhi.models.openai:OpenAIModel",
        "transformers": "rlhi.models.transformers:TransformersModel",
        "classifier": "rlhi.models.classifier:ClassifierModel",
    },
)
"""Back ends by name: callables that take a `Model` and return a `ChatModel`, with `score` where they can."""


def open_backend(settings: Model) -> Any:
    """The bare back end. Raises `UsageError` where the settings cannot work."""
    return BACKENDS.get(settings.backend)(settings)


def open_model(settings: Model, *, store: Store, meter: Meter, role: str) -> ScoringModel:
    """The back end with its layers, counted under `role`. Raises `UsageError` where the settings cannot work."""
    backend = open_backend(settings)
    tally = meter.tally(role, backend.model)
    slots = None if getattr(backend, "unlimited", False) else settings.concurrency
    limited = Limited(backend, slots, tally)
    retrying = Retrying(limited, settings.retries, tally)
    return Cached(Filled(retrying), store, tally, thinking_tokens=settings.thinking_tokens)


def identify(settings: Model) -> str:
    """What tells the model from every other. Raises `UsageError` where the settings cannot work."""
    name: str = open_backend(settings).model
    return f"{name}+{settings.thinking_tokens} thinking tokens" if settings.thinking_tokens else name


async def check(settings: Model, store: Store | None = None) -> None:
    """Raise `UsageError` at once where a back end cannot work: wrong name, address, key or files.

    A back end with a method `check(probe)` is asked for one token; where the store holds the answer to that, it has
    worked before and is not asked.
    """
    backend = open_backend(settings)
    if not hasattr(backend, "check"):
        return
    sampling = Sampling(temperature=0, max_tokens=1)
    probe = ChatRequest(model=backend.model, messages=(ChatMessage(role="user", content="Hello"),), sampling=sampling)
    if store is not None and store.get(probe) is not None:
        return
    try:
        answer = await backend.check(probe)
        if store is not None and answer is not None:
            store.put(probe, answer)
    except Unreachable as error:
        raise UsageError(str(error)) from error
    finally:
        await backend.close()
