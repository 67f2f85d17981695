"""The in-process back end for reward models: sequence classification with one label, at the last token of a chat."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from rlhi.errors import UsageError, first_line
from rlhi.models import weights
from rlhi.models.base import ChatRequest, Completion, ModelError, ScoreAnswer, ScoreRequest, TooLong, Usage
from rlhi.models.placement import full_name, placement
from rlhi.models.templates import Template
from rlhi.models.tokenizer import load_tokenizer
from rlhi.settings import Model


class ClassifierModel:
    """A reward model in this process. It scores replies and writes none."""

    unlimited = True
    """It queues requests by itself."""

    def __init__(self, settings: Model) -> None:
        """Raise `UsageError` when there is no such model, or none that can be read."""
        self.folder: Path = weights.find(settings.model)
        """Where its files lie."""
        self._settings = settings
        self._fingerprint = weights.fingerprint(self.folder)
        self._lock = threading.Lock()
        self._engine: _Engine | None = None

    @property
    def model(self) -> str:
        """Name, digest of weights, configuration and tokenizer, and a precision below float32."""
        return full_name(self._settings, self._fingerprint)

    async def complete(self, request: ChatRequest) -> Completion:
        """Refuse: it only scores."""
        raise ModelError(f"{self.model} is a reward model and writes nothing; bind it to `roles.reward` only")

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Say what replies are worth."""
        engine = await asyncio.to_thread(self._open)
        return await asyncio.wrap_future(engine.pool.submit(engine.score, request))

    async def close(self) -> None:
        """End the workers and let go of the weights."""
        with self._lock:
            if self._engine is not None:
                self._engine.pool.shutdown(cancel_futures=True)
                self._engine = None

    def _open(self) -> _Engine:
        with self._lock:
            if self._engine is None:
                self._engine = _Engine(self.folder, self._settings)
            return self._engine


class _Engine:
    """The weights, and the threads that run them; on a CPU each computes with one thread, to the same numbers."""

    def __init__(self, folder: Path, settings: Model) -> None:
        import torch

        from rlhi.models import products

        device, dtype = placement(settings)
        self._folder = folder
        self._size = settings.batch_size
        self._model = _load(folder, getattr(torch, dtype)).to(device).eval()
        products.install(self._model)
        self._limit: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        workers = torch.get_num_threads() if device == "cpu" else 1
        self.pool = ThreadPoolExecutor(
            workers, "rlhi-reward", torch.set_num_threads, (1,) if device == "cpu" else (workers,)
        )

    @cached_property
    def _template(self) -> Template:
        return Template(load_tokenizer(self._folder))

    @cached_property
    def _kernel(self) -> Any:
        from rlhi.models import scoring

        return scoring.reward_support(self._model, self._limit or 0).kernel

    def score(self, request: ScoreRequest) -> ScoreAnswer:
        """The reward of each reply."""
        from rlhi.models import scoring

        chats = [self._template.chat(request.messages, reply) for reply in request.replies]
        longest = max(map(len, chats), default=0)
        if self._limit is not None and longest > self._limit:
            raise TooLong(f"context too long: chat and reply are {longest} tokens, the model reads {self._limit}")
        values = scoring.rewards(self._model, chats, self._size, self._kernel)
        lengths = tuple(map(len, chats))
        return ScoreAnswer(rewards=tuple(values), tokens=lengths, usage=Usage(prompt_tokens=sum(lengths)))


def _load(folder: Path, dtype: Any) -> Any:
    import transformers

    try:
        model, loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # the loaders raise a dozen types for files that are broken or unknown to them
        raise UsageError(
            f"cannot load the reward model in {folder}: {type(error).__name__}: {first_line(error)}"
        ) from error
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise UsageError(f"{folder} is no reward model: it has no weights for {missing}")
    if model.config.num_labels != 1 or not hasattr(model, "score"):
        raise UsageError(
            f"{folder} is no reward model: it needs one label and a linear `score` at the last token, this "
            f"{type(model).__name__} has {model.config.num_labels} labels"
        )
    return model
