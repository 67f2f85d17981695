"""A step on trees against TRL's `DPOTrainer` on the same weights and pairs: loss, rewards and gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhi.records import PreferencePair
from rlhi.settings import Training
from rlhi.training.objectives import OBJECTIVES
from rlhi.training.policy import load_causal, load_tokenizer, prepare
from rlhi.training.reference import ReferenceStore, reference_logps
from rlhi.training.steps import TreeStep, choose
from rlhi.training.tokenize import Encoded, encode_all
from rlhi.training.trainer import PairTrainer
from tests.models.tiny import make_tiny_model
from tests.training.sample import BOTH, make_conversation
from tests.training.test_equality import nudge, our_step, relative
from tests.training.theirs import dpo_trainer

ARCHITECTURES = ("llama", "qwen3", "mistral", "gemma")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    # Wilder weights (spread 0.3) put TRL's own gradient 2e-5 from one in float64: nothing could be said at 1e-5.
    return {arch: make_tiny_model(tmp_path_factory.mktemp(arch) / arch, arch, spread=0.1) for arch in ARCHITECTURES}


def theirs(
    model: Any, base: Path, pairs: list[PreferencePair], out: Path
) -> tuple[float, dict[str, float], dict[str, Tensor]]:
    """TRL's loss, metrics and gradients over one padded batch, the policy nudged away from the reference."""
    reference = None if hasattr(model, "peft_config") else load_causal(str(base), torch.float32)
    trainer = dpo_trainer(model, reference, base, pairs, out)
    nudge(trainer.model)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    loss.backward()
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return float(loss.detach()), metrics, {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}


def trainer_on_trees(model: Any, settings: Training, pairs: list[Encoded], folder: Path) -> PairTrainer:
    trainer = PairTrainer(
        model,
        settings,
        OBJECTIVES["dpo"],
        batches=[pairs],
        learning_rate=1e-3,
        seed=0,
        folder=folder / "checkpoints",
        identity="x",
    )
    trainer.step, _ = choose(trainer.model, settings, max(pair.length(BOTH) for pair in pairs))
    assert isinstance(trainer.step, TreeStep)
    store = ReferenceStore(folder / "reference.parquet")
    trainer.references = reference_logps(
        trainer.model, pairs, BOTH, fingerprint="f", precision="fp32", step=trainer.step, store=store
    )
    return trainer


CASES = [
    *(("llama", "full", [count]) for count in range(1, 7)),
    *((arch, "full", [2, 3]) for arch in ARCHITECTURES),
    *((arch, "lora", [3, 1]) for arch in ARCHITECTURES),
]


@pytest.mark.parametrize(("arch", "method", "turns"), CASES)
def test_loss_rewards_and_gradients_equal_trl(
    folders: dict[str, Path], tmp_path: Path, arch: str, method: str, turns: list[int]
) -> None:
    base = folders[arch]
    pairs = [pair for seed, count in enumerate(turns) for pair in make_conversation(count, seed)]

    def fresh(settings: Training) -> Any:
        torch.manual_seed(3)
        return prepare(load_causal(str(base), torch.float32), settings)

    def settings_for(budget: int) -> Training:
        return Training(
            model=str(base), method=method, beta=0.3, step="trees", max_tokens_per_pass=budget, max_grad_norm=1e9
        )

    wanted_loss, wanted, wanted_gradients = theirs(fresh(settings_for(16)), base, pairs, tmp_path / "trl")
    assert abs(wanted_loss - math.log(2)) > 1e-3, "the policy must differ from the reference for this to say anything"
    kept, dropped = encode_all(pairs, load_tokenizer(str(base)), BOTH, 4096)
    assert not dropped
    cuts = set()
    # Everything in one pass; trees cut into sub-trees; and each pair a tree of its own.
    for budget in (8192, 250, 16):
        model = fresh(settings_for(budget))
        trainer = trainer_on_trees(model, settings_for(budget), kept, tmp_path / str(budget))
        cuts.add(len(trainer.step.passes(kept, BOTH)))
        nudge(model)
        loss, gradients = our_step(trainer, kept)
        figures = trainer.measure(kept)
        assert loss == pytest.approx(wanted_loss, rel=1e-5)
        assert figures["loss"] == pytest.approx(wanted_loss, rel=1e-5)
        assert figures["chosen_reward"] == pytest.approx(wanted["rewards/chosen"], rel=1e-5, abs=1e-5)
        assert figures["rejected_reward"] == pytest.approx(wanted["rewards/rejected"], rel=1e-5, abs=1e-5)
        assert figures["margin"] == pytest.approx(wanted["rewards/margins"], rel=1e-5, abs=1e-5)
        assert figures["accuracy"] == pytest.approx(wanted["rewards/accuracies"])
        assert relative(gradients, wanted_gradients) < 1e-5
    assert {1, len(kept)} <= cuts
