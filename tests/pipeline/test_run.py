"""The whole road on a small world, through the command line: figures add up, steps work alone, errors are readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rlhi.flow.lock import alone
from tests.pipeline.small import contents, make_world, recipe, rlhi, write_recipe


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run and what `--json` said of it."""
    folder = tmp_path_factory.mktemp("run")
    make_world(folder)
    ran = rlhi("--json", "run", str(write_recipe(folder, recipe(folder))))
    assert ran.returncode == 0, ran.stderr
    return folder, json.loads(ran.stdout)


def test_every_row_is_accounted_for(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    run = folder / "runs" / "small"
    for name in ("conversations", "labels", "personas", "pairs/ugr", "pairs/ubr", "turns"):
        entry = result["stages"][name]
        lost = sum(entry["dropped"].values()) + entry["failed"]
        file = run / f"{name}.parquet" if "/" in name else run / name / f"{name}.parquet"
        rows = pl.read_parquet(file)
        assert entry["rows_out"] == len(rows)
        if name not in ("labels", "personas"):
            assert entry["rows_in"] == len(rows) + lost, name
        dropped = run / "dropped" / f"{name.replace('/', '-')}.parquet"
        assert sum(entry["dropped"].values()) == (len(pl.read_parquet(dropped)) if dropped.exists() else 0)
    conversations = pl.read_parquet(run / "conversations" / "conversations.parquet")
    messages = conversations["messages"].list.eval(pl.element().struct.field("role") == "user").list.sum().sum()
    labels = pl.read_parquet(run / "labels" / "labels.parquet")
    assert len(labels) == messages - len(conversations), "every user message after the first has a label"


def test_pairs_learn_from_training_users_and_earlier_turns_only(done: tuple[Path, dict[str, Any]]) -> None:
    run = done[0] / "runs" / "small"
    talks = {
        row["conversation_id"]: row for row in pl.read_parquet(run / "conversations/conversations.parquet").to_dicts()
    }
    pairs = pl.concat([pl.read_parquet(run / "pairs/ugr.parquet"), pl.read_parquet(run / "pairs/ubr.parquet")])
    assert len(pairs) > 4
    assert {talks[c]["split"] for c in pairs["conversation_id"]} == {"train"}
    for card in pl.read_parquet(run / "personas/personas.parquet").to_dicts():
        for statement in card["statements"]:
            for ref in statement["evidence"]:
                assert talks[ref["conversation_id"]]["user_id"] == card["user_id"]
                if card["before"]:
                    assert talks[ref["conversation_id"]]["started_at"] < talks[card["before"]]["started_at"]
    turns = pl.read_parquet(run / "turns/turns.parquet")
    assert {talks[c]["split"] for c in turns["conversation_id"]} == {"heldout"}


def test_scores_and_report(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    arms = {score["arm"] for score in result["scores"]}
    assert arms == {"base", "UGR + persona", "UBR + persona", "UGR+UBR + persona", "wrong persona"}
    assert {score["turns"] for score in result["scores"]} == {"initial", "follow_up", "all"}
    for score in result["scores"]:
        assert 0 <= score["low"] <= score["win_rate"] <= score["high"] <= 1 and score["judge"] == "truth"
    assert result["verdict"]["sentence"]
    assert {figures["arm"] for figures in result["arms"]} == {*arms, "base + persona"}
    page = (folder / "runs" / "small" / "report.html").read_text()
    assert result["verdict"]["sentence"].split("”")[0].strip("“")[:20] in page or "UGR" in page


def test_again_everything_is_reused(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    before = contents(folder / "runs" / "small")
    again = rlhi("run", str(folder / "recipe.yaml"))
    assert again.returncode == 0
    lines = [line for line in again.stderr.splitlines() if "reused" in line]
    assert len(lines) == len(result["stages"])
    assert contents(folder / "runs" / "small") == before


def test_a_changed_setting_is_named_and_only_its_stages_run(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = done
    changed = recipe(folder, name="other")
    changed["evaluation"]["max_turns"] = 4
    first = rlhi("run", str(write_recipe(tmp_path, changed)))
    assert first.returncode == 0, first.stderr
    again = rlhi("run", str(tmp_path / "recipe.yaml"), "--set", "evaluation.max_turns=5")
    assert again.returncode == 0
    assert "turns is made anew: settings.max_turns: 4 -> 5" in again.stderr
    assert "pairs/ugr" in again.stderr and "reused" in again.stderr


def test_show_and_pair(done: tuple[Path, dict[str, Any]]) -> None:
    run = done[0] / "runs" / "small"
    shown = rlhi("show", str(run))
    assert shown.returncode == 0 and "conversations" in shown.stderr and "wrong persona" in shown.stderr
    pair = pl.read_parquet(run / "pairs/ugr.parquet").to_dicts()[0]
    told = rlhi("pair", str(run), pair["pair_id"][:12])
    assert told.returncode == 0
    for words in (pair["conversation_id"], pair["user_id"], pair["provenance"]["span"], "gate quality", "chosen"):
        assert words.split("\n")[0][:40] in told.stdout
    missing = rlhi("pair", str(run), "zzz")
    assert missing.returncode == 2 and "no pair 'zzz'" in missing.stderr


def test_ingest_and_label_work_alone(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    logs = str(done[0] / "world" / "logs")
    assert rlhi("ingest", logs, "--out", str(tmp_path / "alone")).returncode == 0
    assert rlhi("label", str(tmp_path / "alone"), "--labeler", "local").returncode == 0
    labels = pl.read_parquet(tmp_path / "alone" / "labels" / "labels.parquet")
    assert set(labels.columns) == {
        "conversation_id", "turn", "user_id", "label", "satisfaction", "confidence", "span", "labeler",
    }  # fmt: skip
    early = rlhi("train", str(tmp_path / "alone"))
    assert early.returncode == 2 and "Traceback" not in early.stderr


SERVER = "models.s={backend: openai, model: x, base_url: 'http://127.0.0.1:9/v1'}"
KEYED = SERVER.replace("}", ", api_key_env: NO_SUCH_KEY}")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["logs.paths=[nowhere/at/all]"], ["nowhere/at/all"]),
        (["logs.format=wildchatt"], ["wildchatt", "wildchat"]),
        (["logs.languages=[klingon]"], ["klingon"]),
        (["training.model=no/such/model"], ["no/such/model"]),
        (["evaluation.truth=nowhere"], ["nowhere", "rlhi world"]),
        ([SERVER.replace("openai", "opnai"), "roles.policy=s"], ["opnai", "openai"]),
        ([SERVER, "roles.policy=s"], ["127.0.0.1:9"]),
        ([KEYED, "roles.labeler=s"], ["NO_SUCH_KEY"]),
        (["trainin.beta=1"], ["trainin", "training"]),
    ],
)
def test_a_wrong_recipe_ends_at_once(
    done: tuple[Path, dict[str, Any]], tmp_path: Path, settings: list[str], words: list[str]
) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    ran = rlhi("run", str(done[0] / "recipe.yaml"), *options, "--set", f"runs={tmp_path}")
    assert ran.returncode == 2, ran.stderr
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr
    assert not list(tmp_path.rglob("*.parquet"))


def test_no_recipe(tmp_path: Path) -> None:
    ran = rlhi("run", str(tmp_path / "none.yaml"))
    assert ran.returncode == 2 and "rlhi init" in ran.stderr and "Traceback" not in ran.stderr


def test_init_makes_a_recipe_that_loads(tmp_path: Path) -> None:
    assert rlhi("init", str(tmp_path / "my.yaml"), "--logs", "none/").returncode == 0
    ran = rlhi("run", str(tmp_path / "my.yaml"))
    assert ran.returncode == 2 and "none" in ran.stderr


@pytest.mark.parametrize("name", ["2024.yaml", "my recipe.yaml"])
def test_init_makes_a_recipe_that_loads_under_any_name(tmp_path: Path, name: str) -> None:
    assert rlhi("init", str(tmp_path / name), "--logs", "no such, *.jsonl").returncode == 0
    ran = rlhi("run", str(tmp_path / name))
    assert ran.returncode == 2 and "no such, *.jsonl" in ran.stderr and "wrong" not in ran.stderr


def test_ingest_keeps_the_recipe_of_another_run(tmp_path: Path) -> None:
    make_world(tmp_path, users=4)
    logs, out = str(tmp_path / "world" / "logs"), tmp_path / "mine"
    for _ in range(2):  # the same again goes on
        assert rlhi("ingest", logs, "--out", str(out)).returncode == 0
    before = (out / "recipe.yaml").read_bytes()
    other = ["ingest", logs, "--out", str(out), "--set", "logs.heldout_users=0.5"]
    refused = rlhi(*other)
    assert refused.returncode == 2 and "--force" in refused.stderr and "Traceback" not in refused.stderr
    assert (out / "recipe.yaml").read_bytes() == before
    assert rlhi(*other, "--force").returncode == 0
    assert b"heldout_users: 0.5" in (out / "recipe.yaml").read_bytes()


def test_a_second_process_is_told_and_who_reads_is_not(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    run = folder / "runs" / "small"
    before = contents(run)
    with alone(run, print):
        for words in (["run", str(folder / "recipe.yaml")], ["label", str(run)]):
            second = rlhi(*words)
            assert second.returncode == 2 and "another process works on" in second.stderr, second.stderr
        for words in (["show", str(run)], ["report", str(run)]):
            reader = rlhi(*words)
            assert reader.returncode == 0, reader.stderr
    assert contents(run) == before


def test_a_lost_scores_file_is_made_anew(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    before = contents(folder / "runs" / "small")
    (folder / "runs" / "small" / "scores.json").unlink()
    assert rlhi("evaluate", str(folder / "runs" / "small")).returncode == 0
    assert contents(folder / "runs" / "small") == before


def test_every_pair_of_a_training_is_counted(done: tuple[Path, dict[str, Any]]) -> None:
    trained = {name: entry for name, entry in done[1]["stages"].items() if name.startswith("model/")}
    assert trained
    for entry in trained.values():
        assert entry["rows_in"] == entry["rows_out"] + entry["held_out"] + sum(entry["dropped"].values())
