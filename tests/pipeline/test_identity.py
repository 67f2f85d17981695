"""What a stage's output hangs on stands in its identity: settings, the tokenizer, the truth, and all code it runs."""

from __future__ import annotations

import ast
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest

import rlhi
from rlhi.errors import UsageError
from rlhi.flow.folder import RunFolder
from rlhi.flow.identity import Identity, code_digest
from rlhi.pipeline.code import CODE, TRUTH
from rlhi.pipeline.run import STEPS, preflight
from rlhi.pipeline.session import Session
from rlhi.progress import Silent
from rlhi.recipe import Recipe
from rlhi.world import EMBEDDED_PATH
from tests.models.tiny import make_tiny_model

ROOT = Path(rlhi.__file__).parent
SERVED = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
ROLES = dict.fromkeys(("policy", "rewriter", "validity", "reward"), "s")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Just enough of a folder that every step comes to its identity."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.jsonl").write_text("{}")
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "turns.jsonl").write_text("{}")
    return tmp_path


def identities(folder: Path, **changes: Any) -> dict[str, Identity]:
    """The identity of each stage of a run in `folder`."""
    for kind in ("ugr", "ubr", "ugr+ubr"):  # policies that a training would have left
        place = folder / "x" / "model" / kind / "seed-0"
        if not place.exists():
            place.parent.mkdir(parents=True)
            place.symlink_to(EMBEDDED_PATH)
    evaluation = {"judges": ["truth"], "truth": str(folder / "truth")}
    base = {"name": "x", "runs": str(folder), "logs": {"paths": [str(folder / "logs")]}, "evaluation": evaluation}
    recipe = Recipe.model_validate(base | {"models": {"s": SERVED}} | changes)
    found: dict[str, Identity] = {}

    class Looking(Session):
        def reuse(self, name: str, identity: Identity) -> bool:
            found[name] = identity
            return True

    session = Looking(recipe, RunFolder(recipe.run_dir()), Silent())
    for name, step in STEPS.items():
        if name != "report":
            step(session)
    return found


def _changed(before: dict[str, Identity], after: dict[str, Identity]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_the_length_of_a_card_makes_pairs_and_turns_anew(world: Path) -> None:
    changed = _changed(identities(world), identities(world, personas={"max_tokens": 64}))
    assert changed == {"pairs/ugr", "pairs/ubr", "turns"}


def test_another_tokenizer_makes_pairs_and_turns_anew_though_all_roles_are_served(world: Path) -> None:
    make_tiny_model(world / "one")
    shutil.copytree(world / "one", world / "two")
    tokenizer = world / "two" / "tokenizer.json"
    data = orjson.loads(tokenizer.read_bytes())
    tokenizer.write_bytes(orjson.dumps(data | {"normalizer": {"type": "Lowercase"}}))
    short = {
        "pairs": {"rollout": {"max_tokens": 64}},
        "evaluation": {"judges": ["truth"], "truth": str(world / "truth"), "max_tokens": 64},
    }
    one, two = (
        identities(world, training={"model": str(world / name)}, roles=ROLES, **short) for name in ("one", "two")
    )
    changed = _changed(one, two)
    assert {"pairs/ugr", "pairs/ubr", "turns"} <= changed
    assert not {"conversations", "labels", "personas"} & changed


def test_the_truth_makes_verdicts_and_scores_anew(world: Path) -> None:
    before = identities(world)
    (world / "truth" / "turns.jsonl").write_text('{"other": 1}')
    assert _changed(before, identities(world)) == {"verdicts/truth", "scores"}


def test_pairs_of_a_source_that_is_switched_off_do_not_count(world: Path) -> None:
    arms = [{"name": "base + persona"}, {"name": "u", "train": "ugr"}]
    evaluation = {"arms": arms, "judges": ["likelihood"]}
    off = {"pairs": {"ubr": {"enabled": False}}, "evaluation": evaluation}
    before = identities(world, **off)
    assert "pairs/ubr" not in before and "pairs/ugr" in before
    (world / "x" / "pairs").mkdir(parents=True)
    (world / "x" / "pairs" / "ubr.parquet").write_text("made under an older recipe")
    assert not _changed(before, identities(world, **off))


def test_an_arm_without_its_pairs_ends_at_once(world: Path) -> None:
    data = {"name": "x", "logs": {"paths": [str(world / "logs")]}, "pairs": {"ubr": {"enabled": False}}}
    recipe = Recipe.model_validate(data)
    for step in ("train", "evaluate"):
        with pytest.raises(UsageError, match=r"'UBR \+ persona' is trained on ubr pairs.*pairs\.ubr\.enabled"):
            preflight(recipe, [step])
    preflight(recipe, ["ingest", "pairs"])


def _path(module: str) -> Path:
    spec = find_spec(module)
    assert spec and spec.origin
    return Path(spec.origin)


DECIDES = {"rlhi.models.structured", "rlhi.models.placement", "rlhi.models.tokenizer"}
"""Modules of `models` that do."""
NO_PART = (
    "flow",
    "models",
    "pipeline",
    "progress",
    "recipe",
    "records",
    "settings",
    "registry",
)
"""What carries a stage but does not decide what it writes, or enters its identity in another way."""


IN_PROCESS = ("models.placement", "models.tokenizer")
REWARDS = ("rewards.rubric", "rewards.likelihood", "rewards.classifier")
JUDGED_BY = ("evaluation.judges.chat", "evaluation.judges.likelihood")


def _closure(*modules: str) -> set[str]:
    """Modules of rlhi that some modules import, directly or not, but for NO_PART; also DECIDES."""
    seen: set[str] = set()
    ahead = [f"rlhi.{module}" for module in modules]
    while ahead:
        module = ahead.pop()
        part = module.split(".")[1] if "." in module else ""
        carrier = not part or (part in NO_PART and module not in DECIDES)
        if module in seen or carrier:
            continue
        seen.add(module)
        for node in ast.walk(ast.parse(_path(module).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rlhi":
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                ahead += [node.module, *(name for name in inner if find_spec_of(name))]
    return seen


def find_spec_of(name: str) -> bool:
    """Whether a dotted name is a module of this package."""
    place = ROOT / Path(*name.split(".")[1:])
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


@pytest.mark.parametrize(
    ("stage", "modules"),
    [
        ("conversations", ["logs.ingest"]),
        ("labels", ["feedback.label", *IN_PROCESS]),
        ("personas", ["personas.stage", *IN_PROCESS]),
        ("pairs", ["pairs.ugr", "pairs.ubr", "pairs.tasks", *REWARDS, *IN_PROCESS]),
        ("model", ["training.train"]),
        ("turns", ["evaluation.turns", "models.tokenizer"]),
        ("replies", ["evaluation.replies", *IN_PROCESS]),
        ("verdicts", ["evaluation.comparison", *JUDGED_BY, *IN_PROCESS]),
        ("scores", ["evaluation.scores", "evaluation.figures", "evaluation.finding", "evaluation.control"]),
    ],
)
def test_all_code_of_a_stage_is_in_its_digest(stage: str, modules: list[str]) -> None:
    places = [ROOT / place for place in (*CODE[stage], *TRUTH)]
    found = _closure(*modules)
    assert len(found) >= len(modules)
    for module in found:
        path = _path(module)
        assert any(path == place or place in path.parents for place in places), f"{stage} runs {module}"


def test_a_place_of_code_that_is_gone_is_told() -> None:
    with pytest.raises(FileNotFoundError, match="no/such"):
        code_digest("no/such")
    assert code_digest("models/structured.py") != code_digest()
