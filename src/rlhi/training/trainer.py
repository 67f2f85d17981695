"""transformers' `Trainer` for preference pairs: one loss over a whole step, a timeless curve, sealed checkpoints."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments

from rlhi.errors import StageError, UsageError
from rlhi.flow import processes
from rlhi.settings import Training
from rlhi.training import checkpoint, trackers
from rlhi.training.objectives import Objective, terms_of
from rlhi.training.plan import rate_factor
from rlhi.training.policy import quiet
from rlhi.training.reference import References, reference_terms
from rlhi.training.steps import PlainStep, Step
from rlhi.training.tokenize import Encoded

OnStep = Callable[[int, int], None]


def _arguments(
    settings: Training, *, learning_rate: float, seed: int, folder: Path, name: str, eval_steps: int | None
) -> Any:
    return TrainingArguments(
        output_dir=str(folder / ".partial"),
        learning_rate=learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        num_train_epochs=1,
        per_device_train_batch_size=1,
        save_strategy="steps",
        save_steps=settings.save_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if eval_steps else "no",
        eval_steps=eval_steps,
        bf16=settings.precision == "bf16" and sharded(),
        report_to=[],
        run_name=name,
        project="rlhi",
        disable_tqdm=True,
        use_cpu=processes.on_cpu(),
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=seed,
    )


def sharded() -> bool:
    """Whether `accelerate launch` was told to spread the model over processes, by FSDP or DeepSpeed."""
    return any(os.environ.get(name) == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))


class PairTrainer(Trainer):  # type: ignore[misc]
    """Trains on steps that are planned beforehand: item i of the data is the list of pairs of optimizer step i.

    A step is cut into forward passes here and not by `gradient_accumulation_steps`, so that its loss is the same
    however it is cut: sum of the pairs' losses over all passes and processes, divided by the step's pairs or tokens.
    Rows of the curve live in the trainer's state, so a checkpoint carries them.
    """

    def __init__(
        self,
        model: Any,
        settings: Training,
        objective: Objective,
        *,
        batches: Sequence[Sequence[Encoded]],
        validating: Sequence[Encoded] = (),
        learning_rate: float,
        seed: int,
        folder: Path,
        identity: str,
        name: str = "",
        on_step: OnStep | None = None,
    ) -> None:
        eval_steps = settings.eval_steps if validating else None
        super().__init__(
            model=model,
            args=_arguments(
                settings, learning_rate=learning_rate, seed=seed, folder=folder, name=name, eval_steps=eval_steps
            ),
            train_dataset=list(batches),
            eval_dataset=list(validating),
            callbacks=trackers.callbacks(settings.report_to, folder.parent),
        )
        self.remove_callback(PrinterCallback)
        if self.args.world_size != processes.count():
            raise UsageError(
                f"{processes.count()} processes were started, but the trainer sees {self.args.world_size} of "
                "them: start them with `accelerate launch` or `torchrun`, on devices of one kind"
            )
        self.settings = settings
        self.objective = objective
        self.references: References = {}
        """The reference's log-probabilities; to be set before training."""
        self.step: Step = PlainStep(settings.micro_batch_size)
        """How pairs are run through the model; may be set before training."""
        self.folder = folder
        self.identity = identity
        self.on_step = on_step
        self._sums: Tensor | None = None
        self._batch: Sequence[Encoded] = ()

    def get_train_dataloader(self) -> Any:
        """One batch of pairs per optimizer step, the same on every process."""
        return DataLoader(self.train_dataset, batch_size=1, shuffle=False, collate_fn=lambda items: {"pairs": items[0]})

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up and schedule of the recipe."""
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer, lambda step: rate_factor(step, num_training_steps, self.settings)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it costs a walk over all parameters each step."""
        return 0

    def losses(self, model: Any, pairs: Sequence[Encoded], *, untrained: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Sum of the losses of some pairs in one pass, and sums of the objective's metrics.

        `untrained` takes the reference for the policy: that is what the policy is before training.
        """
        sides, device = self.objective.sides, self.args.device
        reference = reference_terms(self.references, pairs, sides, device) if self._needs_reference(untrained) else {}
        policy = reference if untrained else self.step.side_logps(model, pairs, sides, self.settings.precision)
        found = self.objective.losses(terms_of(pairs, policy, reference, self.settings, device))
        return found.losses.sum(), [found.metrics[name].sum() for name in self.objective.metrics]

    def _needs_reference(self, untrained: bool) -> bool:
        return untrained or self.objective.uses_reference

    def measure(self, pairs: Sequence[Encoded], *, untrained: bool = False) -> dict[str, float]:
        """Loss and metrics of some pairs without learning from them, by name; the processes share the passes."""
        sums = torch.zeros(1 + len(self.objective.metrics), device=self.args.device)
        parts = self.step.passes(pairs, self.objective.sides)
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        model.eval()
        with torch.no_grad():
            for first in range(0, len(parts), self.args.world_size):
                mine = first + self.args.process_index
                # Where parts run out, a process runs one without counting it: with FSDP the others wait for it.
                loss, metrics = self.losses(model, parts[min(mine, len(parts) - 1)], untrained=untrained)
                if mine < len(parts):
                    sums += torch.stack([loss, *metrics])
        return self._means(self.accelerator.reduce(sums, reduction="sum"), pairs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the held-out pairs and keep the figures beside the curve, once per step however often it is asked."""
        if not self.validations() or self.validations()[-1]["step"] != self.state.global_step:
            found = self.measure(self.eval_dataset)
            self.state.log_history.append({"step": self.state.global_step, "validation": found})
            self._report({f"eval_{name}": value for name, value in found.items()})
        return {f"eval_{name}": value for name, value in self.validations()[-1].items() if name != "step"}

    def _report(self, figures: dict[str, float]) -> None:
        self.control: Any = self.callback_handler.on_log(self.args, self.state, self.control, figures)

    def validations(self) -> list[dict[str, float]]:
        """One row per measurement on the held-out pairs so far, those before a resume included."""
        names = ("loss", *self.objective.metrics)  # a resumed state has them sorted
        rows = [row for row in self.state.log_history if "validation" in row]
        return [{"step": row["step"], **{name: row["validation"][name] for name in names}} for row in rows]

    @contextlib.contextmanager
    def unsharded(self) -> Iterator[None]:
        """Let the whole model work on this process's device, before it is spread over all of them."""
        moves = not self.place_model_on_device and sharded()
        if moves:
            self.model.to(self.args.device)
        yield
        if moves:
            self.model.to("cpu")

    def gathered(self) -> dict[str, Tensor] | None:
        """All weights, where they lie spread over processes; to be called on each of them."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return None
        state: dict[str, Tensor] = self.accelerator.get_state_dict(self.model_wrapped)
        return state

    def _means(self, sums: Tensor, pairs: Sequence[Encoded]) -> dict[str, float]:
        total, *metrics = sums.tolist()
        means = {"loss": total / self.objective.units(pairs)}
        return means | {name: value / len(pairs) for name, value in zip(self.objective.metrics, metrics, strict=True)}

    def curve(self) -> list[dict[str, float]]:
        """One row per optimizer step so far, those before a resume included."""
        names = ("step", "loss", *self.objective.metrics, "lr", "grad_norm")
        return [{name: row[name] for name in names} for row in self.state.log_history if "lr" in row]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over one optimizer step; returns its loss. Raises `StageError` if that is not finite."""
        model.train()
        self._batch = inputs["pairs"]
        world, sides = self.args.world_size, self.objective.sides
        share = self.step.share(self._batch, sides, world, self.args.process_index)
        # A process without a pair of its own runs one at no weight: the others wait for it in the backward pass.
        scale = world / self.objective.units(self._batch) if share else 0.0
        parts = self.step.passes(share or self._batch[:1], sides)
        sums = torch.zeros(1 + len(self.objective.metrics), device=self.args.device)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model=model):
                loss, metrics = self.losses(model, part)
                self.accelerator.backward(loss * scale)
            if share:
                sums += torch.stack([loss.detach(), *metrics])
        self._sums = self.accelerator.reduce(sums, reduction="sum")
        if not torch.isfinite(self._sums).all():
            raise StageError(
                f"the loss is not finite at step {self.state.global_step + 1}: lower training.learning_rate "
                f"({self.settings.learning_rate}), or train in fp32"
            )
        return self._sums[0] / self.objective.units(self._batch)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add a row to the curve; nothing in it depends on time or place."""
        if "grad_norm" not in logs or self._sums is None:
            return
        row = {"step": self.state.global_step, **self._means(self._sums, self._batch)}
        row |= {"lr": logs["learning_rate"], "grad_norm": logs["grad_norm"]}
        self.state.log_history.append(row)
        self._report(dict(row))
        if self.on_step:
            self.on_step(self.state.global_step, self.state.max_steps)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        partial = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.is_world_process_zero():
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with quiet():
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            (partial / "training_args.bin").unlink(missing_ok=True)
            checkpoint.publish(partial, self.folder, self.identity)
        self.accelerator.wait_for_everyone()
