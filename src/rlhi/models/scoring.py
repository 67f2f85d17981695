"""How likely replies are after one prompt, and what a reward model gives them, with the prompt computed once.

Prompt and replies are one prefix tree (`rlhi.training.trees`), run in passes that follow from the request alone: no
company changes a shape. Nothing here hooks into the model, which other threads may be running.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlhi.training.trees.attention import Kernel
from rlhi.training.trees.build import Forest, lay_out, places
from rlhi.training.trees.head import head_logps, logits_logps, tileable
from rlhi.training.trees.pack import pack
from rlhi.training.trees.step import inputs, make_pass
from rlhi.training.trees.support import Support, examine

TOKENS_PER_ROW = 256
"""Distinct tokens per pass, beside the prompt's, for each row that a batch may have."""

Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]


def alone(model: Any, sequences: Sequences) -> list[Tensor]:
    """Log-probability of each completion token, one sequence at a time: what the trees are compared with."""
    found = []
    for prompt, completion in sequences:
        ids = torch.tensor([[*prompt, *completion]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        found.append(logits_logps(logits, torch.arange(len(completion), device=ids.device), ids[0, len(prompt) :]))
    return found


def on_trees(model: Any, sequences: Sequences, *, kernel: Kernel, tiled: bool) -> list[Tensor]:
    """The same in one pass."""
    work, device = make_pass(sequences), model.device
    given = inputs(work.layout, device, kernel, model.dtype)
    at, rows, targets, answers = (
        torch.from_numpy(index).to(device) for index in (work.at, work.rows, work.targets, work.answers)
    )
    head = model.get_output_embeddings()
    if tiled and tileable(head):
        hidden = model.base_model(**given).last_hidden_state[0, at]
        logps = head_logps(head, hidden, rows, targets)
    else:
        logps = logits_logps(model(**given, logits_to_keep=at).logits[0], rows, targets)
    return list(torch.split(logps[answers], list(work.lengths)))


def support(model: Any, longest: int) -> Support:
    """Whether a causal language model may be run on trees here; on a GPU it is not, where shapes would be compiled."""
    if model.device.type != "cpu":
        return Support(None, False, "trees are for scoring on a CPU")
    return examine(model, longest, alone, on_trees)


def reward_support(model: Any, longest: int) -> Support:
    """The same for a sequence-classification model; on a GPU with a dense mask, which compiles nothing."""

    def values(model: Any, sequences: Sequences, *, kernel: Kernel | None = None, tiled: bool = True) -> list[Tensor]:
        chats = [[*prompt, *completion] for prompt, completion in sequences]
        return [torch.tensor([value]) for value in rewards(model, chats, 32, kernel)]

    return examine(model, longest, values, values, None if model.device.type == "cpu" else ("dense",))


@torch.inference_mode()
def log_likelihoods(
    model: Any, prompt: Sequence[int], replies: Sequence[Sequence[int]], size: int, way: Support
) -> list[float]:
    """Sum of the log-probabilities of each reply's tokens after `prompt`, in nats.

    `way.kernel` must not be None; `size` is the rows of a batch, which bounds the tokens of a pass.
    """
    if way.kernel is None:
        raise ValueError(f"this model cannot be run on trees: {way.reason}")
    sums = [0.0] * len(replies)
    filled = [place for place, reply in enumerate(replies) if reply]
    for numbers in pack([[(*prompt, *replies[place])] for place in filled], len(prompt) + TOKENS_PER_ROW * size):
        part = [filled[number] for number in numbers]
        sequences = [(prompt, replies[place]) for place in part]
        logps = on_trees(model, sequences, kernel=way.kernel, tiled=way.tiled)
        for place, values in zip(part, logps, strict=True):
            sums[place] = float(values.double().sum())
    return sums


@torch.inference_mode()
def rewards(model: Any, chats: Sequence[Sequence[int]], size: int, kernel: Kernel | None) -> list[float]:
    """What a sequence-classification model with one label gives each chat, read at its last token.

    `kernel` None runs one chat at a time.
    """
    found = [0.0] * len(chats)
    if kernel is None:
        for place, chat in enumerate(chats):
            ids = torch.tensor([chat], device=model.device)
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1:]
            found[place] = float(model.score(hidden)[0, 0])
        return found
    longest = max(map(len, chats))
    for part in pack([[chat] for chat in chats], longest + TOKENS_PER_ROW * size):
        forest = Forest()
        for place in part:
            forest.add(chats[place])
        layout = lay_out(forest)
        ends = torch.tensor([int(places(forest, chats[place])[-1]) for place in part], device=model.device)
        hidden = model.base_model(**inputs(layout, model.device, kernel, model.dtype)).last_hidden_state[0, ends]
        for place, value in zip(part, model.score(hidden)[:, 0].tolist(), strict=True):
            found[place] = value
    return found
