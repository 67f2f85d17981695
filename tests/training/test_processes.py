"""Several processes under `accelerate launch`: the curve of one, one writer, one voice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from rlhi.errors import UsageError
from rlhi.flow import processes
from rlhi.flow.folder import RunFolder
from rlhi.pipeline.run import run
from rlhi.recipe import Logs, Recipe
from tests.training.sample import make_pairs
from tests.training.test_resume import contents, settings_for

ROOT = Path(__file__).resolve().parents[2]
LOADER = "-c"


def launch(code: list[str], count: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in `count` processes; one process needs no launcher."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    starter = [sys.executable]
    if count > 1:
        starter += ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(count), "--main_process_port"]
        starter += ["0", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *options]
    return subprocess.run([*starter, *code], env=environment, capture_output=True, text=True, check=False, timeout=300)


WORKER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from rlhi.training.train import train
from tests.training.sample import make_pairs
from tests.training.test_resume import settings_for
from rlhi.settings import Lora

model, out, method, objective = sys.argv[1:]
settings = settings_for(Path(model), method=method, lora=Lora(r=4), eval_steps=2, micro_batch_size=2, validation=0.3)
train(make_pairs(34), settings, objective=objective, seed=5, out=Path(out))
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
    one, two = tmp_path / "1", tmp_path / "2"
    assert contents(one).keys() == contents(two).keys()
    for name in ("curve.jsonl", "validation.jsonl"):
        assert len(rows_of(one / name)) > 3
        for ours, theirs in zip(rows_of(one / name), rows_of(two / name), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert (one / "reference.parquet").read_bytes() == (two / "reference.parquet").read_bytes()
