"""Log-probabilities under the reference, computed once before training and kept by content."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rlhi.errors import UsageError
from rlhi.flow.whole import replacing
from rlhi.records import digest
from rlhi.training.step import Precision
from rlhi.training.steps import Step
from rlhi.training.tokenize import Encoded, Side

SAVE_EVERY = 30.0
"""Seconds between saves while the reference is computed."""

_SCHEMA = pa.schema([("key", pa.string()), ("logp", pa.float32())])


def model_fingerprint(model: Any, precision: Precision) -> str:
    """Digest of a model's weights, configuration and precision, 32 hex digits; where it lies does not matter."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        raw = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        whole.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        whole.update(raw.numpy().data)
    config = {k: v for k, v in model.config.to_diff_dict().items() if k not in ("transformers_version", "dtype")}
    return digest({"weights": whole.hexdigest(), "config": repr(sorted(config.items())), "precision": precision})


def reference_key(fingerprint: str, pair: Encoded, side: Side) -> str:
    """Content key of one log-probability: the reference and the tokens, 32 hex digits."""
    return digest([fingerprint, pair.prompt, pair.completion(side)])


class ReferenceStore:
    """A Parquet file of `key` and `logp` (nats, float32), replaced as a whole; equal contents are equal bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, float] = {}
        if path.exists():
            try:
                table = pq.read_table(path, schema=_SCHEMA)
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{path} is damaged ({error}); delete it, it will be computed again") from None
            self.values = dict(zip(table["key"].to_pylist(), table["logp"].to_pylist(), strict=True))

    def save(self) -> None:
        """Write all values, ordered by key."""
        keys = sorted(self.values)
        table = pa.table({"key": keys, "logp": [self.values[key] for key in keys]}, schema=_SCHEMA)
        with replacing(self.path) as partial:
            pq.write_table(table, partial, compression="zstd")


References = Mapping[tuple[str, Side], float]


def without_adapter(model: Any) -> AbstractContextManager[Any]:
    """The model as it was before training: with LoRA, its adapter switched off."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()


def reference_logps(
    model: Any,
    pairs: Sequence[Encoded],
    sides: Sequence[Side],
    *,
    fingerprint: str,
    precision: Precision,
    step: Step,
    store: ReferenceStore,
    write: bool = True,
) -> dict[tuple[str, Side], float]:
    """Log-probability of each side under `model` before it is trained, by pair id and side, in nats.

    What the store holds is not computed again, so a resume never takes the half-trained policy for the reference.
    The passes depend on all pairs and not on what is missing: an interrupted computation goes on to the same values.
    """
    keys = {(pair.pair_id, side): reference_key(fingerprint, pair, side) for pair in pairs for side in sides}
    was_training = model.training
    model.eval()
    fresh, saved = False, time.monotonic()
    for part in step.passes(pairs, sides):
        if all(keys[pair.pair_id, side] in store.values for pair in part for side in sides):
            continue
        with torch.no_grad(), without_adapter(model):
            found = step.side_logps(model, part, sides, precision)
        for side, values in found.items():
            for pair, value in zip(part, values.float().tolist(), strict=True):
                store.values[keys[pair.pair_id, side]] = value
        fresh = True
        if write and time.monotonic() - saved > SAVE_EVERY:
            store.save()
            saved = time.monotonic()
    if write and fresh:
        store.save()
    model.train(was_training)
    return {place: store.values[key] for place, key in keys.items()}


def reference_terms(
    references: References, pairs: Sequence[Encoded], sides: Sequence[Side], device: torch.device
) -> dict[Side, Tensor]:
    """The reference's log-probabilities of some pairs: per side a tensor of shape [P]."""
    return {
        side: torch.tensor([references[pair.pair_id, side] for pair in pairs], dtype=torch.float32, device=device)
        for side in sides
    }
