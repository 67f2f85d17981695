"""Which models may be run on trees: what is known to be wrong is refused, and everything else is tried."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlhi.training.step import token_logps
from rlhi.training.trees.attention import Kernel, install
from rlhi.training.trees.step import tree_token_logps

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest difference of a token's log-probability, in nats, that is put down to rounding."""
SHARE = {torch.float64: 1e-4, torch.float32: 1e-2, torch.bfloat16: 0.25, torch.float16: 0.1}
"""The same as a share of what another prompt of the same length changes: a flat model would hide an error."""


@dataclass(frozen=True, slots=True)
class Support:
    """How a model may be run on trees."""

    kernel: Kernel | None
    """How its attention is computed; None = it must not be run on trees."""
    tiled: bool
    """Whether its logits may be computed in tiles."""
    reason: str
    """A clause on what was measured, or why not."""
    error: float | None = None
    """Largest difference of a token's log-probability from the plain step, in nats; None = not measured."""


def known_obstacle(config: Any, longest: int) -> str | None:
    """Why a model of this configuration is known to give other results on a tree with paths of `longest` tokens."""
    kinds = set(getattr(config, "layer_types", None) or ("sliding_attention",))
    for name in ("sliding_window", "attention_chunk_size"):
        window = getattr(config, name, None)
        if isinstance(window, int) and window < longest and kinds & {"sliding_attention", "chunked_attention"}:
            return f"its attention reaches back {window} tokens, and the longest sequence has {longest}"
    if kinds - {"full_attention", "sliding_attention", "chunked_attention"}:
        return f"it has layers other than attention: {', '.join(sorted(kinds))}"
    rope = getattr(config, "rope_parameters", None) or {}
    for part in [rope, *(value for value in rope.values() if isinstance(value, dict))]:
        usual = (
            part.get("original_max_position_embeddings") or getattr(config, "max_position_embeddings", None) or longest
        )
        if part.get("rope_type") in ("dynamic", "longrope") and longest > usual:
            return (
                f"its positions are scaled by a sequence's length beyond {usual} tokens, and the longest has {longest}"
            )
    return None


Run = Callable[..., Sequence[Tensor]]
"""Log-probabilities of completion tokens from a model and sequences, on trees with `kernel` and `tiled` too."""


def examine(
    model: Any,
    longest: int,
    plain: Run = token_logps,
    tree: Run = tree_token_logps,
    kernels: Sequence[Kernel] | None = None,
) -> Support:
    """Find out how an unwrapped model may be run on trees whose paths have at most `longest` tokens.

    A small tree with nested branchings is run and compared with the plain step, with each of `kernels` in turn: if none
    are given, the fast one of the model's device and then a dense mask. The fast kernel stays installed in the model,
    which without a tree changes nothing.
    """
    config = model.config.get_text_config()
    obstacle = known_obstacle(config, longest)
    if obstacle:
        return Support(None, False, obstacle)
    if getattr(config, "_attn_implementation", "sdpa") not in ("sdpa", "eager"):
        return Support(None, False, f"its attention implementation is {config._attn_implementation}, not sdpa")
    fast: Kernel = "flex" if next(model.parameters()).device.type == "cuda" else "segments"
    was_training, reasons = model.training, []
    model.eval()
    try:
        for kernel in kernels or (fast, "dense"):
            found = _try(model, kernel, plain, tree)
            if found.kernel:
                return found
            reasons.append(found)
    finally:
        model.train(was_training)
    return reasons[0] if reasons[0].error is not None else reasons[-1]


@torch.no_grad()
def _try(model: Any, kernel: Kernel, plain: Run, tree: Run) -> Support:
    config = model.config.get_text_config()
    before = config._attn_implementation
    sequences = _sequences(model, 0)
    strange = [(prompt, reply) for (prompt, _), (_, reply) in zip(_sequences(model, 1), sequences, strict=True)]
    wanted, other = plain(model, sequences), plain(model, strange)
    dtype = next(model.parameters()).dtype
    effect = max(float((a - b).abs().max()) for a, b in zip(wanted, other, strict=True))
    limit = min(TOLERANCE.get(dtype, 1e-4), SHARE.get(dtype, 1e-2) * effect)
    error: float | None = None
    try:
        if kernel != "dense":
            install(model)
        for tiled in (True, False):
            error = _difference(tree(model, sequences, kernel=kernel, tiled=tiled), wanted)
            if error <= limit:
                return Support(kernel, tiled, f"log-probabilities differ by {error:.1g} from the plain step", error)
    except (RuntimeError, TypeError, ValueError) as failure:
        reason = f"its attention cannot be run on a tree ({str(failure).strip().splitlines()[0]})"
    else:
        reason = (
            f"on a tree its log-probabilities differ by {error:.2g} nats from the plain step (allowed: {limit:.2g})"
        )
    _restore(model, before)
    return Support(None, False, reason, error)


def _restore(model: Any, implementation: str) -> None:
    for module in model.modules():
        if hasattr(module, "config") and hasattr(module.config, "_attn_implementation"):
            module.config._attn_implementation = implementation


def _sequences(model: Any, start: int) -> list[tuple[list[int], list[int]]]:
    """Two turns with two replies each, the second turn behind one reply of the first; and a sequence of its own."""
    vocabulary = model.config.get_text_config().vocab_size
    stream = random.Random(start)

    def tokens(count: int) -> list[int]:
        return [stream.randrange(vocabulary) for _ in range(count)]

    prompt, lost, kept, more = tokens(20), [1, *tokens(5)], [2, *tokens(6)], tokens(4)
    later = [*prompt, *kept, *more]
    return [(prompt, lost), (prompt, kept), (later, [3, *tokens(3)]), (later, [4, *tokens(8)]), (tokens(9), tokens(4))]


def _difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    errors = [float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True)]
    return max(errors) if all(map(math.isfinite, errors)) else math.inf
