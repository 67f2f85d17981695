"""Interrupted trainings end in the very files of an undisturbed one; nothing of how they got there remains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import orjson
import pytest

from rlhi.settings import Lora, Training
from rlhi.training import checkpoint
from rlhi.training.reference import ReferenceStore
from rlhi.training.train import train
from tests.training.sample import make_pairs

Objective = Literal["dpo", "sft"]


class Stopped(Exception):
    """Stands for whatever ends a process."""


def settings_for(model: Path, **changes: object) -> Training:
    return Training.model_validate(
        {
            "model": str(model),
            "beta": 0.1,
            "learning_rate": 3e-3,
            "batch_size": 6,
            "micro_batch_size": 4,
            "epochs": 2,
            "save_steps": 2,
            **changes,
        }
    )


def contents(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def run(settings: Training, out: Path, objective: Objective = "dpo", stop_at: int = 0, seed: int = 5) -> None:
    def on_step(step: int, total: int) -> None:
        assert total == 10
        if step == stop_at:
            raise Stopped

    train(make_pairs(34), settings, objective=objective, seed=seed, out=out, on_step=on_step)


@pytest.fixture
def straight(tiny: Path, tmp_path: Path) -> dict[str, bytes]:
    """The files of an undisturbed training."""
    run(settings_for(tiny), tmp_path / "straight")
    return contents(tmp_path / "straight")


def test_two_runs_write_the_same_bytes_and_no_pickle(tiny: Path, tmp_path: Path, straight: dict[str, bytes]) -> None:
    run(settings_for(tiny), tmp_path / "elsewhere" / "again")
    assert contents(tmp_path / "elsewhere" / "again") == straight
    suffixes = {Path(name).suffix for name in straight}
    assert suffixes <= {".safetensors", ".json", ".jsonl", ".jinja", ".md", ".parquet"}
    home = str(tmp_path.parent).encode()
    assert not [name for name, data in straight.items() if home in data]
    run(settings_for(tiny), tmp_path / "seed", seed=6)
    assert contents(tmp_path / "seed")["model.safetensors"] != straight["model.safetensors"]


@pytest.mark.parametrize("stop_at", [1, 5, 10])
def test_resume_ends_in_the_same_bytes(tiny: Path, tmp_path: Path, straight: dict[str, bytes], stop_at: int) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run(settings_for(tiny), out, stop_at=stop_at)
    if stop_at > 1:
        assert checkpoint._ordered(out / "checkpoints")[-1].name == f"checkpoint-{stop_at - 1 - (stop_at - 1) % 2}"
    run(settings_for(tiny), out)
    assert contents(out) == straight


@pytest.mark.parametrize("how", ["cut", "flipped", "no_seal", "file_missing", "both"])
def test_a_damaged_checkpoint_is_ignored(tiny: Path, tmp_path: Path, straight: dict[str, bytes], how: str) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run(settings_for(tiny), out, stop_at=7)
    before, last = checkpoint._ordered(out / "checkpoints")
    assert (before.name, last.name) == ("checkpoint-4", "checkpoint-6")
    for folder in [last, before] if how == "both" else [last]:
        weights = folder / "model.safetensors"
        data = bytearray(weights.read_bytes())
        if how in ("cut", "both"):
            weights.write_bytes(data[: len(data) // 2])
        elif how == "flipped":
            data[-1] ^= 1
            weights.write_bytes(data)
        elif how == "no_seal":
            (folder / checkpoint.SEAL).unlink()
        else:
            (folder / "optimizer.pt").unlink()
    steps: list[int] = []
    pairs = make_pairs(34)
    train(pairs, settings_for(tiny), objective="dpo", seed=5, out=out, on_step=lambda step, _: steps.append(step))
    assert steps[0] == (1 if how == "both" else 5)
    assert contents(out) == straight


def test_checkpoints_of_another_training_are_not_used(tiny: Path, tmp_path: Path, straight: dict[str, bytes]) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run(settings_for(tiny, beta=0.2), out, stop_at=7)
    run(settings_for(tiny), out)
    assert contents(out) == straight


def test_a_finished_training_is_not_repeated(tiny: Path, tmp_path: Path, straight: dict[str, bytes]) -> None:
    def on_step(step: int, total: int) -> None:
        raise AssertionError("nothing was left to train")

    out = tmp_path / "straight"
    again = train(make_pairs(34), settings_for(tiny), objective="dpo", seed=5, out=out, on_step=on_step)
    assert contents(out) == straight
    assert again.steps == 10
    assert again.metrics == orjson.loads(straight["training.json"])["metrics"]


def test_resume_with_adapter_and_dropout(tiny: Path, tmp_path: Path) -> None:
    settings = settings_for(tiny, method="lora", lora=Lora(r=4, dropout=0.3))
    run(settings, tmp_path / "straight")
    with pytest.raises(Stopped):
        run(settings, tmp_path / "stopped", stop_at=5)
    run(settings, tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")


def test_resume_of_sft(tiny: Path, tmp_path: Path) -> None:
    run(settings_for(tiny), tmp_path / "straight", "sft")
    with pytest.raises(Stopped):
        run(settings_for(tiny), tmp_path / "stopped", "sft", stop_at=6)
    run(settings_for(tiny), tmp_path / "stopped", "sft")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")


def test_the_reference_is_never_the_half_trained_policy(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        run(settings_for(tiny), out, stop_at=7)
    kept = ReferenceStore(out / "reference.parquet").values
    (out / "reference.parquet").unlink()
    run(settings_for(tiny), out)
    assert len(kept) == 2 * 34
    assert ReferenceStore(out / "reference.parquet").values == kept


def test_what_a_killed_save_left_spoils_no_later_checkpoint(
    tiny: Path, tmp_path: Path, straight: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seal = tmp_path / "stopped", checkpoint.seal

    def sealed_then_stopped(folder: Path, identity: str) -> None:
        seal(folder, identity)
        raise Stopped

    monkeypatch.setattr(checkpoint, "seal", sealed_then_stopped)
    with pytest.raises(Stopped):
        run(settings_for(tiny), out)
    monkeypatch.setattr(checkpoint, "seal", seal)
    with pytest.raises(Stopped):
        run(settings_for(tiny), out, stop_at=5)
    saved = checkpoint._ordered(out / "checkpoints")
    assert [folder.name for folder in saved] == ["checkpoint-2", "checkpoint-4"]
    for folder in saved:
        identity = orjson.loads((folder / checkpoint.SEAL).read_bytes())["identity"]
        assert checkpoint.whole(folder, identity)
    run(settings_for(tiny), out)
    assert contents(out) == straight


WORKER = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from rlhi.training import checkpoint, export, reference, train
from tests.training.test_resume import OPTIONS, make_pairs, run, settings_for

model, out, method, points = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
settings = settings_for(model, **OPTIONS[method])

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def work(point):
    if point == "reference":
        reference.ReferenceStore.save = die
    elif point == "half_a_checkpoint":
        checkpoint.seal = die
    elif point == "unnamed_checkpoint":
        whole = checkpoint.seal
        checkpoint.seal = lambda *args: (whole(*args), die())
    elif point == "weights":
        export.write_curve = die
    elif point == "summary":
        export.write_summary = die
    elif point == "clean_up":
        train.shutil.rmtree = die
    elif point.isdecimal():
        at_step = lambda step, total: die() if step == int(point) else None
        train.train(make_pairs(34), settings, objective="dpo", seed=5, out=out, on_step=at_step)
    run(settings, out)

for point in points:
    child = os.fork()
    if not child:
        work(point)
        os._exit(0)
    print(point, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


OPTIONS: dict[str, dict[str, object]] = {
    "full": {"eval_steps": 3},
    "lora": {"method": "lora", "lora": {"r": 4, "dropout": 0.2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", OPTIONS)
def test_kill_dash_nine_again_and_again(tiny: Path, tmp_path: Path, method: str) -> None:
    run(settings_for(tiny, **OPTIONS[method]), tmp_path / "straight")
    out, root = tmp_path / "killed", Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}", "PYTHONHASHSEED": "random"}
    points = ["reference", "1", "half_a_checkpoint", "3", "unnamed_checkpoint", "6", "weights", "summary", "clean_up"]
    code = [sys.executable, "-c", WORKER, str(tiny), str(out), method, *points, "none"]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [*(f"{point} {-signal.SIGKILL}" for point in points), "none 0"], done.stderr
    assert contents(out) == contents(tmp_path / "straight")
