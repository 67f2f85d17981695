"""Training objectives: a loss on log-probabilities, which sides it looks at, and what its mean is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlhi.settings import Training
from rlhi.training.objectives import losses as loss
from rlhi.training.tokenize import Encoded, Side


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective may look at, for some pairs; tensors have shape [P]."""

    policy: Mapping[Side, Tensor]
    """Log-probabilities under the policy, in nats."""
    reference: Mapping[Side, Tensor]
    """Log-probabilities under the reference, in nats; empty where the objective needs none."""
    lengths: Mapping[Side, Tensor]
    """Tokens of the replies."""
    weights: Tensor
    """Factor on each pair's loss."""
    settings: Training
    """`beta`, `label_smoothing`, `simpo_gamma` and `nll_weight` are an objective's."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What an objective says of some pairs."""

    losses: Tensor
    """Loss of each pair, before it is normalised."""
    metrics: Mapping[str, Tensor]
    """Figures of each pair without gradient; their mean over pairs is logged."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss, the sides that it looks at, and what its mean is taken over."""

    sides: tuple[Side, ...]
    """Replies whose log-probability it needs."""
    uses_reference: bool
    """Whether it compares with the reference."""
    mean_over: Literal["pairs", "tokens"]
    """What the sum of losses over an optimizer step is divided by; weights do not change it."""
    metrics: tuple[str, ...]
    """Names of the figures that it gives."""
    losses: Callable[[Terms], Losses]
    """The loss itself."""

    def units(self, pairs: Sequence[Encoded]) -> int:
        """What the sum of the pairs' losses is divided by."""
        if self.mean_over == "pairs":
            return len(pairs)
        return sum(len(pair.completion(side)) for pair in pairs for side in self.sides)


def terms_of(
    pairs: Sequence[Encoded],
    policy: Mapping[Side, Tensor],
    reference: Mapping[Side, Tensor],
    settings: Training,
    device: torch.device,
) -> Terms:
    """An objective's view of some pairs, given their log-probabilities."""

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    lengths = {side: column([len(pair.completion(side)) for pair in pairs]) for side in policy}
    return Terms(policy, reference, lengths, column([pair.weight for pair in pairs]), settings)


def _referenced(terms: Terms) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    policy, reference = terms.policy, terms.reference
    return policy["chosen"], policy["rejected"], reference["chosen"], reference["rejected"]


def _dpo(terms: Terms) -> loss.Rewarded:
    beta, smoothing = terms.settings.beta, terms.settings.label_smoothing
    return loss.dpo(*_referenced(terms), beta=beta, weights=terms.weights, label_smoothing=smoothing)


def _robust(terms: Terms) -> loss.Rewarded:
    beta, smoothing = terms.settings.beta, terms.settings.label_smoothing
    return loss.robust(*_referenced(terms), beta=beta, weights=terms.weights, label_smoothing=smoothing)


def _hinge(terms: Terms) -> loss.Rewarded:
    return loss.hinge(*_referenced(terms), beta=terms.settings.beta, weights=terms.weights)


def _ipo(terms: Terms) -> loss.Rewarded:
    return loss.ipo(
        *_referenced(terms),
        chosen_lengths=terms.lengths["chosen"],
        rejected_lengths=terms.lengths["rejected"],
        beta=terms.settings.beta,
        weights=terms.weights,
    )


def _simpo(terms: Terms) -> loss.Rewarded:
    return loss.simpo(
        terms.policy["chosen"],
        terms.policy["rejected"],
        chosen_lengths=terms.lengths["chosen"],
        rejected_lengths=terms.lengths["rejected"],
        beta=terms.settings.beta,
        gamma=terms.settings.simpo_gamma,
        weights=terms.weights,
    )


REWARDS = ("accuracy", "margin", "chosen_reward", "rejected_reward")
"""Figures of every preference objective: rewards in its own sense, and how often the chosen side has the higher one."""


def _preference(rewarded: Callable[[Terms], loss.Rewarded], *, uses_reference: bool = True) -> Objective:
    def losses(terms: Terms) -> Losses:
        found, chosen, rejected = rewarded(terms)
        if terms.settings.nll_weight:
            likelihood = loss.nll(terms.policy["chosen"], terms.lengths["chosen"], terms.weights)
            found = found + terms.settings.nll_weight * likelihood
        margin = chosen - rejected
        accuracy = (margin > 0).to(margin.dtype) + 0.5 * (margin == 0).to(margin.dtype)
        return Losses(found, dict(zip(REWARDS, (accuracy, margin, chosen, rejected), strict=True)))

    return Objective(("chosen", "rejected"), uses_reference, "pairs", REWARDS, losses)


def _sft(terms: Terms) -> Losses:
    return Losses(loss.sft(terms.policy["chosen"], terms.weights), {})


OBJECTIVES: dict[str, Objective] = {
    "dpo": _preference(_dpo),
    "ipo": _preference(_ipo),
    "hinge": _preference(_hinge),
    "robust": _preference(_robust),
    "simpo": _preference(_simpo, uses_reference=False),
    "sft": Objective(sides=("chosen",), uses_reference=False, mean_over="tokens", metrics=(), losses=_sft),
}
