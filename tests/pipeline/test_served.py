"""All roles played by a real server, `transformers serve` with the embedded model: a recipe from logs to scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from rlhi.world import EMBEDDED_PATH
from tests.conftest import REPOSITORY
from tests.models.served import served
from tests.pipeline.small import contents, make_world, rlhi, write_recipe


@pytest.mark.slow
def test_a_recipe_with_every_role_served_finishes_and_asks_nothing_twice(tmp_path: Path) -> None:
    make_world(tmp_path, users=5)
    data = yaml.safe_load((REPOSITORY / "recipes" / "served.yaml").read_text())
    data["runs"], data["logs"]["paths"] = str(tmp_path / "runs"), [str(tmp_path / "world" / "logs")]
    data["evaluation"]["max_turns"] = 4
    with served(EMBEDDED_PATH.name, EMBEDDED_PATH.parent, tmp_path / "server.log") as url:
        data["models"]["server"]["base_url"] = url
        path = write_recipe(tmp_path, data)
        first = rlhi("--json", "run", str(path))
        assert first.returncode in (0, 1), first.stderr
        result = json.loads(first.stdout)
        assert result["scores"], "the run did not reach its scores"
    before = contents(tmp_path / "runs" / "served")
    # The server is gone: a second run in a new folder can only live from the store.
    data["name"] = "again"
    again = rlhi("--json", "run", str(write_recipe(tmp_path, data)))
    assert again.returncode == first.returncode, again.stderr
    assert contents(tmp_path / "runs" / "again") == before
    for entry in json.loads(again.stdout)["stages"].values():
        for role, use in entry.get("calls", {}).items():
            assert use["sent"] == 0, f"{role} was asked again"
