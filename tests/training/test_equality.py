"""Our loss, rewards and gradients against TRL's `DPOTrainer`, and against computation by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhi.settings import Training
from rlhi.training.objectives import OBJECTIVES
from rlhi.training.objectives.losses import dpo, sft
from rlhi.training.policy import load_causal, load_tokenizer, prepare
from rlhi.training.reference import ReferenceStore, reference_logps
from rlhi.training.step import passes, side_logps, token_logps
from rlhi.training.steps import PlainStep
from rlhi.training.tokenize import Encoded, encode_all
from rlhi.training.trainer import PairTrainer
from tests.training.sample import BOTH, make_pairs
from tests.training.theirs import dpo_trainer


def encoded_pairs(model: Path, count: int = 5) -> list[Encoded]:
    kept, dropped = encode_all(make_pairs(count), load_tokenizer(str(model)), BOTH, 4096)
    assert not dropped
    return kept


def nudge(model: torch.nn.Module) -> None:
    """Move the trainable weights, so that the policy is no longer the reference."""
    stream = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=stream), alpha=0.02)


def our_step(trainer: PairTrainer, pairs: list[Encoded]) -> tuple[float, dict[str, Tensor]]:
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, {"pairs": pairs})
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss), grads


def our_trainer(model: Any, settings: Training, pairs: list[Encoded], folder: Path, name: str = "dpo") -> PairTrainer:
    return PairTrainer(
        model,
        settings,
        OBJECTIVES[name],
        batches=[pairs],
        learning_rate=1e-3,
        seed=0,
        folder=folder / "checkpoints",
        identity="x",
    )


def relative(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    assert ours
    return max(float((ours[n] - theirs[n]).norm() / theirs[n].norm().clamp_min(1e-12)) for n in ours)


def settings_for(model: Path, method: str) -> Training:
    return Training(model=str(model), method=method, beta=0.3, batch_size=5, micro_batch_size=2, max_grad_norm=1e9)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precomputed", [True, False])
def test_loss_rewards_and_gradients_equal_trl(tiny: Path, tmp_path: Path, method: str, precomputed: bool) -> None:
    settings = settings_for(tiny, method)

    def fresh() -> Any:
        torch.manual_seed(3)
        return prepare(load_causal(str(tiny), torch.float32), settings)

    theirs = dpo_trainer(
        fresh(),
        load_causal(str(tiny), torch.float32) if method == "full" else None,
        tiny,
        sorted(make_pairs(5), key=lambda pair: pair.pair_id),
        tmp_path / "trl",
        precompute_ref_log_probs=precomputed,
    )
    nudge(theirs.model)
    batch = theirs.data_collator([theirs.train_dataset[i] for i in range(5)])
    theirs.model.train()
    loss = theirs.compute_loss(theirs.model, batch)
    loss.backward()
    their_grads = {n: p.grad for n, p in theirs.model.named_parameters() if p.grad is not None}
    metrics = {name: values[-1] for name, values in theirs._metrics["train"].items()}

    pairs = encoded_pairs(tiny)
    model = fresh()
    trainer = our_trainer(model, settings, pairs, tmp_path)
    store = ReferenceStore(tmp_path / "reference.parquet")
    trainer.references = reference_logps(
        model, pairs, BOTH, fingerprint="f", precision="fp32", step=PlainStep(2), store=store
    )
    nudge(model)
    our_loss, our_grads = our_step(trainer, pairs)
    figures = trainer.measure(pairs)

    assert abs(our_loss - math.log(2)) > 1e-3, "the policy must differ from the reference for this to say anything"
    assert our_loss == pytest.approx(float(loss), rel=1e-5)
    assert figures["loss"] == pytest.approx(our_loss, rel=1e-5)
    assert figures["chosen_reward"] == pytest.approx(metrics["rewards/chosen"], rel=1e-5, abs=1e-5)
    assert figures["rejected_reward"] == pytest.approx(metrics["rewards/rejected"], rel=1e-5, abs=1e-5)
    assert figures["margin"] == pytest.approx(metrics["rewards/margins"], rel=1e-5, abs=1e-5)
    assert figures["accuracy"] == pytest.approx(metrics["rewards/accuracies"])
    assert relative(our_grads, their_grads) < 1e-5


def test_tokens_equal_trl(tiny: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    pairs = sorted(make_pairs(8), key=lambda pair: pair.pair_id)
    rows = [{k: pair.model_dump(mode="json")[k] for k in ("prompt", "chosen", "rejected")} for pair in pairs]
    trainer = trl.DPOTrainer(
        model=load_causal(str(tiny), torch.float32),
        args=trl.DPOConfig(output_dir=str(tmp_path), max_length=None, report_to=[], use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(str(tiny)),
    )
    for row, pair in zip(trainer.train_dataset, encoded_pairs(tiny, 8), strict=True):
        assert tuple(row["prompt_ids"]) == pair.prompt
        assert tuple(row["chosen_ids"]) == pair.chosen
        assert tuple(row["rejected_ids"]) == pair.rejected


def test_dpo_by_hand() -> None:
    # β = 0.5; r⁺ = 0.5 (−1 − −3) = 1, r⁻ = 0.5 (−4 − −2) = −1, margin 2: −log σ(2) = log(1 + e⁻²); weight 3.
    losses, chosen, rejected = dpo(
        torch.tensor([-1.0]),
        torch.tensor([-4.0]),
        torch.tensor([-3.0]),
        torch.tensor([-2.0]),
        beta=0.5,
        weights=torch.tensor([3.0]),
    )
    assert chosen.item() == pytest.approx(1.0)
    assert rejected.item() == pytest.approx(-1.0)
    assert losses.item() == pytest.approx(3 * math.log1p(math.exp(-2)), rel=1e-6)


def test_dpo_gradient_by_hand() -> None:
    # dL/d log π(y⁺) = −β σ(−margin); at margin 0 that is −β / 2, and the opposite for y⁻.
    zero = torch.zeros(1)
    chosen, rejected = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    dpo(chosen, rejected, zero, zero, beta=0.4, weights=torch.ones(1))[0].sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.2)
    assert rejected.grad.item() == pytest.approx(0.2)


def test_sft_is_weighted_negative_log_likelihood() -> None:
    assert sft(torch.tensor([-2.0, -3.0]), torch.tensor([1.0, 2.0])).tolist() == [2.0, 6.0]


def by_hand(model: torch.nn.Module, prompt: tuple[int, ...], reply: tuple[int, ...]) -> Tensor:
    """log p of every reply token, one sequence alone, over the whole vocabulary at every place, in float64."""
    ids = torch.tensor([[*prompt, *reply]])
    with torch.no_grad():
        logps = torch.log_softmax(model(input_ids=ids).logits.double(), dim=-1)[0]
    return torch.stack([logps[len(prompt) + i - 1, token] for i, token in enumerate(reply)])


@pytest.mark.parametrize("arch", ["llama", "gpt2", "qwen2", "gemma2"])
def test_padded_batch_equals_one_sequence_alone(tmp_path: Path, arch: str) -> None:
    from tests.models.tiny import make_tiny_model

    path = make_tiny_model(tmp_path / arch, arch=arch)
    model = load_causal(str(path), torch.float32).eval()
    pairs = encoded_pairs(path)
    assert len({pair.length(BOTH) for pair in pairs}) > 2
    with torch.no_grad():
        batch = token_logps(model, [(pair.prompt, pair.chosen) for pair in pairs])
        sums = side_logps(model, pairs, BOTH)
    for place, (pair, found) in enumerate(zip(pairs, batch, strict=True)):
        assert torch.allclose(found.double(), by_hand(model, pair.prompt, pair.chosen), atol=1e-4)
        rejected = by_hand(model, pair.prompt, pair.rejected).sum()
        assert float(sums["rejected"][place]) == pytest.approx(float(rejected), rel=1e-5)


def test_sft_step_is_the_mean_over_tokens(tiny: Path, tmp_path: Path) -> None:
    pairs = encoded_pairs(tiny)
    model = load_causal(str(tiny), torch.float32)
    trainer = our_trainer(model, settings_for(tiny, "full"), pairs, tmp_path, "sft")
    loss, _ = our_step(trainer, pairs)
    tokens = torch.cat([by_hand(model, pair.prompt, pair.chosen) for pair in pairs])
    assert loss == pytest.approx(-float(tokens.mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["dpo", "sft"])
def test_how_a_step_is_cut_changes_nothing(tiny: Path, tmp_path: Path, name: str) -> None:
    pairs = encoded_pairs(tiny, 7)
    found = []
    for size in (1, 3, 7):
        model = load_causal(str(tiny), torch.float32)
        settings = settings_for(tiny, "full").model_copy(update={"micro_batch_size": size})
        trainer = our_trainer(model, settings, pairs, tmp_path, name)
        trainer.references = {(pair.pair_id, side): -20.0 - i for i, pair in enumerate(pairs) for side in BOTH}
        found.append(our_step(trainer, pairs))
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert relative(grads, found[0][1]) < 1e-5


def test_a_weight_is_a_factor_on_the_pairs_loss(tiny: Path, tmp_path: Path) -> None:
    light, heavy = encoded_pairs(tiny, 2)
    cases = {}
    for weight in (1.0, 3.0):
        pairs = [light, replace(heavy, weight=weight)]
        trainer = our_trainer(load_causal(str(tiny), torch.float32), settings_for(tiny, "full"), pairs, tmp_path)
        trainer.references = {(pair.pair_id, side): -10.0 for pair in pairs for side in BOTH}
        singles = [trainer.measure([pair])["loss"] for pair in pairs]
        assert trainer.measure(pairs)["loss"] == pytest.approx(sum(singles) / 2, rel=1e-6)
        cases[weight] = singles
    assert cases[3.0][0] == cases[1.0][0]
    assert cases[3.0][1] == pytest.approx(3 * cases[1.0][1], rel=1e-6)


def test_passes_put_like_lengths_together_whatever_the_order(tiny: Path) -> None:
    pairs = encoded_pairs(tiny, 9)
    parts = passes(pairs, BOTH, 4)
    assert [len(part) for part in parts] == [4, 4, 1]
    assert sorted(p.pair_id for part in parts for p in part) == sorted(p.pair_id for p in pairs)
    lengths = [pair.length(BOTH) for part in parts for pair in part]
    assert lengths == sorted(lengths, reverse=True)
    assert passes(pairs[::-1], BOTH, 4) == parts
