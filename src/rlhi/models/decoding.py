"""Sampling and scoring with a causal language model, such that an answer depends on its request and the weights alone.

Floating-point sums change with the shapes of the tensors, so company must never change a shape: every distinct prompt
is read alone at its own length; replies are then written in batches of always the same number of rows, over keys
left-padded to a length that follows from the prompt's own. Random numbers come from one stream per reply. (Models that
route tokens between experts are the exception: their shapes follow the company by design.)

Axes: B rows, H key heads, T positions, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

GROWTH = 64
"""Positions that a key buffer gains at a time."""
NUCLEUS = 256
"""Tokens among which the nucleus is sought before the whole vocabulary is sorted."""
LOGITS_AT_ONCE = 2**27
"""Most logits of one forward pass when replies are scored: half a GiB in float32."""


@dataclass(eq=False)
class Row:
    """One reply to be written."""

    prompt: tuple[int, ...]
    """Token ids of the rendered prompt."""
    max_tokens: int
    """Limit on the reply."""
    temperature: float
    """0 = greedy."""
    top_p: float
    """Nucleus."""
    uniforms: np.ndarray[Any, np.dtype[np.float64]]
    """One number in [0, 1) for each token of the reply: its own random stream."""
    tokens: list[int] = field(default_factory=list)
    """Token ids written so far, without the end of turn."""
    finish: Literal["stop", "length"] | None = None
    """Why it ended; None while it is being written."""

    def add(self, token: int, stops: frozenset[int]) -> None:
        """Take the next token."""
        if self.finish:
            return
        if token in stops:
            self.finish = "stop"
            return
        self.tokens.append(token)
        if len(self.tokens) >= self.max_tokens:
            self.finish = "length"


def bucket(prompt_tokens: int) -> int:
    """Length to which the keys of a prompt are padded: the least of 32, 48, 64, 96, 128, 192, … above its own.

    It is never equal to the prompt's length: with one padded position in every row, no batch can take the shortcut
    (another attention kernel) that transformers uses where nothing is padded.
    """
    size = 32
    while size <= prompt_tokens:
        if size * 3 // 2 > prompt_tokens:
            return size * 3 // 2
        size *= 2
    return size


class _BufferLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer in a buffer with room to grow, so that a step does not copy all earlier ones."""

    def __init__(self, keys_BHTD: Tensor, values_BHTD: Tensor, used: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys_BHTD.dtype, keys_BHTD.device, True
        self._keys, self._values, self._used = keys_BHTD, values_BHTD, used
        self._show()

    def _show(self) -> None:
        self.keys, self.values = self._keys[:, :, : self._used], self._values[:, :, : self._used]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all keys and values."""
        start, self._used = self._used, self._used + key_states.shape[-2]
        if self._used > self._keys.shape[-2]:
            self._keys = torch.nn.functional.pad(self._keys, (0, 0, 0, GROWTH))
            self._values = torch.nn.functional.pad(self._values, (0, 0, 0, GROWTH))
        self._keys[:, :, start : self._used] = key_states
        self._values[:, :, start : self._used] = value_states
        self._show()
        return self.keys, self.values


def _read(model: Any, prompt: Sequence[int]) -> tuple[Tensor, DynamicCache]:
    """Read a prompt alone; return the logits of the next token [V] and its keys and values."""
    cache = DynamicCache()
    ids = torch.tensor([prompt], device=model.device)
    mask = torch.ones_like(ids)
    out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return out.logits[0, -1], cache


def _start(model: Any, rows: Sequence[Row], size: int, width: int) -> tuple[Tensor, DynamicCache]:
    """Read every distinct prompt once; return the next token's logits [B, V] and left-padded keys and values."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.prompt, []).append(place)
    logits_BV: Tensor | None = None
    buffers: list[tuple[Tensor, Tensor]] = []
    for prompt, where in places.items():
        logits_V, cache = _read(model, prompt)
        if logits_BV is None:
            logits_BV = logits_V.new_zeros(size, len(logits_V))
            buffers = [
                tuple(t.new_zeros(size, t.shape[1], width + GROWTH, t.shape[3]) for t in (layer.keys, layer.values))
                for layer in cache.layers
            ]
        logits_BV[where] = logits_V
        for layer, (keys, values) in zip(cache.layers, buffers, strict=True):
            keys[where, :, width - len(prompt) : width] = layer.keys
            values[where, :, width - len(prompt) : width] = layer.values
    if logits_BV is None:
        raise ValueError("no rows to decode")
    cache = DynamicCache()
    cache.layers = [_BufferLayer(keys, values, width) for keys, values in buffers]
    return logits_BV, cache


class _Sampler:
    """Picks tokens by inversion: the token at which the summed probability passes the row's random number."""

    def __init__(self, rows: Sequence[Row], size: int, device: torch.device) -> None:
        steps = max(row.max_tokens for row in rows)
        uniforms = np.zeros((steps, size))
        temperatures, top_ps = np.zeros(size), np.ones(size)
        for place, row in enumerate(rows):
            uniforms[: row.max_tokens, place] = row.uniforms[: row.max_tokens]
            temperatures[place], top_ps[place] = row.temperature, row.top_p
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._uniforms_SB = torch.from_numpy(uniforms).to(device, self._dtype)
        self._greedy_B = torch.from_numpy(temperatures == 0).to(device)
        self._heat_B1 = torch.from_numpy(np.where(temperatures == 0, 1.0, temperatures)).to(device, self._dtype)[
            :, None
        ]
        self._nucleus = np.flatnonzero(top_ps < 1)
        self._top_p = torch.from_numpy(top_ps[self._nucleus]).to(device, self._dtype)[:, None]
        self._all_greedy = bool((temperatures == 0).all())

    def pick(self, logits_BV: Tensor, step: int) -> Tensor:
        """Token ids [B] of the `step`-th token."""
        best_B = logits_BV.argmax(-1)
        if self._all_greedy:
            return best_B
        chances_BV = torch.softmax(logits_BV.to(self._dtype) / self._heat_B1, -1)
        if len(self._nucleus):
            chances_BV[self._nucleus] = _nucleus(chances_BV[self._nucleus], self._top_p)
        sums_BV = chances_BV.cumsum(-1)
        total_B1 = sums_BV[:, -1:]
        mark_B1 = self._uniforms_SB[step][:, None] * total_B1
        token_B = torch.searchsorted(sums_BV, mark_B1, right=True)[:, 0]
        last_B = (sums_BV < total_B1).sum(-1)
        return torch.where(self._greedy_B, best_B, torch.minimum(token_B, last_B))


def _nucleus(chances_RV: Tensor, top_p_R1: Tensor) -> Tensor:
    """Set to zero what lies outside the smallest set of likeliest tokens that holds `top_p`; ties at its edge stay."""
    few = min(NUCLEUS, chances_RV.shape[-1])
    floor_R1, held_R = _floor(chances_RV.topk(few).values, top_p_R1)
    wide = (held_R < top_p_R1[:, 0]).nonzero()[:, 0]
    if len(wide):
        floor_R1[wide] = _floor(chances_RV[wide].sort(descending=True).values, top_p_R1[wide])[0]
    return torch.where(chances_RV >= floor_R1, chances_RV, 0.0)


def _floor(sorted_RK: Tensor, top_p_R1: Tensor) -> tuple[Tensor, Tensor]:
    sums_RK = sorted_RK.cumsum(-1)
    count_R1 = ((sums_RK - sorted_RK) < top_p_R1).sum(-1, keepdim=True)
    return sorted_RK.gather(-1, count_R1 - 1), sums_RK[:, -1]


@torch.inference_mode()
def write(
    model: Any, rows: Sequence[Row], size: int, stops: frozenset[int], stopped: Callable[[], bool] = lambda: False
) -> None:
    """Write all `rows` (at most `size`, prompts of one `bucket`) to their ends, or until `stopped()`."""
    width = bucket(len(rows[0].prompt))
    logits_BV, cache = _start(model, rows, size, width)
    device = logits_BV.device
    sampler = _Sampler(rows, size, device)
    lengths = [len(row.prompt) for row in rows] + [1] * (size - len(rows))
    positions_B1 = torch.tensor(lengths, device=device)[:, None]
    # A row that has ended is run on with the others, but never to a position that the model does not have.
    room = [row.max_tokens - 1 for row in rows] + [0] * (size - len(rows))
    last_B1 = positions_B1 + torch.tensor(room, device=device)[:, None]
    steps = max(row.max_tokens for row in rows)
    mask_BT = torch.ones(size, width + steps, dtype=torch.bool, device=device)
    for place, length in enumerate(lengths):
        mask_BT[place, : width - length] = False
    for step in range(steps):
        token_B = sampler.pick(logits_BV, step)
        for row, token in zip(rows, token_B.tolist()[: len(rows)], strict=True):
            row.add(token, stops)
        if all(row.finish for row in rows) or stopped():
            return
        out = model(
            input_ids=token_B[:, None],
            attention_mask=mask_BT[:, : width + step + 1],
            position_ids=torch.minimum(positions_B1 + step, last_B1),
            past_key_values=cache,
            use_cache=True,
        )
        logits_BV = out.logits[:, -1]


def _spread(cache: DynamicCache, copies: int) -> DynamicCache:
    spread = DynamicCache()
    for place, layer in enumerate(cache.layers):
        spread.update(*(t.expand(copies, -1, -1, -1) for t in (layer.keys, layer.values)), place)
    return spread


def _portions(replies: Sequence[Sequence[int]], size: int, vocabulary: int) -> Iterable[list[int]]:
    """Places of the replies by rising length, in portions that one forward pass can hold."""
    portion: list[int] = []
    for place in sorted((p for p in range(len(replies)) if len(replies[p]) > 1), key=lambda p: (len(replies[p]), p)):
        room = max(1, min(size, LOGITS_AT_ONCE // (len(replies[place]) * vocabulary)))
        if len(portion) >= room:
            yield portion
            portion = []
        portion.append(place)
    if portion:
        yield portion


@torch.inference_mode()
def log_likelihoods(model: Any, prompt: Sequence[int], replies: Sequence[Sequence[int]], size: int) -> list[float]:
    """Sum of the log-probabilities of each reply's tokens after `prompt`, in nats; `size` rows at most at a time.

    The prompt is read once. Shapes follow from the arguments alone.
    """
    logits_V, cache = _read(model, prompt)
    first_V = torch.log_softmax(logits_V.float(), -1)
    sums = [float(first_V[reply[0]]) if reply else 0.0 for reply in replies]
    for portion in _portions(replies, size, len(logits_V)):
        longest = max(len(replies[place]) for place in portion)
        ids_BT = torch.zeros(len(portion), longest, dtype=torch.long, device=logits_V.device)
        for row, place in enumerate(portion):
            ids_BT[row, : len(replies[place])] = torch.tensor(replies[place], device=ids_BT.device)
        # Padding stands to the right of a reply, where causal attention never looks back from.
        positions = torch.arange(len(prompt), len(prompt) + longest - 1, device=ids_BT.device)
        logits_BTV = model(
            input_ids=ids_BT[:, :-1],
            attention_mask=ids_BT.new_ones(len(portion), len(prompt) + longest - 1),
            position_ids=positions.expand(len(portion), -1),
            past_key_values=_spread(cache, len(portion)),
            use_cache=True,
        ).logits.float()
        chosen_BT = logits_BTV.gather(-1, ids_BT[:, 1:, None])[..., 0] - logits_BTV.logsumexp(-1)
        for row, place in enumerate(portion):
            sums[place] += float(chosen_BT[row, : len(replies[place]) - 1].double().sum())
    return sums
