from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhi.models import scoring
from rlhi.models.decoding import log_likelihoods
from rlhi.training.trees.support import Support

from .tiny import make_tiny_model


def texts(count: int, seed: int = 0) -> tuple[list[int], list[list[int]]]:
    """A prompt and replies, some of which begin alike, are equal or empty."""
    stream = random.Random(seed)
    prompt = [stream.randrange(3, 300) for _ in range(40)]
    replies = [[stream.randrange(3, 300) for _ in range(stream.randint(1, 20))] for _ in range(count)]
    return prompt, [*replies, replies[0], [*replies[0], 5, 6], []]


@pytest.mark.parametrize("arch", ["llama", "gpt2", "gemma2", "cohere"])
def test_the_tree_and_copies_of_the_prompts_keys_give_the_same(tmp_path: Path, arch: str) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / arch, arch)).eval()
    prompt, replies = texts(9)
    wanted = log_likelihoods(model, prompt, replies, 4)
    way = scoring.support(model, 200)
    assert way.kernel == ("dense" if arch == "gemma2" else "segments")
    whole = scoring.log_likelihoods(model, prompt, replies, 32, way)
    assert whole == pytest.approx(wanted, abs=1e-3)
    assert whole[-1] == 0.0
    assert whole[-3] == whole[0]
    assert whole == scoring.log_likelihoods(model, prompt, replies, 32, way)


def test_passes_are_cut_by_the_size_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "llama")).eval()
    prompt, replies = texts(30)
    way = scoring.support(model, 200)
    whole = scoring.log_likelihoods(model, prompt, replies, 32, way)
    monkeypatch.setattr(scoring, "TOKENS_PER_ROW", 30)
    assert scoring.log_likelihoods(model, prompt, replies, 2, way) == pytest.approx(whole, abs=1e-4)


def test_a_model_that_cannot_be_run_on_trees_is_refused() -> None:
    with pytest.raises(ValueError, match="its window is short"):
        scoring.log_likelihoods(None, [1], [[2]], 32, Support(None, False, "its window is short"))
