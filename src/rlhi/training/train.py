"""Train a policy on pairs: `train` does everything, resumes by itself, and gives the same bytes for the same seed.

The same bytes hold on a CPU for the same versions and number of threads (sums are split by thread); on a GPU some
kernels add in varying order.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import set_seed

from rlhi.errors import StageError
from rlhi.flow import processes
from rlhi.records import Dropped, PreferencePair, digest
from rlhi.settings import PreferenceObjective, Training
from rlhi.training import checkpoint, export, requirements
from rlhi.training.objectives import OBJECTIVES, Objective
from rlhi.training.plan import hold_out, step_batches
from rlhi.training.policy import load_causal, load_tokenizer, prepare
from rlhi.training.reference import ReferenceStore, model_fingerprint, reference_logps
from rlhi.training.steps import choose
from rlhi.training.tokenize import Encoded, encode_all
from rlhi.training.trainer import OnStep, PairTrainer


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training came to; its files lie in the output folder."""

    steps: int
    """Optimizer steps."""
    pairs: int
    """Pairs trained on."""
    held_out: int
    """Pairs of held-out users, on which only the loss was measured."""
    dropped: list[Dropped]
    """Pairs left out, each with its reason."""
    metrics: dict[str, float]
    """Figures of the last step (`loss`, for DPO also `accuracy`, `margin`, …) and, where pairs were held out, theirs
    before and after (`validation_loss_before`, `validation_loss_after`, …)."""
    validation: str
    """A sentence on what was held out, or why nothing was."""

    step: str
    """A sentence on how steps were computed, and why so."""
    shortened: dict[str, int]
    """Pairs that lost their oldest messages so that they fit: how many, by pair id."""

    def drop_counts(self) -> dict[str, int]:
        """How many pairs were dropped for each reason."""
        return _counts(self.dropped)


@dataclass(frozen=True, slots=True)
class _Data:
    training: list[Encoded]
    validating: list[Encoded]
    validation: str
    dropped: list[Dropped]

    def longest(self, goal: Objective) -> int:
        """Tokens of the longest sequence."""
        return max(pair.length(goal.sides) for pair in [*self.training, *self.validating])


def train(
    pairs: Sequence[PreferencePair],
    settings: Training,
    *,
    objective: PreferenceObjective | Literal["sft"],
    seed: int,
    out: Path,
    name: str = "",
    on_step: OnStep | None = None,
) -> TrainingResult:
    """Train `settings.model` on pairs and write the policy into `out`.

    `name` is what trackers call it. Under `accelerate launch` every process calls this; the first one writes.
    `on_step(step, steps)` is called after each optimizer step. Called again after an interruption it goes on from the
    last whole checkpoint under `out/checkpoints`, to the very weights of an undisturbed run; called again when
    finished it returns at once. It seeds the global random streams of Python, NumPy and torch.

    Raises `UsageError` for a model that cannot be used, `StageError` when no pair is left or the loss is not finite.
    """
    requirements.check(settings)
    goal = OBJECTIVES[objective]
    tokenizer = load_tokenizer(settings.model)
    model = load_causal(settings.model, _dtype(settings), in_4_bits=settings.method == "qlora")
    data = _gather(pairs, tokenizer, _max_length(settings, model), settings, goal=goal, seed=seed)
    reference = model_fingerprint(model, settings.precision)
    identity = _identity(data, settings, objective=objective, seed=seed, reference=reference)
    summary = export.read_summary(out, identity)
    processes.wait()  # all have looked before the first may move a finished policy away
    if summary is None:
        set_seed(seed)
        trainer = PairTrainer(
            prepare(model, settings),
            settings,
            goal,
            batches=step_batches(data.training, settings, seed),
            validating=data.validating,
            learning_rate=export.rate_of(settings, objective),
            seed=seed,
            folder=out / "checkpoints",
            identity=identity,
            name=name or f"{objective}-seed-{seed}",
            on_step=on_step,
        )
        trainer.step, how = choose(trainer.model, settings, data.longest(goal))
        before = _refer(trainer, data, reference, out)
        with processes.main_first():
            resume = checkpoint.latest(trainer.folder, identity)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        validations = _validations(trainer, data, before)
        summary = _summary(trainer, data, validations) | {"step": how, "objective": objective, "seed": seed}
        summary |= {"identity": identity}
        state = trainer.gathered()
        if processes.is_main():
            _write(trainer, tokenizer, summary, out, state=state, validations=validations)
        processes.wait()
    if processes.is_main():
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    kept = {key: summary[key] for key in ("steps", "pairs", "held_out", "metrics", "validation", "step", "shortened")}
    return TrainingResult(dropped=data.dropped, **kept)


def _identity(data: _Data, settings: Training, *, objective: str, seed: int, reference: str) -> str:
    return digest(
        {
            "objective": objective,
            "seed": seed,
            "settings": settings.model_dump(mode="json", exclude={"report_to"}),
            "reference": reference,
            "training": [asdict(pair) for pair in data.training],
            "validating": [asdict(pair) for pair in data.validating],
        }
    )


def _dtype(settings: Training) -> torch.dtype:
    frozen_in_bf16 = settings.method != "full" and settings.precision == "bf16"
    return torch.bfloat16 if frozen_in_bf16 else torch.float32


def _max_length(settings: Training, model: Any) -> int:
    context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(settings.max_length, context or settings.max_length)


def _counts(dropped: Sequence[Dropped]) -> dict[str, int]:
    return dict(sorted(Counter(row.reason for row in dropped).items()))


def _gather(
    pairs: Sequence[PreferencePair], tokenizer: Any, max_length: int, settings: Training, *, goal: Objective, seed: int
) -> _Data:
    encoded, dropped = encode_all(pairs, tokenizer, goal.sides, max_length, truncate=settings.too_long == "truncate")
    if not encoded:
        example = f"; for one, {dropped[0].about}: {dropped[0].detail}" if dropped else ""
        raise StageError(f"no pair is left to train on: of {len(pairs)}, dropped {_counts(dropped)}{example}")
    training, validating, sentence = hold_out(encoded, settings.validation, seed)
    return _Data(training, validating, sentence, dropped)


def _refer(trainer: PairTrainer, data: _Data, fingerprint: str, out: Path) -> dict[str, float]:
    """Give the trainer the reference's log-probabilities; returns the validation figures before training."""
    goal, settings = trainer.objective, trainer.settings
    with trainer.unsharded():
        trainer.references = reference_logps(
            trainer.model,
            [*data.training, *data.validating] if goal.uses_reference else data.validating,
            goal.sides,
            fingerprint=fingerprint,
            precision=settings.precision,
            step=trainer.step,
            store=ReferenceStore(out / "reference.parquet"),
            write=processes.is_main(),
        )
    return trainer.measure(data.validating, untrained=True) if data.validating else {}


def _validations(trainer: PairTrainer, data: _Data, before: dict[str, float]) -> list[dict[str, float]]:
    """Figures of the held-out pairs before, during and after training, by step."""
    if not data.validating:
        return []
    rows = [{"step": 0, **before}, *trainer.validations()]
    last = trainer.state.global_step
    return rows if rows[-1]["step"] == last else [*rows, {"step": last, **trainer.measure(data.validating)}]


def _summary(trainer: PairTrainer, data: _Data, validations: list[dict[str, float]]) -> dict[str, Any]:
    last = {key: value for key, value in trainer.curve()[-1].items() if key not in ("step", "lr", "grad_norm")}
    metrics = dict(last)
    for when, rows in (("before", validations[:1]), ("after", validations[-1:])):
        metrics |= {f"validation_{key}_{when}": value for row in rows for key, value in row.items() if key != "step"}
    return {
        "steps": trainer.state.global_step,
        "pairs": len(data.training),
        "held_out": len(data.validating),
        "dropped": _counts(data.dropped),
        "shortened": {pair.pair_id: pair.cut for pair in [*data.training, *data.validating] if pair.cut},
        "validation": data.validation,
        "metrics": metrics,
    }


def _write(
    trainer: PairTrainer,
    tokenizer: Any,
    summary: dict[str, Any],
    out: Path,
    *,
    state: dict[str, torch.Tensor] | None,
    validations: list[dict[str, float]],
) -> None:
    export.write_weights(trainer.accelerator.unwrap_model(trainer.model), tokenizer, out, state)
    export.write_curve(trainer.curve(), out)
    if validations:
        export.write_curve(validations, out, export.VALIDATION)
    export.write_card(summary, trainer.settings, summary["objective"], summary["seed"], out)
    export.write_summary(summary, out)
