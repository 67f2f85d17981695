"""How preference pairs are made."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from rlhi.settings.base import Section


class Rollout(Section):
    """How the policy answers while pairs are made (rollouts: T=1, top-p=1 in 2506.21495)."""

    temperature: float = Field(1.0, ge=0)
    """Temperature."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus."""
    max_tokens: int = Field(1024, ge=1)
    """Limit on a reply, in tokens."""


class Ugr(Section):
    """User-guided rewrites."""

    enabled: bool = True
    """Make these pairs."""
    regenerate: bool = True
    """Let the policy answer anew, so that the rejected side is on-policy; otherwise the logged reply is used."""
    rewrites: int = Field(1, ge=1)
    """Rewrites per feedback; the best by reward is kept."""
    min_confidence: float = Field(0.5, ge=0, le=1)
    """Labels below are not used."""
    validity_margin: float = 2.0
    """With `roles.validity: local`: feedback no longer applies to a reply that meets it better than the logged reply
    does by more than this; in nats, or points of the rubric."""
    min_margin: float = 0.0
    """The rewrite must beat the reply by more than this, in the reward model's unit."""
    max_slip: float | None = Field(None, ge=0)
    """With `roles.reward: local`: a rewrite is left out where the policy, not told of the user, finds it less likely
    than the reply by more than this, in nats per token: it slips. Null = no limit."""
    max_per_user: int = Field(100, ge=1)
    """Most pairs from one user; which ones is drawn by seed."""


class Ubr(Section):
    """User-based rewards."""

    enabled: bool = True
    """Make these pairs."""
    candidates: int = Field(64, ge=2)
    """Replies sampled per request."""
    min_margin: float = Field(0.0, ge=0)
    """Least difference of reward between best and worst, in the reward model's unit."""
    max_per_user: int = Field(100, ge=1)
    """Most pairs from one user; which ones is drawn by seed."""


PairSource = Literal["ugr", "ubr"]
PAIR_SOURCES: tuple[PairSource, ...] = get_args(PairSource)


def pair_stage(source: PairSource) -> str:
    """Name of the stage that makes the pairs of a source."""
    return f"pairs/{source}"


class Pairs(Section):
    """How preference pairs are made."""

    rollout: Rollout = Rollout()
    """Sampling of replies, candidates and rewrites."""
    fluency: float = Field(2.0, ge=0)
    """With `roles.reward: local`: weight of a reply's mean log-probability per token beside the nats that the persona
    adds to the whole reply."""
    length_slope: float = Field(0.0, ge=0)
    """With `roles.reward: local`: what is taken off that mean for each factor e of length, in nats; longer replies have
    likelier tokens, and their length is not why."""
    ratings: int = Field(1, ge=1)
    """With a chat model as `roles.reward`: ratings per reply; several are sampled and averaged, which breaks ties."""
    max_prompt_tokens: int = Field(4096, ge=16)
    """Longer prompts are dropped with a reason, in the policy's tokens. The limit is lower where the policy could not
    read the prompt and write a reply of the full length."""
    max_length_ratio: float = Field(4.0, gt=1)
    """Chosen and rejected may differ in length by this factor at most, in characters."""
    ugr: Ugr = Ugr()
    """User-guided rewrites."""
    ubr: Ubr = Ubr()
    """User-based rewards."""

    def enabled(self) -> tuple[PairSource, ...]:
        """The sources of pairs that are switched on."""
        return tuple(source for source in PAIR_SOURCES if getattr(self, source).enabled)
