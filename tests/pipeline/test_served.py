"""All roles played by a real server, `transformers serve` with the embedded model: answers are kept and found again."""

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
def test_all_roles_are_served_and_found_again_without_the_server(tmp_path: Path) -> None:
    make_world(tmp_path, users=10)
    data = yaml.safe_load((REPOSITORY / "recipes" / "served.yaml").read_text())
    data["runs"], data["logs"]["paths"] = str(tmp_path / "runs"), [str(tmp_path / "world" / "logs")]
    with served(EMBEDDED_PATH.name, EMBEDDED_PATH.parent, tmp_path / "server.log") as url:
        data["models"]["server"]["base_url"] = url
        first = rlhi("run", str(write_recipe(tmp_path, data)))
        assert first.returncode == 0, first.stderr
    before = _stages(tmp_path / "runs" / "served")
    asked = {role: use["sent"] for name in before for role, use in before[name].get("calls", {}).items()}
    assert {"labeler", "persona", "policy", "rewriter", "validity", "reward", "judge"} <= asked.keys()
    assert all(sent > 0 for sent in asked.values()), asked
    # The server is gone: a second run in a new folder can only live from the store.
    data["name"] = "again"
    again = rlhi("run", str(write_recipe(tmp_path, data)))
    assert again.returncode == 0, again.stderr
    after = _stages(tmp_path / "runs" / "again")
    for name, facts in after.items():
        assert facts.get("rows_out") == before[name].get("rows_out"), name
        for role, use in facts.get("calls", {}).items():
            assert use["sent"] == 0, f"{role} was asked again in {name}"
