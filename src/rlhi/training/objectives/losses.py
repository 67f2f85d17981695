"""Losses as plain functions of log-probabilities.

Tensors have shape [P], one value per pair. Log-probabilities are sums over a reply's tokens, in nats; lengths count
those tokens. `weights` is a factor w on each pair's loss. A preference loss gives three tensors: losses, and rewards
of the chosen and of the rejected reply, which carry no gradient. TRL stands for `DPOTrainer` of TRL 1.16, which has no
weights.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Rewarded = tuple[Tensor, Tensor, Tensor]


def dpo(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
    weights: Tensor,
    label_smoothing: float = 0.0,
) -> Rewarded:
    """Direct preference optimisation, with `label_smoothing` ε > 0 its conservative form.

    r(y) = β (log π(y|x) − log π_ref(y|x)), m = r(y⁺) − r(y⁻), loss = −w [(1 − ε) log σ(m) + ε log σ(−m)].
    Rafailov et al. 2023 (arXiv 2305.18290), eq. 7, with the implicit reward of its section 5.1; ε is the share of wrong
    preferences in Mitchell 2023 (ericmitchell.ai/cdpo.pdf), eq. 3. TRL's `sigmoid` ignores its `label_smoothing`; its
    `aot` has this form, on sorted log-ratios.
    """
    chosen = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected = beta * (policy_rejected_logps - reference_rejected_logps)
    margin = chosen - rejected
    losses = -(1 - label_smoothing) * logsigmoid(margin)
    if label_smoothing:
        losses = losses - label_smoothing * logsigmoid(-margin)
    return weights * losses, chosen.detach(), rejected.detach()


def robust(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
    weights: Tensor,
    label_smoothing: float,
) -> Rewarded:
    """Robust DPO: an unbiased estimate of DPO's loss where a share ε = `label_smoothing` < 1/2 of labels is flipped.

    loss = −w [(1 − ε) log σ(m) − ε log σ(−m)] / (1 − 2ε), m as in `dpo`; it has no lower bound. Chowdhury et al. 2024
    (arXiv 2403.00409), the loss of rDPO in section 3. TRL's `robust`.
    """
    chosen = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected = beta * (policy_rejected_logps - reference_rejected_logps)
    margin = chosen - rejected
    clean, flipped = -logsigmoid(margin), -logsigmoid(-margin)
    losses = ((1 - label_smoothing) * clean - label_smoothing * flipped) / (1 - 2 * label_smoothing)
    return weights * losses, chosen.detach(), rejected.detach()


def ipo(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float,
    weights: Tensor,
) -> Rewarded:
    """Identity preference optimisation: the difference of mean log-ratios per token is drawn to 1/(2β).

    h(y) = (log π(y|x) − log π_ref(y|x)) / |y|, loss = w (h(y⁺) − h(y⁻) − 1/(2β))², reward β h(y). Azar et al. 2023
    (arXiv 2310.12036), eq. 17, where β is τ and log-ratios are sums: with lengths of 1 this is that form. The mean over
    tokens is TRL's `ipo`, which says that the authors used it; TRL logs rewards of the sums.
    """
    chosen = (policy_chosen_logps - reference_chosen_logps) / chosen_lengths
    rejected = (policy_rejected_logps - reference_rejected_logps) / rejected_lengths
    losses = (chosen - rejected - 1 / (2 * beta)) ** 2
    return weights * losses, beta * chosen.detach(), beta * rejected.detach()


def hinge(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
    weights: Tensor,
) -> Rewarded:
    """Hinge loss w max(0, 1 − m), m as in `dpo`.

    The calibration loss of SLiC-HF, Zhao et al. 2023 (arXiv 2305.10425), eq. 4, without its regulariser (`nll` can take
    its place) and normalised by the reference: `hinge-norm` of Liu et al. 2023 (arXiv 2309.06657). TRL's `hinge`.
    """
    chosen = beta * (policy_chosen_logps - reference_chosen_logps)
    rejected = beta * (policy_rejected_logps - reference_rejected_logps)
    return weights * torch.relu(1 - (chosen - rejected)), chosen.detach(), rejected.detach()


def simpo(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float,
    gamma: float,
    weights: Tensor,
) -> Rewarded:
    """SimPO: no reference, the mean log-probability per token as reward, and a target margin γ.

    r(y) = β log π(y|x) / |y|, loss = −w log σ(r(y⁺) − r(y⁻) − γ). Meng et al. 2024 (arXiv 2405.14734), eq. 6. TRL's
    `DPOTrainer` has no such loss; this is `simpo` of its experimental `CPOTrainer` with `cpo_alpha` 0.
    """
    chosen = beta * policy_chosen_logps / chosen_lengths
    rejected = beta * policy_rejected_logps / rejected_lengths
    return -weights * logsigmoid(chosen - rejected - gamma), chosen.detach(), rejected.detach()


def nll(policy_chosen_logps: Tensor, chosen_lengths: Tensor, weights: Tensor) -> Tensor:
    """Mean negative log-likelihood per token of the chosen reply, −w log π(y⁺|x) / |y⁺|, to add to a preference loss.

    Pang et al. 2024 (arXiv 2404.19733), eq. 1, where its factor is α. Each pair counts the same whatever its length;
    TRL (`loss_type=["sigmoid", "sft"]`) takes one mean over all chosen tokens of a batch instead.
    """
    return -weights * policy_chosen_logps / chosen_lengths


def sft(policy_chosen_logps: Tensor, weights: Tensor) -> Tensor:
    """Negative log-likelihood of each chosen reply, −w log π(y⁺|x), in nats; the mean is taken over tokens."""
    return -weights * policy_chosen_logps
