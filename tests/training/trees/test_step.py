"""Log-probabilities and gradients on trees against each sequence computed alone in float64."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlhi.settings import Lora
from rlhi.training.policy import add_adapter
from rlhi.training.step import token_logps
from rlhi.training.trees import head as heads
from rlhi.training.trees.attention import Kernel, UnfitAttention, dense_mask, install, segments
from rlhi.training.trees.head import head_logps
from rlhi.training.trees.step import make_pass, tree_token_logps
from rlhi.training.trees.support import examine
from tests.training.trees.models import VOCABULARY, tiny, tokens

Pair = tuple[list[int], list[int]]


def conversation(turns: int, seed: int = 0) -> list[Pair]:
    """Pairs of a conversation in which now one reply and now the other goes on, with siblings and a stranger."""
    stream = random.Random(seed)
    prompt, found = tokens(stream, 30), []
    for turn in range(turns):
        replies = [tokens(stream, stream.randint(1, 14)) for _ in range(2)]
        found += [(prompt, reply) for reply in replies]
        prompt = [*prompt, *replies[turn % 2], *tokens(stream, 6)]
    return [*found, (tokens(stream, 9), tokens(stream, 4)), (found[0][0][:20], tokens(stream, 5)), found[0]]


def alone(model: Any, sequences: list[Pair]) -> list[Tensor]:
    """log p of every completion token over the whole vocabulary, one sequence at a time."""
    found = []
    for prompt, completion in sequences:
        logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
        logps = torch.log_softmax(logits, -1)
        found.append(torch.stack([logps[len(prompt) + i - 1, token] for i, token in enumerate(completion)]))
    return found


def gradients(model: Any, logps: Any, seed: int = 0) -> dict[str, Tensor]:
    """Gradients of a random weighting of all log-probabilities."""
    stream = torch.Generator().manual_seed(seed)
    model.zero_grad()
    sum((value.double() * torch.randn(len(value), generator=stream).double()).sum() for value in logps).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    assert ours
    return max(float((ours[n] - theirs[n]).norm() / theirs[n].norm().clamp_min(1e-12)) for n in ours)


def prepared(model: Any, kernel: Kernel) -> Any:
    model = copy.deepcopy(model)
    if kernel != "dense":
        install(model)
    return model


@pytest.mark.parametrize("kernel", ["segments", "dense"])
@pytest.mark.parametrize("arch", ["llama", "qwen3", "mistral", "gemma", "gemma3_text", "qwen2"])
def test_it_equals_each_sequence_alone(arch: str, kernel: Kernel) -> None:
    model = tiny(arch)
    sequences = conversation(4)
    exact = copy.deepcopy(model).double()
    wanted = alone(exact, sequences)
    wanted_gradients = gradients(exact, wanted)
    ours = prepared(model, kernel)
    found = tree_token_logps(ours, sequences, kernel=kernel)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a.double(), b, atol=2e-5)
    assert worst(gradients(ours, found), wanted_gradients) < 1e-5


trees = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 12), st.integers(0, 10**6)), min_size=1, max_size=9
)


@given(trees)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_trees_in_float64(made: list[tuple[int, int, int, int]]) -> None:
    """Every sequence goes on from a random place of an earlier one, so that trees branch anywhere and nest.

    GPT-2, for it computes all of a float64 model in float64.
    """
    model = tiny("gpt2", n_embd=32, n_layer=2, n_head=4).double()
    sequences: list[Pair] = []
    for parent, keep, length, seed in made:
        stream = random.Random(seed)
        trunk = [token for part in sequences[parent % len(sequences)] for token in part][:keep] if sequences else []
        sequences.append(([*trunk, *tokens(stream, 1 if trunk else 30)], tokens(stream, length)))
    wanted = alone(model, sequences)
    wanted_gradients = gradients(model, wanted)
    ours = prepared(model, "segments")
    found = tree_token_logps(ours, sequences)
    assert all(value.dtype == torch.float64 for value in found)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-11)
    assert worst(gradients(ours, found), wanted_gradients) < 1e-10


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_queries_in_float64(groups: int) -> None:
    work = make_pass(conversation(4))
    stream = torch.Generator().manual_seed(0)

    def states(heads: int) -> Tensor:
        made = torch.randn(1, work.tokens, heads, 8, generator=stream, dtype=torch.float64)
        return made.transpose(1, 2).requires_grad_()

    query, key, value = states(4), states(4 // groups), states(4 // groups)
    weights = torch.randn(1, work.tokens, 4, 8, generator=stream, dtype=torch.float64)
    mask = dense_mask(torch.from_numpy(work.layout.end), torch.float64)
    scores = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * 0.3 + mask
    wanted = (scores.softmax(-1) @ value.repeat_interleave(groups, 1)).transpose(1, 2)
    found = segments(query, key, value, work.layout.blocks, 0.3)
    assert torch.allclose(found, wanted, atol=1e-12)
    grads = [torch.autograd.grad((out * weights).sum(), [query, key, value]) for out in (found, wanted)]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("lora", [False, True])
def test_layers_that_are_run_again_in_the_backward_pass_find_their_tree(lora: bool, reentrant: bool) -> None:
    sequences, others = conversation(3), conversation(2, seed=5)
    found = []
    for checkpointing in (False, True):
        model = tiny("llama")
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        torch.manual_seed(0)
        wrapped = add_adapter(model, Lora(r=4), "x") if lora else model
        install(wrapped)
        wrapped.train()
        logps = tree_token_logps(wrapped, sequences)
        with torch.no_grad():  # another pass in between must not be taken for this one's tree
            tree_token_logps(wrapped, others)
            token_logps(wrapped, others)
        found.append(gradients(wrapped, logps))
    assert worst(found[1], found[0]) < 1e-6


def test_with_the_adapter_switched_off_it_is_the_base_model() -> None:
    base = tiny("llama")
    sequences = conversation(2)
    wanted = alone(base, sequences)
    wrapped = add_adapter(copy.deepcopy(base), Lora(r=4), "x")
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    install(wrapped)
    with torch.no_grad():
        adapted = tree_token_logps(wrapped, sequences)
        with wrapped.disable_adapter():
            found = tree_token_logps(wrapped, sequences)
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(found, wanted, strict=True))
    assert any(float((a - b).abs().max()) > 0.1 for a, b in zip(adapted, wanted, strict=True))


def test_an_installed_model_is_as_before_without_a_tree() -> None:
    model = tiny("llama")
    ours = prepared(model, "segments")
    ids = torch.tensor([[5, 6, 7, 8, 0], [9, 10, 11, 12, 13]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        assert torch.equal(ours(ids, attention_mask=mask).logits, model(ids, attention_mask=mask).logits)


def test_bf16_rounds_and_no_more() -> None:
    model = prepared(tiny("llama"), "segments")
    sequences = conversation(3)
    with torch.no_grad():
        low = torch.cat(tree_token_logps(model, sequences, "bf16"))
        plain = torch.cat(token_logps(model, sequences, "bf16"))
        exact = torch.cat(tree_token_logps(model, sequences))
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    assert float((low - exact).abs().mean()) < 1.5 * float((plain - exact).abs().mean())


def test_tiles_and_logits_that_are_computed_again_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(12, VOCABULARY).double()
    hidden = torch.randn(23, 12, generator=stream, dtype=torch.float64, requires_grad=True)
    rows = torch.randint(23, (40,), generator=stream).sort().values
    targets = torch.randint(VOCABULARY, (40,), generator=stream)
    weights = torch.randn(40, generator=stream, dtype=torch.float64)
    parameters = [hidden, *layer.parameters()]
    wanted = torch.log_softmax(layer(hidden), -1)[rows, targets]
    exact = torch.autograd.grad((wanted * weights).sum(), parameters)
    for tile, kept in ((2**20, 2**20), (5 * VOCABULARY, 2**20), (5 * VOCABULARY, 11 * VOCABULARY), (1, 0)):
        monkeypatch.setattr(heads, "TILE", tile)
        monkeypatch.setattr(heads, "KEPT", kept)
        found = head_logps(layer, hidden, rows, targets)
        assert torch.allclose(found, wanted, atol=1e-12)
        for _ in range(2):  # the second time nothing is kept any more
            grads = torch.autograd.grad((found * weights).sum(), parameters, retain_graph=True)
            assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(grads, exact, strict=True))


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_the_block_mask_for_a_gpu_without_its_compiler(monkeypatch: pytest.MonkeyPatch, arch: str) -> None:
    """FlexAttention's forward pass as PyTorch writes it out on a CPU: mask, filling up, score caps; not the kernel."""
    from torch.nn.attention.flex_attention import flex_attention
    from transformers.integrations import flex_attention as integration

    def eager(query: Tensor, key: Tensor, value: Tensor, training: bool = False, **how: Any) -> Tensor:
        found: Tensor = flex_attention(query, key, value, **how)
        return found

    monkeypatch.setattr(integration, "compile_friendly_flex_attention", eager)
    model = tiny(arch)
    ours = prepared(model, "flex")
    sequences = conversation(3)
    with torch.no_grad():
        wanted, found = alone(model, sequences), tree_token_logps(ours, sequences, kernel="flex", tiled=False)
    assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(found, wanted, strict=True))


def test_models_that_may_be_run_on_trees_are_found_by_trying() -> None:
    assert examine(tiny("llama"), 400).kernel == "segments"
    assert examine(tiny("gpt2"), 400).kernel == "segments"
    capped = examine(tiny("gemma2"), 400)  # caps attention scores and logits
    assert (capped.kernel, capped.tiled) == ("dense", False)
    scaled = examine(tiny("cohere"), 400)  # scales logits behind its head
    assert (scaled.kernel, scaled.tiled) == ("segments", False)
    with torch.no_grad():
        model = tiny("cohere")
        examine(model, 400)
        found = tree_token_logps(model, conversation(2), tiled=False)
        wanted = alone(tiny("cohere"), conversation(2))
        assert all(torch.allclose(a, b, atol=2e-5) for a, b in zip(found, wanted, strict=True))


def test_models_that_may_not_be_run_on_trees_say_why() -> None:
    short = tiny("mistral", sliding_window=64)
    assert examine(short, 64).kernel == "segments"
    found = examine(short, 65)
    assert found.kernel is None
    assert "reaches back 64 tokens" in found.reason
    # Its positions are a bias of the order of tokens, which a tree's layout is not.
    found = examine(tiny("mpt", d_model=32, n_heads=4, n_layers=2), 400)
    assert found.kernel is None
    assert found.error is not None
    assert found.error > 0.01
    assert "differ by" in found.reason
    dynamic = tiny("llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    assert examine(dynamic, 512).kernel == "segments"
    assert "scaled by a sequence's length" in examine(dynamic, 513).reason


def test_a_window_shorter_than_a_pass_is_refused_where_it_would_be_wrong() -> None:
    model = prepared(tiny("mistral", sliding_window=16), "segments")
    with pytest.raises(UnfitAttention, match="sliding window 16"):
        tree_token_logps(model, conversation(2))
