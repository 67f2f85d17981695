"""`kill -9` at random moments: the end is that of an undisturbed run, and nothing that was answered is asked again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.pipeline.scripted_server import ScriptedServer
from tests.pipeline.small import contents, make_world, recipe, rlhi, run_and_kill, write_recipe

KILLS = int(os.environ.get("RLHI_KILLS", "3"))
"""How often a run is killed; more is slower and finds no less."""


def _timed(folder: Path, path: Path) -> float:
    began = time.monotonic()
    done = rlhi("run", str(path))
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


@pytest.mark.slow
def test_killed_runs_end_like_an_undisturbed_one(tmp_path: Path) -> None:
    make_world(tmp_path)
    undisturbed = write_recipe(tmp_path, recipe(tmp_path, name="undisturbed", runs=str(tmp_path / "one")))
    seconds = _timed(tmp_path, undisturbed)
    expected = contents(tmp_path / "one" / "undisturbed")
    assert any(name.startswith("model/") for name in expected) and "scores.json" in expected

    killed = write_recipe(tmp_path, recipe(tmp_path, name="killed", runs=str(tmp_path / "two")))
    rng = random.Random(11)
    kills = 0
    while kills < KILLS:
        if run_and_kill(["run", str(killed)], rng.uniform(0.15, 0.75) * seconds) is None:
            kills += 1
        else:
            break
    done = rlhi("run", str(killed))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two" / "killed") == expected


@pytest.mark.slow
def test_what_was_answered_is_never_asked_again(tmp_path: Path) -> None:
    make_world(tmp_path)
    with ScriptedServer(delay=0.05) as server:
        model = {"backend": "openai", "model": "scripted", "base_url": server.url, "concurrency": 4}
        data = recipe(tmp_path, models={"server": model}, roles={"policy": "server", "rewriter": "server"})
        path = write_recipe(tmp_path, data)
        rng = random.Random(7)
        for _ in range(KILLS):
            if run_and_kill(["run", str(path)], rng.uniform(3, 14)) is not None:
                break
            server.mark_kill()
        done = rlhi("run", str(path))
        assert done.returncode == 0, done.stderr
        assert server.answered > 20
        for asked in server.repeated():
            assert asked.in_flight_at_kill, f"asked again though it was answered: {asked.body[:200]}"
        before = server.answered
        again = rlhi("run", str(path))
        assert again.returncode == 0 and server.answered == before
        assert "reused" in again.stderr
