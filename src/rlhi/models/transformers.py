"""The in-process back end: any causal language model with a chat template, by name or path.

Nothing heavy is imported, and no weight is read, before the first answer that the completion store does not have.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhi.models import weights
from rlhi.models.base import ChatRequest, Completion, ScoreAnswer, ScoreRequest
from rlhi.models.placement import full_name, placement
from rlhi.models.tokenizer import load_tokenizer
from rlhi.settings import Model

if TYPE_CHECKING:
    from rlhi.models.engine import Engine

_lock = threading.RLock()


@dataclass
class _Shared:
    """An engine and how many back ends use it."""

    engine: Engine
    users: int = 0


_loaded: dict[tuple[str, ...], _Shared] = {}


def _free_idle() -> None:
    """Free the weights that nobody uses: those of the last model stay in memory, for the next stage may want them."""
    for key in [key for key, shared in _loaded.items() if not shared.users]:
        _loaded.pop(key).engine.close()


@atexit.register
def _stop_workers() -> None:
    """A worker must not be inside PyTorch when the interpreter is taken down around it."""
    for shared in _loaded.values():
        shared.engine.close()


class TransformersModel:
    """A model in this process. Back ends of the same weights and settings share one engine."""

    unlimited = True
    """It queues requests by itself: the more it knows, the fuller its batches."""

    def __init__(self, settings: Model) -> None:
        """Raise `UsageError` when there is no such model, or none that can be read."""
        self.folder: Path = weights.find(settings.model)
        """Where its files lie."""
        self._settings = settings
        self._fingerprint = weights.fingerprint(self.folder)
        self._key: tuple[str, ...] | None = None

    @property
    def model(self) -> str:
        """Name, digest of weights, configuration and tokenizer, and a precision below float32."""
        return full_name(self._settings, self._fingerprint)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer. Raises `UsageError` when it cannot be read."""
        return load_tokenizer(self.folder)

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer a request."""
        engine = await self._engine()
        return await asyncio.wrap_future(engine.complete(request))

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """Say how likely replies are."""
        engine = await self._engine()
        return await asyncio.wrap_future(engine.score(request))

    async def close(self) -> None:
        """Let go of the engine. Its weights stay in memory until another model is loaded."""
        with _lock:
            if self._key is not None:
                _loaded[self._key].users -= 1
                self._key = None

    async def _engine(self) -> Engine:
        if self._key is not None:
            return _loaded[self._key].engine
        return await asyncio.to_thread(self._open)

    def _open(self) -> Engine:
        from rlhi.models.engine import Engine

        with _lock:
            if self._key is not None:
                return _loaded[self._key].engine
            device, dtype = placement(self._settings)
            size = self._settings.batch_size
            key = (str(self.folder.resolve()), self._fingerprint, device, dtype, str(size))
            shared = _loaded.get(key)
            if shared is None:
                _free_idle()
                shared = _loaded[key] = _Shared(Engine(self.folder, self.tokenizer, device, dtype, size))
            shared.users += 1
            self._key = key
            return shared.engine
