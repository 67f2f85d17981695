"""Sequences in, log-probability of each completion token out, every shared token computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhi.errors import UsageError
from rlhi.training.step import Precision
from rlhi.training.trees.attention import Kernel, Structure, dense_mask
from rlhi.training.trees.build import Forest, Ints, Layout, lay_out, places
from rlhi.training.trees.head import head_logps, logits_logps, tileable

FLEX_MULTIPLE = 256
"""On CUDA a pass is filled up to a multiple of this, so that few shapes are compiled."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Some sequences as one row of N tokens, and the places at which the vocabulary is looked at."""

    layout: Layout
    """The row."""
    at: Ints
    """Places whose next token is asked for [U], rising and distinct."""
    rows: Ints
    """Number in `at` of each distinct question [Q], rising: at a branching one place has several next tokens."""
    targets: Ints
    """Next token of each question [Q]."""
    answers: Ints
    """Number of the question of each completion token, sequence by sequence."""
    lengths: tuple[int, ...]
    """Completion tokens of each sequence."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return len(self.layout.ids)


def make_pass(sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Pass:
    """Lay (prompt, completion) sequences out as trees. A prompt must not be empty."""
    wholes = [np.fromiter((*prompt, *completion), dtype=np.int64) for prompt, completion in sequences]
    forest = Forest()
    for whole in wholes:
        forest.add(whole)
    layout = lay_out(forest)
    asked: list[Ints] = []
    for (prompt, _), whole in zip(sequences, wholes, strict=True):
        if not len(prompt):
            raise ValueError("a prompt needs at least one token")
        asked.append(np.stack([places(forest, whole)[len(prompt) - 1 : -1], whole[len(prompt) :]]))
    questions, answers = np.unique(np.concatenate(asked, axis=1), axis=1, return_inverse=True)
    at, rows = np.unique(questions[0], return_inverse=True)
    lengths = tuple(len(completion) for _, completion in sequences)
    return Pass(layout, at, rows.reshape(-1), questions[1], answers.reshape(-1), lengths)


def inputs(layout: Layout, device: torch.device, kernel: Kernel, dtype: torch.dtype) -> dict[str, Any]:
    """What a model is called with for a row of trees; `dtype` is that of a dense mask."""
    size = len(layout.ids)
    fill = -size % FLEX_MULTIPLE if kernel == "flex" else 0
    ids, positions = (
        torch.from_numpy(np.pad(row, (0, fill))).to(device)[None] for row in (layout.ids, layout.positions)
    )
    end = torch.from_numpy(np.pad(layout.end, (0, fill), constant_values=size + fill)).to(device)
    given: dict[str, Any] = {"input_ids": ids, "position_ids": positions, "use_cache": False}
    if kernel == "dense":
        return given | {"attention_mask": dense_mask(end, dtype)}
    # A mask with four axes is handed on as it is: none is made, and the tree's attention looks at none.
    unused = torch.zeros((1, 1, 1, 1), dtype=torch.bool, device=device)
    return given | {"attention_mask": unused, "rlhi_tree": Structure(layout.blocks, end, layout.longest, kernel)}


@contextmanager
def _head_sees(head: Any, at: Tensor, question: tuple[Tensor, Tensor] | None, found: list[Tensor]) -> Iterator[None]:
    """Let the vocabulary head see only the places `at`; a question is answered in tiles, and then the head sees none.

    This happens inside the model's forward pass, where a wrapper has the head's weights at hand.
    """

    def select(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = args[0][0, at]
        if question is not None:
            found.append(head_logps(head, hidden, *question))
            hidden = hidden[:0]
        return (hidden[None], *args[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def pass_logps(
    model: Any, work: Pass, precision: Precision = "fp32", *, kernel: Kernel = "segments", tiled: bool = True
) -> tuple[Tensor, ...]:
    """Log-probability of each completion token of a pass, in nats, float32 at least, one tensor per sequence.

    `model` may be wrapped in DDP. Except for `dense` it must be prepared by `attention.install`. `tiled` computes the
    logits in tiles where the head is a plain matrix; that is for models that change nothing behind their head.
    """
    bare = getattr(model, "module", model)
    parameter = next(bare.parameters())
    device = parameter.device
    head = bare.get_output_embeddings()
    if head is None:
        raise UsageError(f"{type(bare).__name__} has no vocabulary head: training needs a causal language model")
    at, rows, targets, answers = (
        torch.from_numpy(index).to(device) for index in (work.at, work.rows, work.targets, work.answers)
    )
    here = tiled and tileable(head) and (model is bare or isinstance(model, torch.nn.parallel.DistributedDataParallel))
    found: list[Tensor] = []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    low = torch.bfloat16 if precision == "bf16" else parameter.dtype
    with autocast, _head_sees(head, at, (rows, targets) if here else None, found):
        logits = model(**inputs(work.layout, device, kernel, low)).logits
    logps = found[0] if here else logits_logps(logits[0], rows, targets)
    return torch.split(logps[answers], list(work.lengths))


def tree_token_logps(
    model: Any,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    precision: Precision = "fp32",
    *,
    kernel: Kernel = "segments",
    tiled: bool = True,
) -> tuple[Tensor, ...]:
    """Log-probability of each completion token of (prompt, completion) sequences, in nats, in one pass.

    The same as `rlhi.training.step.token_logps`, with every token that sequences share from the start computed once.
    """
    return pass_logps(model, make_pass(sequences), precision, kernel=kernel, tiled=tiled)
