"""A wrong recipe names the key and what would be right; a commented one is complete."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rlhi.cli.template import commented
from rlhi.errors import UsageError
from rlhi.recipe import Recipe, load
from rlhi.yamlfile import read_yaml

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
        (["roles.reward=embedded", "pairs.ugr.max_slip=0.1"], ["pairs.ugr.max_slip", "roles.reward"]),
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


def test_a_key_that_stands_twice_is_named_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nlogs: {paths: [a]}\ntraining:\n  beta: 0.1\n  epochs: 2\n  beta: 0.2\n")
    with pytest.raises(UsageError, match=r"line 6: the key 'beta' stands in line 4 already"):
        load(path)
    path.write_text("name: x\nlogs: &l {paths: [a]}\nlogs: *l\n")
    with pytest.raises(UsageError, match="line 3: the key 'logs'"):
        load(path)


def test_merged_keys_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\nlogs: {paths: [a]}\nmodels:\n  a: &a {backend: transformers, model: m}\n"
                                     "  b:\n    <<: *a\n    model: n\n")  # fmt: skip
    assert load(tmp_path / "r.yaml").models["b"].model == "n"


def test_keys_merged_twice_over_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: {b: &b {<<: &c {k: 1}, k: 2}}\nd: {<<: *b, k: 3}\n")
    assert read_yaml(path, "file", "") == {"a": {"b": {"k": 2}}, "d": {"k": 3}}


@pytest.mark.parametrize(
    "setting", ["seeds=[1, 2", "training={beta: 1, beta: 2}", "name=a: b: c", "training.beta=\x00"]
)
def test_a_setting_that_is_no_yaml_is_named(tmp_path: Path, setting: str) -> None:
    with pytest.raises(UsageError, match="not valid YAML") as caught:
        _load(tmp_path, GOOD, [setting])
    assert setting in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("2024", "2024"),
        ("my recipe", "my-recipe"),
        ("1e3", "1e3"),
        ("on", "on"),
        ("_x", "x"),
        ("日本", "run"),
        ("a.B-c", "a.B-c"),
    ],
)
@pytest.mark.parametrize("logs", ["logs/", "*.jsonl", "a, b/", "[x]", "hub:a/b", 'it\'s #1: "x"', "&a", "{b}", "12"])
def test_a_made_recipe_loads_whatever_it_is_called(tmp_path: Path, stem: str, name: str, logs: str) -> None:
    (tmp_path / "r.yaml").write_text(commented(stem, logs))
    recipe = load(tmp_path / "r.yaml")
    assert (recipe.name, recipe.logs.paths) == (name, (logs,))


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = _load(tmp_path, GOOD, ["runs=~/runs", "evaluation.truth=~/truth"])
    assert recipe.run_dir() == tmp_path / "runs" / "x"
    assert recipe.store_path() == tmp_path / "runs" / "completions.sqlite"
    assert recipe.evaluation.truth_dir() == tmp_path / "truth"
