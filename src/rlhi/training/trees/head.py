"""Log-probabilities of chosen tokens from hidden states, a tile of the vocabulary's logits at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlhi.models.products import FastLinear, product

TILE = 2**24
"""Logits computed at once: 64 MiB in float32."""
KEPT = 2**26
"""Logits kept for the backward pass, 256 MiB in float32; those beyond are computed again there."""


def tileable(head: Any) -> bool:
    """Whether a vocabulary head is a plain matrix that lies here as a whole."""
    return type(head) in (nn.Linear, FastLinear) and not hasattr(head.weight, "ds_id") and head.weight.ndim == 2


def head_logps(head: nn.Linear, hidden: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    """Log-probability [Q], in nats, of token `targets[q]` at hidden state `rows[q]` of `hidden` [U, H]; `rows` rise."""
    weight: Tensor = head.weight
    bias: Tensor | None = head.bias
    if torch.is_autocast_enabled(hidden.device.type):
        low = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(low), weight.to(low)
        bias = None if bias is None else bias.to(low)
    found: Tensor = _Logps.apply(hidden, weight, bias, (rows, targets, torch.is_grad_enabled()))  # type: ignore[no-untyped-call]
    return found


def logits_logps(logits: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    """The same from logits [U, V]."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide[rows, targets] - wide.logsumexp(-1)[rows]


class _Logps(torch.autograd.Function):
    """log p = z − max − log Σ exp(z − max); the gradient of Σ g log p by the logits z is g (1[token] − p).

    Logits are overwritten by exp(z − max), which serves both ways: no probability is taken from a rounded log-sum-exp.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, question: tuple[Tensor, Tensor, bool]
    ) -> Tensor:
        rows, targets, learning = question
        wide = torch.promote_types(hidden.dtype, torch.float32)
        step, room = max(1, TILE // len(weight)), KEPT if learning else 0
        starts = list(range(0, len(hidden), step))
        edges = torch.searchsorted(rows, torch.tensor([*starts, len(hidden)], device=rows.device)).tolist()
        logps = torch.empty(len(rows), dtype=wide, device=hidden.device)
        sums = torch.empty((len(hidden), 1), dtype=wide, device=hidden.device)
        ctx.kept = {}
        for start, low, high in zip(starts, edges, edges[1:], strict=False):
            logits = _logits(hidden[start : start + step], weight, bias).to(wide)
            top = logits.amax(-1, keepdim=True)
            at = rows[low:high] - start
            picked = logits[at, targets[low:high]] - top[at, 0]
            powers = logits.sub_(top).exp_()
            total = powers.sum(-1, keepdim=True)
            logps[low:high] = picked - total[at, 0].log()
            sums[start : start + step] = total
            room -= powers.numel()
            if room >= 0:
                ctx.kept[start] = powers.to(hidden.dtype)
        ctx.save_for_backward(hidden, weight, bias, rows, targets, sums)
        ctx.starts, ctx.edges, ctx.step = starts, edges, step
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, rows, targets, sums = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros_like(bias, dtype=sums.dtype) if needs_bias else None
        weights = torch.zeros_like(sums[:, 0]).index_add_(0, rows, grad.to(sums.dtype))[:, None] / -sums
        for start, low, high in zip(ctx.starts, ctx.edges, ctx.edges[1:], strict=False):
            part = slice(start, start + ctx.step)
            powers = ctx.kept.pop(start, None)
            if powers is None:
                logits = _logits(hidden[part], weight, bias).to(sums.dtype)
                powers = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
            slope = powers.to(sums.dtype).mul_(weights[part])
            at = rows[low:high] - start, targets[low:high]
            slope.index_put_(at, grad[low:high].to(slope.dtype), accumulate=True)
            if grad_bias is not None:
                grad_bias += slope.sum(0)
            narrow = slope.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = product(narrow, weight)
            if needs_weight:
                grad_weight = _with_product(grad_weight, hidden[part], narrow)
        grads = (grad_hidden, None if grad_weight is None else _like(grad_weight.t(), weight), _like(grad_bias, bias))
        return (*grads, None)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found = product(hidden, weight.t())
    return found if bias is None else found.add_(bias)


def _with_product(total_HV: Tensor | None, hidden: Tensor, slope: Tensor) -> Tensor:
    """Add hidden.T @ slope in place, in float32 at least."""
    found = product(hidden.t(), slope)
    if total_HV is None:
        return found.to(torch.promote_types(slope.dtype, torch.float32))
    return total_HV.add_(found)


def _like(grad: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    return None if grad is None or parameter is None else grad.to(parameter.dtype)
