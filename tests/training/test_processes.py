"""Several processes under `accelerate launch`: the curve of one, one writer, one voice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from rlhi.cli import main
from rlhi.errors import RlhiError, StageError, UsageError
from rlhi.flow import processes
from rlhi.flow.folder import RunFolder
from rlhi.flow.lock import alone
from rlhi.pipeline.run import STEPS, run
from rlhi.recipe import Recipe
from rlhi.records import PreferencePair
from rlhi.training import export
from rlhi.training.train import train
from tests.training.sample import make_pairs
from tests.training.test_resume import contents, settings_for

ROOT = Path(__file__).resolve().parents[2]


def launch(code: list[str], count: int) -> subprocess.CompletedProcess[str]:
    """Run `python CODE` in `count` processes; one process needs no launcher.

    `--multi_gpu` is what makes accelerate start processes of its own machine; its `--cpu` starts one, or asks for MPI.
    """
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    starter = [sys.executable]
    if count > 1:
        starter += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(count)]
        starter += ["--main_process_port", "0", "--num_machines", "1", "--mixed_precision", "no"]
        starter += ["--dynamo_backend", "no"]
    return subprocess.run([*starter, *code], env=environment, capture_output=True, text=True, check=False, timeout=300)


WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from rlhi.flow import processes
from rlhi.training.train import train
from tests.training.sample import make_pairs
from tests.training.test_resume import settings_for
from rlhi.settings import Lora
from rlhi.training import trainer

step = trainer.PairTrainer.training_step
shares = []

def training_step(self, model, inputs, count=None):
    shares.append((self.args.world_size, self.args.process_index, type(model).__name__))
    return step(self, model, inputs, count)

trainer.PairTrainer.training_step = training_step
model, out, method, objective = sys.argv[1:]
settings = settings_for(Path(model), method=method, lora=Lora(r=4), eval_steps=2, micro_batch_size=2, validation=0.3)
train(make_pairs(34), settings, objective=objective, seed=5, out=Path(out))
print(*sorted(set(shares)))
processes.part()
"""


def rows_of(path: Path) -> list[dict[str, float]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "objective"), [("full", "dpo"), ("lora", "simpo"), ("full", "sft")])
def test_two_processes_give_the_curve_of_one(tiny: Path, tmp_path: Path, method: str, objective: str) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    for count in (1, 2):
        done = launch([str(script), str(tiny), str(tmp_path / str(count)), method, objective], count)
        assert done.returncode == 0, done.stderr
        told = {1: ["(1, 0,"], 2: ["(2, 0, 'DistributedDataParallel')", "(2, 1, 'DistributedDataParallel')"]}[count]
        assert len(done.stdout.splitlines()) == count and all(part in done.stdout for part in told), done.stdout
    one, two = tmp_path / "1", tmp_path / "2"
    assert contents(one).keys() == contents(two).keys()
    for name in ("curve.jsonl", "validation.jsonl"):
        assert len(rows_of(one / name)) > 3
        for ours, theirs in zip(rows_of(one / name), rows_of(two / name), strict=True):
            if ours["step"] <= 1:  # policy and reference are one: which side is ahead is rounding
                ours.pop("accuracy", None), theirs.pop("accuracy", None)
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert (one / "reference.parquet").read_bytes() == (two / "reference.parquet").read_bytes()


@pytest.fixture
def run_dir(tiny: Path, tmp_path: Path) -> Path:
    """A run that has come to its pairs."""
    evaluation = {"arms": [{"name": "base"}, {"name": "ugr", "train": "ugr"}], "against": "base"}
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "runs": str(tmp_path / "runs"),
            "logs": {"paths": ["logs/"]},
            "training": settings_for(tiny).model_dump(mode="json"),
            "evaluation": evaluation,
        }
    )
    folder = RunFolder(recipe.run_dir())
    folder.save_recipe(recipe.model_dump(mode="json"))
    folder.write_stage("pairs/ugr", {"stage": "pairs/ugr"}, PreferencePair, make_pairs(34), rows_in=34)
    return folder.path


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_one_speaks(run_dir: Path) -> None:
    for expected in ("10 steps", "reused"):
        done = launch(["-m", "rlhi", "--json", "train", str(run_dir)], 2)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(expected) == 1, done.stderr
        assert orjson.loads(done.stdout)["failed"] == 0
    files = contents(run_dir)
    assert {"model/ugr/seed-0/model.safetensors", "model/ugr/seed-0/curve.jsonl", "recipe.yaml"} <= files.keys()
    assert not [name for name in files if "partial" in name or name.startswith((".work", "model/ugr/seed-0/check"))]
    assert RunFolder.existing(run_dir).stage("model/ugr/seed-0")["rows_out"] > 20


@pytest.mark.slow
def test_an_error_under_the_launcher_is_told_once(run_dir: Path) -> None:
    done = launch(["-m", "rlhi", "train", str(run_dir), "--set", "training.model=./nowhere"], 2)
    assert done.returncode != 0
    assert done.stderr.count("there is no model at './nowhere'") == 1


def test_other_steps_refuse_several_processes(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for steps in (None, ["evaluate"], ["train", "evaluate"]):
        with pytest.raises(UsageError, match=r"2 processes were started.*only `train`"):
            run(run_dir / "recipe.yaml", steps=steps)


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert (processes.count(), processes.is_main()) == (1, True)
    with processes.main_first():
        processes.wait()
    monkeypatch.setenv("RANK", "1")
    assert not processes.is_main()


def _ended(monkeypatch: pytest.MonkeyPatch, error: RlhiError, met: bool, **ranks: str) -> int:
    """Exit code of the command line in which `error` came up."""

    def app() -> None:
        raise error

    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(processes._state, "met", met)
    monkeypatch.setattr("rlhi.cli.app.app", app)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    ("error", "met", "ranks", "told"),
    [
        (UsageError("wrong"), False, {}, "rlhi: wrong"),
        (UsageError("wrong"), False, {"RANK": "0", "LOCAL_RANK": "0"}, "rlhi: wrong"),
        (UsageError("wrong"), False, {"RANK": "1", "LOCAL_RANK": "1"}, ""),
        (UsageError("wrong"), False, {"RANK": "8", "LOCAL_RANK": "0"}, "rlhi: [rank 8] wrong"),
        (UsageError("wrong"), True, {"RANK": "1", "LOCAL_RANK": "1"}, "rlhi: [rank 1] wrong"),
        (StageError("lost"), False, {"RANK": "1", "LOCAL_RANK": "1"}, "rlhi: [rank 1] lost"),
    ],
)
def test_no_process_keeps_an_error_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: RlhiError,
    met: bool,
    ranks: dict[str, str],
    told: str,
) -> None:
    assert _ended(monkeypatch, error, met, **ranks) == error.exit_code
    assert capsys.readouterr().err.strip() == told


def test_all_processes_look_for_a_finished_training_before_the_first_may_move_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    read = export.read_summary

    def read_summary(out: Path, identity: str) -> dict[str, Any] | None:
        order.append("read")
        return read(out, identity)

    monkeypatch.setattr(export, "read_summary", read_summary)
    monkeypatch.setattr(processes, "wait", lambda: order.append("wait"))
    for expected in (False, True):
        order.clear()
        train(make_pairs(34), settings_for(tiny), objective="dpo", seed=5, out=tmp_path / "out")
        assert order[:2] == ["read", "wait"] and (order == ["read", "wait"]) == expected


def test_only_the_main_process_takes_the_lock(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with alone(run_dir, print):
        with pytest.raises(UsageError, match="another process"):
            run(run_dir / "recipe.yaml", steps=["train"])
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setitem(STEPS, "train", lambda session: None)
        assert run(run_dir / "recipe.yaml", steps=["train"]).failed == 0
