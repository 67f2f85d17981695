"""Each loss against a form derived by hand, against its own laws, and against TRL on the same weights and pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rlhi.settings import Training
from rlhi.training.objectives import OBJECTIVES, REWARDS, Terms
from rlhi.training.objectives.losses import dpo, hinge, ipo, nll, robust, simpo
from rlhi.training.policy import load_causal, prepare
from rlhi.training.reference import ReferenceStore, reference_logps
from rlhi.training.steps import PlainStep
from rlhi.training.tokenize import Encoded
from tests.training.sample import BOTH, make_pairs
from tests.training.test_equality import encoded_pairs, nudge, our_step, our_trainer, relative
from tests.training.theirs import dpo_trainer

Loss = Callable[..., Tensor]

logps = st.floats(-60, -0.1)
betas = st.floats(0.01, 2)
smoothings = st.floats(0.01, 0.45)
lengths = st.integers(1, 40)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x)) if x >= 0 else x - math.log1p(math.exp(x))


def loss_of(found: tuple[Tensor, Tensor, Tensor] | Tensor) -> float:
    return float(found[0]) if isinstance(found, tuple) else float(found)


def every_loss(weights: Tensor, smoothing: float = 0.2) -> dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Any]]:
    """Losses of one pair, of 4 and 6 tokens, as functions of policy and reference."""
    sizes: dict[str, Any] = {"chosen_lengths": one(4), "rejected_lengths": one(6)}
    common: dict[str, Any] = {"beta": 0.3, "weights": weights}
    return {
        "dpo": partial(dpo, **common),
        "cdpo": partial(dpo, **common, label_smoothing=smoothing),
        "robust": partial(robust, **common, label_smoothing=smoothing),
        "hinge": partial(hinge, **common),
        "ipo": partial(ipo, **sizes, **common),
        "simpo": lambda chosen, rejected, *_: simpo(chosen, rejected, **sizes, **common, gamma=0.7),
    }


# Log-ratios: chosen −3 + 5 = 2, rejected −7 + 4 = −3. With β = 0.3 the margin m is 1.5.
POLICY_AND_REFERENCE = (one(-3.0), one(-7.0), one(-5.0), one(-4.0))
MARGIN = 1.5
BY_HAND = {
    "dpo": -log_sigmoid(MARGIN),
    "cdpo": -0.8 * log_sigmoid(MARGIN) - 0.2 * log_sigmoid(-MARGIN),
    "robust": (-0.8 * log_sigmoid(MARGIN) + 0.2 * log_sigmoid(-MARGIN)) / 0.6,
    "hinge": 0.0,  # 1 − 1.5 < 0
    "ipo": (2 / 4 + 3 / 6 - 1 / 0.6) ** 2,
    "simpo": -log_sigmoid(0.3 * (-3 / 4 + 7 / 6) - 0.7),
}
# dL/d log π(y⁺) and dL/d log π(y⁻): d(−log σ(m))/dm = −σ(−m), dm/d log π(y⁺) = β = −dm/d log π(y⁻).
BACK, FORTH = 1 / (1 + math.exp(MARGIN)), 1 / (1 + math.exp(-MARGIN))
SIMPO_BACK = 1 / (1 + math.exp(0.3 * (-3 / 4 + 7 / 6) - 0.7))
GRADIENTS_BY_HAND = {
    "dpo": (-0.3 * BACK, 0.3 * BACK),
    "cdpo": (0.3 * (-0.8 * BACK + 0.2 * FORTH), -0.3 * (-0.8 * BACK + 0.2 * FORTH)),
    "robust": (0.3 * (-0.8 * BACK - 0.2 * FORTH) / 0.6, -0.3 * (-0.8 * BACK - 0.2 * FORTH) / 0.6),
    "hinge": (0.0, 0.0),
    "ipo": (2 * (1 - 1 / 0.6) / 4, -2 * (1 - 1 / 0.6) / 6),
    "simpo": (-SIMPO_BACK * 0.3 / 4, SIMPO_BACK * 0.3 / 6),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_loss_and_gradient_by_hand(name: str) -> None:
    policy = [term.clone().requires_grad_() for term in POLICY_AND_REFERENCE[:2]]
    found, chosen, rejected = every_loss(one(2.0))[name](policy[0], policy[1], *POLICY_AND_REFERENCE[2:])
    assert found.item() == pytest.approx(2 * BY_HAND[name], rel=1e-12)
    assert not chosen.requires_grad and not rejected.requires_grad
    found.sum().backward()
    for term, expected in zip(policy, GRADIENTS_BY_HAND[name], strict=True):
        assert term.grad is not None
        assert term.grad.item() == pytest.approx(2 * expected, rel=1e-12, abs=1e-15)


def test_hinge_below_its_margin() -> None:
    # The sides swapped: m = −1.5, loss 1 + 1.5, slope −β and β.
    rejected, chosen = (term.clone().requires_grad_() for term in POLICY_AND_REFERENCE[:2])
    found, *_ = hinge(chosen, rejected, *POLICY_AND_REFERENCE[:1:-1], beta=0.3, weights=one(1.0))
    assert found.item() == pytest.approx(2.5)
    found.sum().backward()
    assert chosen.grad is not None and rejected.grad is not None
    assert (chosen.grad.item(), rejected.grad.item()) == pytest.approx((-0.3, 0.3))


def test_rewards_by_hand() -> None:
    rewards = {name: make(*POLICY_AND_REFERENCE)[1:] for name, make in every_loss(one(9.0)).items()}
    for name in ("dpo", "cdpo", "robust", "hinge"):
        assert [r.item() for r in rewards[name]] == pytest.approx([0.6, -0.9])
    assert [r.item() for r in rewards["ipo"]] == pytest.approx([0.15, -0.15])
    assert [r.item() for r in rewards["simpo"]] == pytest.approx([-0.3 * 3 / 4, -0.3 * 7 / 6])


def test_nll_is_the_mean_over_the_replys_tokens() -> None:
    found = nll(torch.tensor([-6.0, -6.0]), torch.tensor([3.0, 12.0]), torch.tensor([1.0, 4.0]))
    assert found.tolist() == [2.0, 2.0]


@given(logps, logps, logps, logps, st.floats(0, 10))
def test_a_weight_is_a_factor(a: float, b: float, c: float, d: float, weight: float) -> None:
    terms = [one(x) for x in (a, b, c, d)]
    plain, weighted = every_loss(one(1.0)), every_loss(one(weight))
    for name in plain:
        assert loss_of(weighted[name](*terms)) == pytest.approx(weight * loss_of(plain[name](*terms)), rel=1e-9)
        assert weighted[name](*terms)[1:] == plain[name](*terms)[1:]
    assert loss_of(nll(one(a), one(4), one(weight))) == pytest.approx(-weight * a / 4)


@given(logps, logps, logps, logps, st.floats(-30, 30))
def test_only_differences_count(a: float, b: float, c: float, d: float, shift: float) -> None:
    """What policy and reference gain alike on a reply changes nothing; SimPO sees no reference at all."""
    for name, make in every_loss(one(1.0)).items():
        before = loss_of(make(one(a), one(b), one(c), one(d)))
        moved = (one(a), one(b), one(c + shift), one(d))
        if name != "simpo":
            moved = (one(a + shift), one(b), one(c + shift), one(d))
        assert loss_of(make(*moved)) == pytest.approx(before, rel=1e-9, abs=1e-9), name
        if name not in ("ipo", "simpo"):  # their two replies differ in length
            both = make(one(a + shift), one(b + shift), one(c), one(d))
            assert loss_of(both) == pytest.approx(before, rel=1e-9, abs=1e-9), name


@given(logps, logps, logps, logps, betas, smoothings)
def test_smoothing_is_a_mean_over_flipped_preferences(
    a: float, b: float, c: float, d: float, beta: float, smoothing: float
) -> None:
    chosen, rejected, ref_chosen, ref_rejected = one(a), one(b), one(c), one(d)
    common: dict[str, Any] = {"beta": beta, "weights": one(1.0)}
    right, wrong = (chosen, rejected, ref_chosen, ref_rejected), (rejected, chosen, ref_rejected, ref_chosen)
    clean, flipped = (loss_of(dpo(*order, **common)) for order in (right, wrong))
    smooth = loss_of(dpo(*right, **common, label_smoothing=smoothing))
    assert smooth == pytest.approx((1 - smoothing) * clean + smoothing * flipped, rel=1e-9)
    # Robust DPO is unbiased: its mean over labels flipped with that probability is DPO's loss of the right label.
    kept, swapped = (loss_of(robust(*order, **common, label_smoothing=smoothing)) for order in (right, wrong))
    assert (1 - smoothing) * kept + smoothing * swapped == pytest.approx(clean, rel=1e-6, abs=1e-9)


@given(smoothings, betas)
def test_conservative_dpo_is_least_where_the_model_is_as_sure_as_the_labels(smoothing: float, beta: float) -> None:
    margin = math.log((1 - smoothing) / smoothing)
    chosen = one(margin / beta).requires_grad_()
    zero = one(0.0)
    found, *_ = dpo(chosen, zero, zero, zero, beta=beta, weights=one(1.0), label_smoothing=smoothing)
    found.sum().backward()
    assert chosen.grad is not None
    assert chosen.grad.item() == pytest.approx(0.0, abs=1e-9)


@given(logps, logps, logps, lengths, lengths, betas)
def test_ipo_is_zero_at_its_target_and_symmetric_around_it(
    a: float, c: float, d: float, chosen_length: int, rejected_length: int, beta: float
) -> None:
    sizes: dict[str, Any] = {"chosen_lengths": one(chosen_length), "rejected_lengths": one(rejected_length)}

    def at(margin: float) -> float:
        rejected = d + rejected_length * ((a - c) / chosen_length - margin)
        return loss_of(ipo(one(a), one(rejected), one(c), one(d), **sizes, beta=beta, weights=one(1.0)))

    target = 1 / (2 * beta)
    assert at(target) == pytest.approx(0.0, abs=1e-9)
    assert at(target - 2) == pytest.approx(at(target + 2)) == pytest.approx(4.0)


@given(logps, logps, lengths, lengths, betas, st.floats(0, 3))
def test_simpo_with_sides_swapped_and_gamma_negated_is_its_complement(
    a: float, b: float, m: int, n: int, beta: float, gamma: float
) -> None:
    """σ(x) + σ(−x) = 1: exp of minus the two losses sum to 1."""
    there = simpo(
        one(a), one(b), chosen_lengths=one(m), rejected_lengths=one(n), beta=beta, gamma=gamma, weights=one(1.0)
    )
    back = simpo(
        one(b), one(a), chosen_lengths=one(n), rejected_lengths=one(m), beta=beta, gamma=-gamma, weights=one(1.0)
    )
    assert math.exp(-loss_of(there)) + math.exp(-loss_of(back)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "sft"])
def test_the_nll_term_is_added_to_any_preference_loss(name: str) -> None:
    sides = dict(zip(BOTH, POLICY_AND_REFERENCE[:2], strict=True))
    reference = dict(zip(BOTH, POLICY_AND_REFERENCE[2:], strict=True))
    sizes = dict(zip(BOTH, (one(4), one(6)), strict=True))
    smoothing = 0.1 if name == "robust" else 0.0
    found = []
    for weight in (0.0, 0.5):
        settings = Training(objective=name, label_smoothing=smoothing, nll_weight=weight, beta=0.3)
        found.append(OBJECTIVES[name].losses(Terms(sides, reference, sizes, one(2.0), settings)))
    assert float(found[1].losses - found[0].losses) == pytest.approx(0.5 * 2 * 3 / 4)
    assert tuple(found[0].metrics) == REWARDS
    assert found[0].metrics == found[1].metrics


@pytest.fixture(scope="module")
def theirs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer on five pairs, whose loss is chosen in each test."""
    torch.manual_seed(3)
    trainer = dpo_trainer(
        prepare(load_causal(str(tiny), torch.float32), Training(model=str(tiny))),
        load_causal(str(tiny), torch.float32),
        tiny,
        sorted(make_pairs(5), key=lambda pair: pair.pair_id),
        tmp_path_factory.mktemp("trl"),
    )
    nudge(trainer.model)
    return trainer


def their_step(
    trainer: Any, kinds: list[str], weights: list[float], smoothing: float, rows: list[int]
) -> tuple[float, dict[str, Tensor]]:
    trainer.loss_types, trainer.loss_weights = kinds, weights
    trainer.beta, trainer.label_smoothing = 0.3, smoothing
    trainer.model.zero_grad()
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([trainer.train_dataset[i] for i in rows]))
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


CASES: dict[str, tuple[dict[str, Any], list[str], list[float], float, int]] = {
    # Ours, TRL's loss types and their weights, smoothing, and how many pairs. TRL's sums over a batch equal ours on one
    # pair only where they sort it (`aot`) or take one mean over all its tokens (`sft`).
    "ipo": ({"objective": "ipo"}, ["ipo"], [1.0], 0.0, 5),
    "hinge": ({"objective": "hinge"}, ["hinge"], [1.0], 0.0, 5),
    "robust": ({"objective": "robust", "label_smoothing": 0.15}, ["robust"], [1.0], 0.15, 5),
    "dpo": ({"objective": "dpo"}, ["sigmoid"], [1.0], 0.0, 5),
    "conservative dpo": ({"objective": "dpo", "label_smoothing": 0.15}, ["aot"], [1.0], 0.15, 1),
    "dpo and nll": ({"objective": "dpo", "nll_weight": 0.4}, ["sigmoid", "sft"], [1.0, 0.4], 0.0, 1),
    "ipo and nll": ({"objective": "ipo", "nll_weight": 0.4}, ["ipo", "sft"], [1.0, 0.4], 0.0, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_trl(tiny: Path, tmp_path: Path, theirs: Any, case: str) -> None:
    changes, kinds, weights, smoothing, count = CASES[case]
    their_loss, their_grads = their_step(theirs, kinds, weights, smoothing, list(range(count)))
    settings = Training(model=str(tiny), beta=0.3, micro_batch_size=2, max_grad_norm=1e9, **changes)
    pairs = encoded_pairs(tiny)[:count]
    torch.manual_seed(3)
    model = prepare(load_causal(str(tiny), torch.float32), settings)
    trainer = our_trainer(model, settings, pairs, tmp_path, settings.objective)
    trainer.references = references(model, pairs, tmp_path)
    nudge(model)
    loss, grads = our_step(trainer, pairs)
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert relative(grads, their_grads) < 1e-5


def references(model: Any, pairs: list[Encoded], folder: Path) -> Any:
    store = ReferenceStore(folder / "reference.parquet")
    return reference_logps(model, pairs, BOTH, fingerprint="f", precision="fp32", step=PlainStep(2), store=store)


def test_simpo_equals_trl() -> None:
    """TRL's `CPOTrainer.cpo_loss` on the same log-probabilities: it takes them as means over tokens."""
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    stream = torch.Generator().manual_seed(0)
    chosen, rejected = (-20 * torch.rand(8, generator=stream, dtype=torch.float64) - 1 for _ in range(2))
    sizes = [torch.randint(1, 30, (8,), generator=stream).double() for _ in range(2)]
    chosen.requires_grad_()
    rejected.requires_grad_()
    self = SimpleNamespace(
        alpha=0.0,
        loss_type="simpo",
        simpo_gamma=1.4,
        beta=2.5,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device=torch.device("cpu")),
    )
    expected = cpo.CPOTrainer.cpo_loss(self, chosen / sizes[0], rejected / sizes[1])
    found = simpo(
        chosen,
        rejected,
        chosen_lengths=sizes[0],
        rejected_lengths=sizes[1],
        beta=2.5,
        gamma=1.4,
        weights=torch.ones(8, dtype=torch.float64),
    )
    slopes = (torch.autograd.grad(losses.sum(), [chosen, rejected]) for losses in (found[0], expected[0]))
    for ours, trls in (*zip(found, expected, strict=True), *zip(*slopes, strict=True)):
        assert torch.allclose(ours, trls, rtol=1e-12)
