"""How policies are trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlhi.settings.base import Section


class Lora(Section):
    """Low-rank adapters (PEFT)."""

    r: int = Field(16, ge=1)
    """Rank."""
    alpha: int = Field(32, ge=1)
    """Scale."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter."""


PreferenceObjective = Literal["dpo", "ipo", "hinge", "robust", "simpo"]


class Training(Section):
    """How a policy is trained; the defaults are those of 2506.21495 on the same model and data."""

    model: str = "embedded"
    """Name or path of the transformers model to start from, also the reference; `embedded` = the shipped one."""
    objective: PreferenceObjective = "dpo"
    """Loss of the preference arms."""
    method: Literal["full", "lora", "qlora"] = "full"
    """Train all weights, an adapter, or an adapter on a base in 4 bits (bitsandbytes, on CUDA)."""
    lora: Lora = Lora()
    """Used with `method: lora` and `qlora`."""
    beta: float = Field(0.01, gt=0)
    """Strength of the tie to the reference: DPO's β. It has another scale in `ipo` (its τ) and `simpo` (2 to 10)."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of preferences taken to be wrong; with `dpo` (its conservative form) and `robust` only."""
    simpo_gamma: float = Field(0.5, ge=0)
    """Target margin of `simpo`."""
    nll_weight: float = Field(0.0, ge=0)
    """Factor on the chosen reply's mean negative log-likelihood, added to the preference loss; 0 = without."""
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate."""
    sft_learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of SFT arms; null = the same."""
    batch_size: int = Field(32, ge=1)
    """Pairs per optimizer step."""
    step: Literal["auto", "trees", "plain"] = "auto"
    """How a step is computed, to the same loss: `trees` = tokens that sequences share from the start only once;
    `plain` = each side of each pair by itself; `auto` = trees where the model passes a check."""
    max_tokens_per_pass: int = Field(8192, ge=16)
    """Distinct tokens per forward pass on trees; a pair beyond that is a pass of its own."""
    micro_batch_size: int = Field(8, ge=1)
    """Pairs per forward pass of the plain step."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    warmup_ratio: float = Field(0.1, ge=0, le=1)
    """Share of steps with rising learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Course of the learning rate after the warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's."""
    max_grad_norm: float = Field(0.1, gt=0)
    """Gradient clipping."""
    max_length: int = Field(4096, ge=16)
    """Longest pair, in tokens."""
    too_long: Literal["drop", "truncate"] = "drop"
    """A longer pair is dropped with a reason, or loses its oldest turns (never the system message); both are counted
    and listed."""
    validation: float = Field(0.1, ge=0, lt=1)
    """Share of pairs, by user, on which the loss is measured and nothing is learnt."""
    eval_steps: int | None = Field(None, ge=1)
    """Optimizer steps between measurements on the held-out pairs; null = before and after training only."""
    save_steps: int = Field(50, ge=1)
    """Optimizer steps between checkpoints."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast precision."""
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Trackers that follow the training live; each is a package of its own."""

    @model_validator(mode="after")
    def _objective_fits(self) -> Training:
        if self.objective == "robust" and self.label_smoothing == 0:
            raise ValueError("objective `robust` needs label_smoothing between 0 and 0.5, the share of wrong labels")
        if self.label_smoothing and self.objective not in ("dpo", "robust"):
            raise ValueError(
                f"label_smoothing={self.label_smoothing:g} has no meaning with objective `{self.objective}`: "
                "it belongs to `dpo` and `robust`"
            )
        default = type(self).model_fields["simpo_gamma"].default
        if self.simpo_gamma != default and self.objective != "simpo":
            raise ValueError(f"simpo_gamma={self.simpo_gamma:g} is for `simpo`, not for objective `{self.objective}`")
        return self
