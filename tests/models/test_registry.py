from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from rlhi import registry
from rlhi.errors import UsageError
from rlhi.registry import Registry

PARTS = {"json": "json:loads", "path": "pathlib:Path.cwd"}


def with_entry_points(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> Registry:
    found = [EntryPoint(name=name, value=value, group="parts") for name, value in entries]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "parts" else [])
    return Registry("part", "parts", PARTS)


def test_a_part_is_imported_by_name() -> None:
    assert Registry("part", "none", PARTS).get("json")("[1]") == [1]


def test_another_package_adds_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = with_entry_points(monkeypatch, ("upper", "string:capwords"))
    assert parts.names() == ["json", "path", "upper"]
    assert parts.get("upper")("a b") == "A B"


def test_two_parts_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="two parts are named 'json': json:loads and other:thing"):
        with_entry_points(monkeypatch, ("json", "other:thing")).names()


def test_an_unknown_name_says_what_was_meant() -> None:
    with pytest.raises(UsageError, match=r"no part is named 'jsn'; did you mean 'json'\? \(known: json, path\)"):
        Registry("part", "none", PARTS).get("jsn")


@pytest.mark.parametrize("target", ["no_such_module_here:x", "json:no_such_name"])
def test_a_broken_target_names_itself(target: str) -> None:
    with pytest.raises(UsageError, match=target):
        Registry("part", "none", {"bad": target}).get("bad")
