"""A small world and a recipe that goes all the way through it in seconds."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from rlhi.world.simulate import write_world


def make_world(folder: Path, users: int = 8, seed: int = 5) -> Path:
    """Logs and truth of a few users in `folder`/world."""
    write_world(folder / "world", users=users, seed=seed, phrasings="test", conversations=(4, 7))
    return folder / "world"


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe on the small world; `changes` replace whole sections."""
    return {
        "name": "small",
        "runs": str(folder / "runs"),
        "logs": {"paths": [str(folder / "world" / "logs")], "heldout_users": 0.4},
        "pairs": {
            "rollout": {"max_tokens": 110},
            "max_prompt_tokens": 400,
            "max_length_ratio": 50,
            "ugr": {"max_per_user": 3, "min_margin": -1000, "validity_margin": 1000},
            "ubr": {"max_per_user": 2, "candidates": 3},
        },
        "training": {"beta": 0.1, "learning_rate": 1e-4, "batch_size": 4, "save_steps": 1, "max_length": 600},
        "evaluation": {
            "judges": ["truth"],
            "truth": str(folder / "world" / "truth"),
            "max_turns": 8,
            "max_tokens": 110,
            "bootstrap": 100,
        },
        **changes,
    }


def write_recipe(folder: Path, data: dict[str, Any]) -> Path:
    """The recipe as a file."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def command(*words: str) -> list[str]:
    """The command line of this very checkout."""
    return [sys.executable, "-m", "rlhi", *words]


def rlhi(*words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run rlhi to its end."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, cwd=cwd, env={**os.environ, **(env or {})}, check=False
    )


def run_and_kill(words: list[str], seconds: float) -> int | None:
    """Run rlhi and send SIGKILL after `seconds`; its exit code where it ended before."""
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None


def contents(run: Path) -> dict[str, str]:
    """Digest of every Parquet file, of the scores and of the weights of a run."""
    wanted = [p for p in sorted(run.rglob("*")) if p.suffix in (".parquet", ".safetensors") or p.name == "scores.json"]
    return {p.relative_to(run).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}
