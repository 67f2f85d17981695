"""Tiny random models with sharp opinions, so that a wrong context changes much."""

from __future__ import annotations

import random
from typing import Any

import torch

VOCABULARY = 97


def tiny(arch: str = "llama", **changes: Any) -> Any:
    """A random causal language model of architecture `arch` in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
    }
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    config = AutoConfig.for_model(arch, vocab_size=VOCABULARY, initializer_range=0.3, **sizes | ids | changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


def tokens(stream: random.Random, count: int) -> list[int]:
    """Random token ids."""
    return [stream.randrange(3, VOCABULARY) for _ in range(count)]
