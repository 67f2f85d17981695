"""Training objectives, as plain functions of log-probabilities.

Tensors have shape [P], one value per pair. Log-probabilities are sums over a reply's tokens, in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhi.training.tokenize import Encoded, Side


def dpo(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
    weights: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Direct preference optimisation: losses, chosen rewards and rejected rewards of each pair.

    r(y) = β (log π(y|x) − log π_ref(y|x)), loss = −w log σ(r(y⁺) − r(y⁻)): Rafailov et al. 2023 (arXiv 2305.18290),
    eq. 7, with the implicit reward of its section 5.1 and a weight w per pair. The rewards carry no gradient.
    """
    chosen = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected = beta * (policy_rejected_logps - reference_rejected_logps)
    return -weights * logsigmoid(chosen - rejected), chosen.detach(), rejected.detach()


def sft(policy_chosen_logps: Tensor, weights: Tensor) -> Tensor:
    """Negative log-likelihood of each chosen reply, −w log π(y⁺|x), in nats; the mean is taken over tokens."""
    return -weights * policy_chosen_logps


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective may look at, for some pairs."""

    policy: Mapping[Side, Tensor]
    """Log-probabilities under the policy."""
    reference: Mapping[Side, Tensor]
    """Log-probabilities under the reference; empty where the objective needs none."""
    weights: Tensor
    """Factor on each pair's loss."""
    beta: float
    """Strength of the tie to the reference."""


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


def _dpo(terms: Terms) -> Losses:
    losses, chosen, rejected = dpo(
        terms.policy["chosen"],
        terms.policy["rejected"],
        terms.reference["chosen"],
        terms.reference["rejected"],
        beta=terms.beta,
        weights=terms.weights,
    )
    margin = chosen - rejected
    accuracy = (margin > 0).to(margin.dtype) + 0.5 * (margin == 0).to(margin.dtype)
    return Losses(
        losses, {"accuracy": accuracy, "margin": margin, "chosen_reward": chosen, "rejected_reward": rejected}
    )


def _sft(terms: Terms) -> Losses:
    return Losses(sft(terms.policy["chosen"], terms.weights), {})


OBJECTIVES: dict[str, Objective] = {
    "dpo": Objective(
        sides=("chosen", "rejected"),
        uses_reference=True,
        mean_over="pairs",
        metrics=("accuracy", "margin", "chosen_reward", "rejected_reward"),
        losses=_dpo,
    ),
    "sft": Objective(sides=("chosen",), uses_reference=False, mean_over="tokens", metrics=(), losses=_sft),
}


def weights_of(pairs: Sequence[Encoded], device: torch.device) -> Tensor:
    """The pairs' weights, shape [P]."""
    return torch.tensor([pair.weight for pair in pairs], dtype=torch.float32, device=device)
