"""A wrong recipe names the key and what would be right; a commented one is complete."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rlhi.cli.template import commented
from rlhi.errors import UsageError
from rlhi.recipe import Recipe, load

GOOD = {"name": "x", "logs": {"paths": ["logs/"]}}


def _load(tmp_path: Path, data: object, settings: list[str] | None = None) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return load(path, settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.bta=0.1"], ["training.bta", "unknown key", "beta"]),
        (["training.beta=high"], ["training.beta", "valid number", "high"]),
        (["pairs.ugr.min_confidnce=1"], ["pairs.ugr.min_confidnce", "min_confidence"]),
        (["roles.labeler=gpt"], ["roles.labeler", "'gpt'", "embedded"]),
        (["roles.poet=local"], ["roles.poet", "labeler"]),
        (["evaluation.judges=[truth]"], ["truth", "rlhi world"]),
        (["evaluation.against=nobody"], ["nobody", "base + persona"]),
        (["models.s={backend: openai, model: m}"], ["base_url"]),
        (["models.s={backend: openai, model: m, base_url: 'https://u:secret@h/v1'}"], ["api_key_env", "password"]),
        (["models.s={backend: openai, model: m, base_url: 'https://h/v1?key=secret'}"], ["api_key_env", "query"]),
        (["models.truth={backend: transformers, model: m}"], ["models.truth", "another name"]),
        (["models.local={backend: transformers, model: m}"], ["models.local", "another name"]),
        (["evaluation.judges=[chat]"], ["'chat'", "likelihood"]),
        (["evaluation.judges=[likelihood, likelihood]"], ["judges", "differ"]),
        (
            [
                "models={g p: {backend: transformers, model: m}, g-p: {backend: transformers, model: n}}",
                "evaluation.judges=[g p, g-p]",
            ],
            ["judges", "differ"],
        ),
        (["seeds=[1, 1]"], ["seeds", "once"]),
        (["name=a/b"], ["name"]),
        (["seeds=[]"], ["seeds"]),
        (["training"], ["KEY=VALUE"]),
        (["name.x=1"], ["not a section"]),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, settings: list[str], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, GOOD, settings)
    assert caught.value.exit_code == 2
    assert "secret" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\x00"])
def test_no_recipe_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UsageError):
        load(tmp_path / "r.yaml")
    with pytest.raises(UsageError, match="rlhi init"):
        load(tmp_path / "missing.yaml")


def test_set_overrides(tmp_path: Path) -> None:
    recipe = _load(tmp_path, GOOD, ["training.beta=0.3", "seeds=[1, 2]", "models.s={backend: transformers, model: m}"])
    assert (recipe.training.beta, recipe.seeds, recipe.models["s"].model) == (0.3, (1, 2), "m")


def test_the_policy_in_this_process_can_be_placed(tmp_path: Path) -> None:
    recipe = _load(tmp_path, GOOD, ["training.model=mine", "local={batch_size: 4, dtype: float16, device: 'cuda:1'}"])
    assert recipe.back_end("local").model_dump(include={"model", "batch_size", "dtype", "device"}) == {
        "model": "mine",
        "batch_size": 4,
        "dtype": "float16",
        "device": "cuda:1",
    }


def test_commented_recipe_shows_the_defaults() -> None:
    text = commented("x", "logs/")
    assert Recipe.model_validate(yaml.safe_load(text)) == Recipe.model_validate(GOOD)
    open_text = "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:])
    shown = yaml.safe_load(open_text)
    assert shown.pop("models")["server"]["backend"] == "openai"
    assert Recipe.model_validate(shown) == Recipe.model_validate(GOOD)


def test_resolved_recipe_is_a_recipe(tmp_path: Path) -> None:
    recipe = _load(tmp_path, GOOD)
    assert _load(tmp_path, recipe.model_dump(mode="json")) == recipe
