"""Attention in which each token of a tree sees its ancestors and itself, for any transformers model that lets its
attention be replaced.

On a CPU (and wherever else) `segments` computes it block by block with the flash kernel. A group of subtrees that hang
off a chain reads the chain's keys in one call without a copy or a mask; the parts of a query's softmax are joined by
their log-sum-exp (Milakov and Gimelshein 2018, arXiv 1805.02867), and the gradient of each part is the kernel's own for
the joined output and log-sum-exp (as in ring attention, arXiv 2310.01889). Gradients of shared keys add up slice by
slice. On CUDA `flex` gives FlexAttention a block mask. Both come to the attention by a keyword argument that travels
through the model, so that gradient checkpointing, which runs a layer again in the backward pass, finds the same tree.
`dense` is an ordinary 4-D mask, for models that pass no such argument on or cap their attention scores.

Axes: G query heads per key head, K key heads, N places, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from rlhi.training.trees.build import Block

Kernel = Literal["segments", "flex", "dense"]

IMPLEMENTATION = "rlhi_tree"
"""Name under which the attention is registered with transformers."""


class UnfitAttention(ValueError):
    """A layer asks for attention that the tree kernels do not compute; the plain step does."""


class Structure:
    """What attention must know of a pass; deliberately no dataclass, which FSDP would take apart and copy."""

    def __init__(self, blocks: tuple[Block, ...], end: Tensor, longest: int, kernel: Kernel) -> None:
        self.blocks = blocks
        """Rectangles of attention."""
        self.end = end
        """Where the subtree of each place ends [N], on the model's device."""
        self.longest = longest
        """Tokens of the longest path."""
        self.kernel = kernel
        """How attention is computed."""
        self._block_mask: Any = None

    def block_mask(self) -> Any:
        """The block mask for FlexAttention, made once for all layers."""
        if self._block_mask is None:
            from torch.nn.attention.flex_attention import create_block_mask

            size = len(self.end)
            self._block_mask = create_block_mask(sees(self.end), None, None, size, size, device=self.end.device)
        return self._block_mask


def sees(end: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """FlexAttention's mask function: whether place `query` sees place `key`."""

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < end[key])

    return visible


def dense_mask(end: Tensor, dtype: torch.dtype) -> Tensor:
    """The same as an additive mask [1, 1, N, N]."""
    at = torch.arange(len(end), device=end.device)
    visible = sees(end)(at, at, at[:, None], at[None, :])
    mask = torch.zeros(visible.shape, dtype=dtype, device=end.device)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[None, None]


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _Segments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, how: tuple[tuple[Block, ...], float]) -> Tensor:
        blocks, scale = how
        heads, size, width = query.shape[1:]
        groups = heads // key.shape[1]
        query_GKND = _grouped(query, groups)
        key_GKND, value_GKND = (t.expand(groups, -1, -1, -1) for t in (key, value))
        wide = torch.promote_types(query.dtype, torch.float32)
        out_NKGD = query.new_empty((size, key.shape[1], groups, width), dtype=wide)
        out_GKND = out_NKGD.permute(2, 1, 0, 3)
        lse_GKN = query.new_empty((groups, key.shape[1], size), dtype=wide)
        for block in blocks:
            here, there = slice(*block.query), slice(*block.key)
            out, lse = _flash(
                query_GKND[:, :, here],
                key_GKND[:, :, there],
                value_GKND[:, :, there],
                is_causal=block.causal,
                scale=scale,
            )
            if block.causal:
                out_GKND[:, :, here], lse_GKN[:, :, here] = out, lse
            else:
                _join(out_GKND[:, :, here], lse_GKN[:, :, here], out, lse)
        out_NKGD = out_NKGD.to(query.dtype)
        ctx.save_for_backward(query, key, value, out_NKGD, lse_GKN)
        ctx.blocks, ctx.scale = blocks, scale
        return out_NKGD.view(1, size, heads, width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out_NKGD, lse_GKN = ctx.saved_tensors
        groups = out_NKGD.shape[2]
        query_GKND = _grouped(query, groups)
        key_GKND, value_GKND = (t.expand(groups, -1, -1, -1) for t in (key, value))
        out_GKND, grad_GKND = (t.view(out_NKGD.shape).permute(2, 1, 0, 3) for t in (out_NKGD, grad.contiguous()))
        wide = lse_GKN.dtype
        query_NKGD = torch.empty(out_NKGD.shape, dtype=wide, device=grad.device)
        key_NKD, value_NKD = (query_NKGD.new_empty((*out_NKGD.shape[:2], t.shape[3])) for t in (key, value))
        for block in ctx.blocks:
            here, there = slice(*block.query), slice(*block.key)
            rows = [t[:, :, here] for t in (grad_GKND, query_GKND, out_GKND, lse_GKN)]
            columns = [t[:, :, there] for t in (key_GKND, value_GKND)]
            parts = _flash_backward(rows[0], rows[1], *columns, rows[2], rows[3], 0.0, block.causal, scale=ctx.scale)
            found = (parts[0].permute(2, 1, 0, 3), *(_summed(part) for part in parts[1:]))
            kept = (query_NKGD[here], key_NKD[there], value_NKD[there])
            for whole, part in zip(kept, found, strict=True):
                # Every place is a query and a key of just one causal block, and these come first.
                whole.copy_(part) if block.causal else whole.add_(part)
        as_heads = query_NKGD.view(1, len(out_NKGD), -1, query.shape[3]).transpose(1, 2)
        grads = (as_heads, key_NKD.transpose(0, 1)[None], value_NKD.transpose(0, 1)[None])
        return (*(t.to(query.dtype) for t in grads), None)


def segments(query: Tensor, key: Tensor, value: Tensor, blocks: tuple[Block, ...], scale: float) -> Tensor:
    """Attention [1, N, heads, D] of queries, keys and values [1, heads, N, D], the causal blocks first."""
    found: Tensor = _Segments.apply(query, key, value, (blocks, scale))  # type: ignore[no-untyped-call]
    return found


def _grouped(query: Tensor, groups: int) -> Tensor:
    return query.view(-1, groups, *query.shape[2:]).transpose(0, 1)


def _summed(part_GKND: Tensor) -> Tensor:
    """Sum over the query heads of a key head, as [N, K, D]."""
    whole = (
        part_GKND[0]
        if len(part_GKND) == 1
        else part_GKND.sum(0, dtype=torch.promote_types(part_GKND.dtype, torch.float32))
    )
    return whole.transpose(0, 1)


def _join(out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> None:
    """Join another part of the softmax to `out` and `lse`, in place."""
    share = torch.sigmoid(more_lse - lse).unsqueeze(-1)
    out.lerp_(more.to(out.dtype), share.to(out.dtype))
    lse.copy_(torch.logaddexp(lse, more_lse))


def _tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    rlhi_tree: Structure | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface: a tree where there is one, else SDPA as ever."""
    if rlhi_tree is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return found
    window = others.get("sliding_window")
    if dropout or (window is not None and window < rlhi_tree.longest):
        raise UnfitAttention(f"dropout {dropout} or sliding window {window} in a tree")
    if torch.is_autocast_enabled(query.device.type):
        low = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(low), key.to(low), value.to(low)
    if rlhi_tree.kernel == "flex":
        from transformers.integrations.flex_attention import flex_attention_forward

        extra = {name: others[name] for name in ("softcap", "s_aux") if name in others}
        out, _ = flex_attention_forward(module, query, key, value, rlhi_tree.block_mask(), scaling=scaling, **extra)
        return out, None
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise UnfitAttention(f"{name} in a tree")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return segments(query, key, value, rlhi_tree.blocks, scale), None


def install(model: Any) -> None:
    """Let a model's attention take trees, from now on; without a tree it is SDPA as before.

    It stays, because gradient checkpointing looks it up again during the backward pass. Saved models do not carry it.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    AttentionInterface.register(IMPLEMENTATION, _tree_attention)
    AttentionMaskInterface.register(IMPLEMENTATION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    for module in model.modules():
        if hasattr(module, "config") and hasattr(module.config, "_attn_implementation"):
            module.config._attn_implementation = IMPLEMENTATION
