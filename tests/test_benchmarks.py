"""The benchmarks run, and what they compare is the same; their times are nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def rows_of(script: str, out: Path, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(BENCHMARKS / script), "--tiny", "--repeats", "1", "--json", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(out.read_text())
    return rows


@pytest.mark.slow
def test_dpo_step(tmp_path: Path) -> None:
    (row,) = rows_of("dpo_step.py", tmp_path / "rows.json", "--rows", "64/16/2", "--no-memory")
    assert (row["prompt"], row["completion"], row["pairs"]) == (64, 16, 2)
    assert {"speedup_vs_trl_best", "speedup_vs_trl_stock", "speedup_vs_plain", "peak_memory_ratio"} <= row.keys()
    assert max(row["loss_error"], row["gradient_error"]) < 1e-5
    assert max(row["rlhi_loss_error_to_float64"], row["rlhi_gradient_error_to_float64"]) < 1e-5


@pytest.mark.slow
def test_scoring(tmp_path: Path) -> None:
    rows = rows_of("scoring.py", tmp_path / "rows.json", "--no-memory")
    assert [row["score"] for row in rows] == ["reward", "log-likelihood"]
    for row in rows:
        assert row["largest_difference"] < 1e-4
        assert row["flop_bound"] > 1


@pytest.mark.slow
def test_generation(tmp_path: Path) -> None:
    (row,) = rows_of("generation.py", tmp_path / "rows.json")
    assert row["equal"] == 1
    assert row["peak_memory_ratio"] > 0
    assert row["all_seconds"].keys() == row["all_mebibytes"].keys() == {"ours", "stock", "static"}
