"""Pairs in, log-probability of each side out: the one place that runs the model on pairs.

Each side is one row of a batch, padded on the right. No attention mask is needed there, because causal
attention never looks right, and vocabulary logits are computed for reply tokens only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlhi.errors import UsageError
from rlhi.training.tokenize import Encoded, Side

Precision = Literal["fp32", "bf16"]


def passes(pairs: Sequence[Encoded], sides: Sequence[Side], size: int) -> list[list[Encoded]]:
    """Split pairs into forward passes of at most `size` pairs, like lengths together, whatever their order."""
    ordered = sorted(pairs, key=lambda pair: (-pair.length(sides), pair.pair_id))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


@contextmanager
def _logits_only_at(model: Any, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Let the vocabulary head see only these places, so that what a model does after the head stays its own."""
    head = model.get_output_embeddings()
    if head is None:
        raise UsageError(f"{type(model).__name__} has no vocabulary head: training needs a causal language model")

    def select(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][rows, columns].unsqueeze(0), *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def token_logps(
    model: Any, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], precision: Precision = "fp32"
) -> tuple[Tensor, ...]:
    """Log-probability of each completion token of (prompt, completion) sequences, in nats, float32 at least.

    `model` may be wrapped (DDP); it is run as it is, with `precision` as autocast.
    """
    bare = getattr(model, "module", model)
    device = next(bare.parameters()).device
    lengths = [len(completion) for _, completion in sequences]
    width = max(len(prompt) + len(completion) for prompt, completion in sequences)
    ids = torch.zeros((len(sequences), width), dtype=torch.long)
    rows: list[int] = []
    columns: list[int] = []
    for row, (prompt, completion) in enumerate(sequences):
        ids[row, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
        rows += [row] * len(completion)
        columns += range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    at = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
    ids = ids.to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with autocast, _logits_only_at(bare, *at):
        logits = model(input_ids=ids, use_cache=False).logits
    targets = ids[at[0], at[1] + 1]
    wide = torch.promote_types(logits.dtype, torch.float32)
    logps = -cross_entropy(logits.squeeze(0).to(wide), targets, reduction="none")
    return torch.split(logps, lengths)


def side_logps(
    model: Any, pairs: Sequence[Encoded], sides: Sequence[Side], precision: Precision = "fp32"
) -> dict[Side, Tensor]:
    """Log-probability of each side's reply, summed over its tokens, in nats: per side a tensor of shape [P]."""
    sequences = [(pair.prompt, pair.completion(side)) for side in sides for pair in pairs]
    return by_side(token_logps(model, sequences, precision), sides)


def by_side(logps: Sequence[Tensor], sides: Sequence[Side]) -> dict[Side, Tensor]:
    """Sum each sequence's log-probabilities, the sequences of one side after those of the other.

    In float64: the sum of a long reply has few digits left in float32, and the loss looks at differences of sums.
    """
    wide = torch.float32 if logps[0].device.type == "mps" else torch.float64
    sums = torch.stack([values.to(wide).sum() for values in logps])
    return dict(zip(sides, torch.split(sums, len(logps) // len(sides)), strict=True))
