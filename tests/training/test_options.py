"""What a recipe may ask of the trainer besides the loss: measurements under way, trackers, QLoRA, checkpointing."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import torch
from pydantic import ValidationError
from transformers import TrainerCallback

from rlhi.errors import UsageError
from rlhi.settings import Training
from rlhi.training import requirements, trackers
from rlhi.training.objectives import OBJECTIVES
from rlhi.training.policy import load_causal, load_tokenizer, prepare
from rlhi.training.reference import model_fingerprint
from rlhi.training.step import side_logps
from rlhi.training.tokenize import encode_all
from rlhi.training.train import train
from rlhi.training.trainer import PairTrainer
from tests.models.tiny import make_tiny_model
from tests.training.sample import BOTH, make_pairs
from tests.training.test_resume import Stopped, contents, run, settings_for


def rows_of(path: Path) -> list[dict[str, float]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "ipo", "label_smoothing": 0.1}, ["label_smoothing=0.1", "`ipo`", "`robust`"]),
        ({"objective": "simpo", "label_smoothing": 0.1}, ["label_smoothing=0.1", "`simpo`"]),
        ({"objective": "robust"}, ["`robust` needs label_smoothing", "0.5"]),
        ({"label_smoothing": 0.5}, ["label_smoothing", "less than 0.5"]),
        ({"simpo_gamma": 1.0}, ["simpo_gamma=1", "`dpo`", "`simpo`"]),
        ({"nll_weight": -1}, ["nll_weight"]),
        ({"objective": "kto"}, ["objective", "'simpo'"]),
        ({"report_to": ["mlflow"]}, ["report_to", "'trackio'"]),
        ({"eval_steps": 0}, ["eval_steps"]),
    ],
)
def test_settings_that_do_not_go_together_are_named(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Training.model_validate(changes)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("objective", ["ipo", "hinge", "robust", "simpo"])
def test_every_objective_trains(tiny: Path, tmp_path: Path, objective: Any) -> None:
    smoothing = 0.1 if objective == "robust" else 0.0
    settings = settings_for(tiny, objective=objective, label_smoothing=smoothing, nll_weight=0.01, beta=0.5, epochs=4)
    result = train(make_pairs(34), settings, objective=objective, seed=5, out=tmp_path)
    assert result.metrics["margin"] > rows_of(tmp_path / "curve.jsonl")[0]["margin"]
    assert result.metrics["accuracy"] > 0.5
    card = (tmp_path / "README.md").read_text()
    assert "NLL weight = 0.01" in card and "β = 0.5" in card
    reference = (tmp_path / "reference.parquet").stat().st_size
    assert OBJECTIVES[objective].uses_reference == (objective != "simpo")
    assert reference > 0  # SimPO's holds the held-out pairs only: what the loss was before training


def test_held_out_pairs_are_measured_under_way_and_change_nothing(tiny: Path, tmp_path: Path) -> None:
    for name, steps in (("plain", None), ("measured", 3)):
        run(settings_for(tiny, validation=0.3, eval_steps=steps), tmp_path / name)
    plain, measured = (contents(tmp_path / name) for name in ("plain", "measured"))
    assert measured["model.safetensors"] == plain["model.safetensors"]
    assert measured["curve.jsonl"] == plain["curve.jsonl"]
    before, *between, after = rows_of(tmp_path / "measured" / "validation.jsonl")
    assert rows_of(tmp_path / "plain" / "validation.jsonl") == [before, after]
    assert [row["step"] for row in (before, *between, after)] == [0, 3, 6, 9, 10]
    assert len({row["loss"] for row in between}) == 3
    metrics = orjson.loads(measured["training.json"])["metrics"]
    assert (metrics["validation_loss_before"], metrics["validation_loss_after"]) == (before["loss"], after["loss"])
    assert "validation.jsonl" in (tmp_path / "plain" / "README.md").read_text()


def test_a_resume_keeps_the_measurements(tiny: Path, tmp_path: Path) -> None:
    settings = settings_for(tiny, validation=0.3, eval_steps=1)
    run(settings, tmp_path / "straight")
    with pytest.raises(Stopped):
        run(settings, tmp_path / "stopped", stop_at=7)
    run(settings, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")
    assert [row["step"] for row in rows_of(tmp_path / "stopped" / "validation.jsonl")] == list(range(11))


class FakeTracker(TrainerCallback):  # type: ignore[misc]
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.name = ""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Keep a row."""
        self.name = args.run_name
        self.told.append((state.global_step, dict(logs)))


def test_a_tracker_hears_every_step_and_measurement(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTracker()
    asked: list[object] = []

    def callbacks(names: object, out: Path) -> list[FakeTracker]:
        asked.append((names, out))
        return [fake]

    monkeypatch.setattr(trackers, "callbacks", callbacks)
    monkeypatch.setattr(requirements, "check", lambda settings: None)
    settings = settings_for(tiny, validation=0.3, eval_steps=5, report_to=["tensorboard"])
    train(make_pairs(34), settings, objective="dpo", seed=5, out=tmp_path, name="mine/ugr")
    assert asked == [(("tensorboard",), tmp_path)]
    steps = [(step, logs) for step, logs in fake.told if "lr" in logs]
    assert [logs for _, logs in steps] == rows_of(tmp_path / "curve.jsonl")
    measured = [(step, logs["eval_loss"]) for step, logs in fake.told if "eval_loss" in logs]
    rows = rows_of(tmp_path / "validation.jsonl")
    assert measured == [(row["step"], row["loss"]) for row in rows if row["step"] in (5, 10)]
    assert fake.name == "mine/ugr"


def test_trackers_decide_nothing(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(settings_for(tiny), tmp_path / "plain")
    run(settings_for(tiny, report_to=["tensorboard"]), tmp_path / "tracked")
    tracked = contents(tmp_path / "tracked")
    events = [name for name in tracked if name.startswith(f"{trackers.FOLDER}/")]
    assert len(events) == 1
    assert {name: data for name, data in tracked.items() if name not in events} == contents(tmp_path / "plain")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(tmp_path / "tracked" / trackers.FOLDER)).Reload()
    losses = [(event.step, event.value) for event in read.Scalars("train/loss")]
    rows = rows_of(tmp_path / "tracked" / "curve.jsonl")
    assert losses == [(row["step"], pytest.approx(row["loss"], rel=1e-6)) for row in rows]


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_missing_tracker_is_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda wanted: None if wanted == name else find_spec(wanted))
    with pytest.raises(UsageError, match=f"report_to.*{name} is not installed; pip install {name}"):
        run(settings_for(tiny, report_to=[name]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_qlora_says_what_it_lacks(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(tiny, method="qlora")
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"qlora needs bitsandbytes.*rlhi\[qlora\]"):
        requirements.check(settings)
    monkeypatch.setattr(requirements, "find_spec", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="needs a CUDA device"):
        requirements.check(settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    requirements.check(settings)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="neither FSDP nor DeepSpeed"):
        requirements.check(settings)


def test_weights_on_one_process_only_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with pytest.raises(UsageError, match=r"fsdp_cpu_ram_efficient_loading.*false"):
        requirements.check(settings_for(tiny))
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")
    requirements.check(settings_for(tiny))


def test_qlora_trains_an_adapter_on_a_frozen_base_in_4_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    from peft import PeftModel

    tiny = make_tiny_model(tmp_path / "base", width=128)

    if not torch.cuda.is_available():  # it works on a CPU too, only far too slowly to be offered
        monkeypatch.setattr(requirements, "check", lambda settings: None)
    settings = settings_for(tiny, method="qlora", validation=0, gradient_checkpointing=True, epochs=3)
    quantised = load_causal(str(tiny), torch.float32, in_4_bits=True)
    assert any(type(p).__name__ == "Params4bit" for p in quantised.parameters())
    assert model_fingerprint(quantised, "fp32") != model_fingerprint(load_causal(str(tiny), torch.float32), "fp32")
    pairs, _ = encode_all(make_pairs(6), load_tokenizer(str(tiny)), BOTH, 4096)
    model = prepare(quantised, settings).train()
    side_logps(model, pairs, BOTH)["chosen"].sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, p in model.named_parameters() if "lora_" in name
    }
    result = train(make_pairs(34), settings, objective="dpo", seed=5, out=tmp_path / "out")
    assert result.metrics["margin"] > 0
    assert "on a base in 4 bits" in (tmp_path / "out" / "README.md").read_text()
    after = PeftModel.from_pretrained(load_causal(str(tiny), torch.float32), str(tmp_path / "out"))
    assert any(p.abs().sum() > 0 for name, p in after.named_parameters() if "lora_B" in name)


def keep(sizes: list[int], tensor: torch.Tensor) -> torch.Tensor:
    sizes.append(tensor.numel())
    return tensor


@pytest.mark.parametrize("method", ["full", "lora"])
def test_checkpointed_activations_are_computed_again(tiny: Path, method: str) -> None:
    """Twice the forward passes, and less held for the backward pass."""
    pairs, _ = encode_all(make_pairs(6), load_tokenizer(str(tiny)), BOTH, 4096)
    passes, held = [], []
    for checkpointing in (False, True):
        settings = settings_for(tiny, method=method, gradient_checkpointing=checkpointing)
        model = prepare(load_causal(str(tiny), torch.float32), settings).train()
        calls: list[str] = []
        kept: list[int] = []
        layer = next(module for name, module in model.named_modules() if name.endswith("layers.0.mlp"))
        layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append("mlp"))
        with torch.autograd.graph.saved_tensors_hooks(partial(keep, kept), lambda tensor: tensor):
            loss = side_logps(model, pairs, BOTH)["chosen"].sum()
        held.append(sum(kept))
        loss.backward()
        passes.append(len(calls))
    assert passes == [1, 2]
    assert held[1] < held[0] / 2


def test_a_measurement_is_found_again_whatever_was_logged_after_it() -> None:
    """A callback may add rows of its own to the history."""
    history = [{"step": 3, "validation": {"loss": 0.5, "accuracy": 0.75}}, {"step": 3, "train_runtime": 9.0}]

    class FakeTrainer:
        objective = SimpleNamespace(metrics=("accuracy",))
        state = SimpleNamespace(global_step=3, log_history=history)
        validations = PairTrainer.validations

    evaluate: Any = PairTrainer.evaluate
    found = evaluate(FakeTrainer())
    assert found == {"eval_loss": 0.5, "eval_accuracy": 0.75} and len(history) == 2
