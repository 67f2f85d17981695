"""Products of float32 matrices by oneDNN, on processors where PyTorch's usual BLAS leaves half the speed unused.

PyTorch's builds for x86 multiply by MKL, which on AMD processors with AVX-512 does not use it. oneDNN, another part of
PyTorch, does, at about twice the rate (`benchmarks/products.py`). Which of them is used follows
from the processor, never from a measurement, so that numbers do not depend on the weather.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@cache
def better() -> bool:
    """Whether oneDNN is the better choice here: an AMD processor with AVX-512, and a PyTorch that has both."""
    if not (torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):  # type: ignore[no-untyped-call]
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    about = Path("/proc/cpuinfo")
    return about.exists() and "AuthenticAMD" in about.read_text()


def takes(*tensors: Tensor | None) -> bool:
    """Whether products of these are computed by oneDNN: plain float32 on this CPU, and no autocast."""
    given = [t for t in tensors if t is not None]
    return (
        better()
        and not torch.is_autocast_enabled("cpu")
        and all(t.dtype == torch.float32 and t.device.type == "cpu" and t.numel() > 0 for t in given)
        and all(type(t) in (Tensor, nn.Parameter) for t in given)
    )


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of matrices [M, K] and [K, N], without a gradient."""
    if not takes(a, b):
        return a @ b
    return by_onednn(a, b.t(), None)


def linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """hidden @ weight.T + bias of [..., K], [N, K] and [N], with a gradient."""
    if not takes(hidden, weight, bias):
        return nn.functional.linear(hidden, weight, bias)
    found: Tensor = _Linear.apply(hidden, weight, bias)  # type: ignore[no-untyped-call]
    return found


def by_onednn(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """hidden @ weight.T + bias by oneDNN, wherever it is better or not, without a gradient."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(hidden, weight, bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return by_onednn(hidden, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight = ctx.saved_tensors
        flat, rows = grad.reshape(-1, grad.shape[-1]), hidden.reshape(-1, hidden.shape[-1])
        found: list[Tensor | None] = [None, None, None]
        if ctx.needs_input_grad[0]:
            found[0] = product(flat, weight).view(hidden.shape)
        if ctx.needs_input_grad[1]:
            found[1] = product(flat.t(), rows)
        if ctx.needs_input_grad[2]:
            found[2] = flat.sum(0)
        return tuple(found)


class FastLinear(nn.Linear):
    """`nn.Linear` whose products go through here. Its weights, names and saved form are the same."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return linear(input, self.weight, self.bias)


def install(model: nn.Module) -> None:
    """Let all plain linear layers of a model compute so, from now on; where oneDNN is not better, nothing changes."""
    if better():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = FastLinear
