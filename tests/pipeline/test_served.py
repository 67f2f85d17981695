"""Roles played by a real server, `transformers serve` with the embedded model: answers are kept and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlhi.world import EMBEDDED_PATH
from tests.conftest import REPOSITORY
from tests.models.served import served
from tests.pipeline.small import make_world, rlhi, write_recipe


def _stages(run: Path) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((run / "manifest.json").read_text())["stages"]
    return stages


@pytest.mark.slow
def test_served_answers_are_found_again_without_the_server(tmp_path: Path) -> None:
    """The embedded model labels and rates too poorly to make pairs here, so the run is followed to its pairs only."""
    make_world(tmp_path, users=5)
    data = yaml.safe_load((REPOSITORY / "recipes" / "served.yaml").read_text())
    data["runs"], data["logs"]["paths"] = str(tmp_path / "runs"), [str(tmp_path / "world" / "logs")]
    data["roles"] |= {"labeler": "local", "persona": "local"}
    with served(EMBEDDED_PATH.name, EMBEDDED_PATH.parent, tmp_path / "server.log") as url:
        data["models"]["server"]["base_url"] = url
        first = rlhi("run", str(write_recipe(tmp_path, data)))
        assert "Traceback" not in first.stderr
    before = _stages(tmp_path / "runs" / "served")
    asked = before["pairs/ugr"]["calls"]
    assert asked["policy"]["sent"] > 0 and asked["rewriter"]["sent"] > 0 and asked["reward"]["sent"] > 0
    # The server is gone: a second run in a new folder can only live from the store.
    data["name"] = "again"
    again = rlhi("run", str(write_recipe(tmp_path, data)))
    assert again.returncode == first.returncode, again.stderr
    after = _stages(tmp_path / "runs" / "again")
    for name in ("pairs/ugr", "pairs/ubr"):
        assert after[name]["rows_out"] == before[name]["rows_out"] and after[name]["dropped"] == before[name]["dropped"]
        for role, use in after[name]["calls"].items():
            assert use["sent"] == 0, f"{role} was asked again"
