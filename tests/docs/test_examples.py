"""What the pages show works: code runs, patches apply, packages are found, recipes load."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
import yaml

from rlhi import recipe
from rlhi.world import EMBEDDED_PATH
from rlhi.world.simulate import write_world
from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES, Block, blocks, environment, write_files

RUNNING = [page for page in PAGES if any("run" in block.words for block in blocks(page))]


def carry_out(block: Block, folder: Path) -> None:
    """Run a block in a process of its own; Python's line numbers are those of the page."""
    if block.language == "python":
        script = folder / f"{block.page}.{block.line}.py"
        script.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
        words = [sys.executable, str(script)]
    else:
        words = ["bash", "-euc", block.text]
    done = subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def rlhi(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rlhi", *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that went as far as labels, as the pages assume."""
    folder = tmp_path_factory.mktemp("labelled")
    write_world(folder / "world", users=4, seed=1, conversations=(3, 5))
    for words in (["ingest", "world/logs", "--out", "runs/mine"], ["label", "runs/mine", "--labeler", "local"]):
        done = rlhi(folder, *words)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path, labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(labelled, folder)
    found = blocks(page)
    write_files(found, folder)
    for block in found:
        if "run" not in block.words or "embedded" in block.words:
            continue
        carry_out(block, folder)


@pytest.mark.slow
@pytest.mark.skipif(not (EMBEDDED_PATH / "config.json").exists(), reason="the embedded model is not in this checkout")
def test_the_examples_that_need_a_model_run(tmp_path: Path) -> None:
    needing = [block for page in PAGES for block in blocks(page) if "embedded" in block.words]
    assert needing
    write_world(tmp_path / "runs" / "world", users=8, seed=1)
    for block in needing:
        carry_out(block, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_that_is_only_shown_is_code(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, str(block))
        elif block.language == "yaml":
            yaml.safe_load(block.text)


def test_the_example_package_is_found_and_its_reader_sorts_good_from_broken(tmp_path: Path) -> None:
    write_files(blocks(REPOSITORY / "docs" / "extending.md"), tmp_path)
    for wanted in ("auto", "helpdesk"):
        out = f"runs/{wanted}"
        done = rlhi(tmp_path, "ingest", "tickets.jsonl", "--out", out, "--format", wanted)
        assert done.returncode == 0, done.stderr
        read = pl.read_parquet(tmp_path / out / "conversations/conversations.parquet")
        assert read.select("conversation_id", "user_id").rows() == [("T1", "c7")]
        assert [said["role"] for said in read["messages"][0]] == ["user", "assistant", "user", "assistant"]
        lost = pl.read_parquet(tmp_path / out / "quarantine/quarantine.parquet")
        assert lost.select("line", "reason").rows() == [(2, "unknown_role")]


def test_the_example_back_end_labels(tmp_path: Path) -> None:
    found = blocks(REPOSITORY / "docs" / "extending.md")
    write_files(found, tmp_path)
    for block in found:
        if block.language == "bash" and "run" in block.words:
            carry_out(block, tmp_path)
    labels = pl.read_parquet(tmp_path / "runs/helpdesk/labels/labels.parquet")
    assert labels["label"].to_list() == ["other"]
    assert labels["labeler"][0].startswith("shrug.py@")


def test_an_unknown_part_is_refused_by_name(tmp_path: Path) -> None:
    write_files(blocks(REPOSITORY / "docs" / "extending.md"), tmp_path)
    done = rlhi(tmp_path, "ingest", "tickets.jsonl", "--out", "runs/x", "--format", "helpdesq")
    assert done.returncode == 2
    assert "helpdesk" in done.stderr and "Traceback" not in done.stderr


def test_the_patch_that_adds_a_label_applies_and_works(tmp_path: Path) -> None:
    (patch,) = [b for page in PAGES for b in blocks(page) if "apply" in b.words]
    shutil.copytree(REPOSITORY / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "embedded"))
    git = shutil.which("git")
    assert git
    done = subprocess.run(
        [git, "apply", "-"], input=patch.text, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    code = (
        "from rlhi.feedback.label import Answer; from rlhi.feedback.taxonomy import DEFINITIONS, LABELS;"
        "from rlhi.prompts import template;"
        "made = Answer(label='objects_to_refusal', satisfaction=1, confidence=1, span='');"
        "assert made.label in LABELS and set(LABELS) == set(DEFINITIONS) and made.label in template('label')"
    )
    env = {**environment(tmp_path), "PYTHONPATH": str(tmp_path / "src")}
    tried = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr


@pytest.mark.parametrize(
    "block",
    [b for b in blocks(REPOSITORY / "README.md") if b.language == "bash" and "rlhi init" in b.text],
    ids=str,
)
def test_the_recipes_of_the_readme_are_valid(block: Block, tmp_path: Path) -> None:
    lines = block.text.strip().replace("\\\n", " ").split("\n")
    assert len(lines) <= 4
    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines[:-1])],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words = shlex.split(lines[-1])
    assert words[:2] == ["rlhi", "run"]
    settings = [value for flag, value in pairwise(words) if flag == "--set"]
    loaded = recipe.load(tmp_path / words[2], settings)
    assert loaded.logs.paths == ("my_logs/",)
    assert loaded.training.model.startswith("Qwen/")
    served = re.search("base_url", block.text) is not None
    assert (loaded.roles.labeler, loaded.evaluation.judges) == (
        ("server", ("server",)) if served else ("local", ("likelihood",))
    )
