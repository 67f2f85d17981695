"""The world's YAML: what replies know (`content/`) and how users speak (`phrasings/train`, `phrasings/test`)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

Phrasings = Literal["train", "test", "all"]
Language = Literal["en", "es"]


@cache
def content(name: str) -> dict[str, Any]:
    """The parsed file `content/NAME.yaml`. Raises `FileNotFoundError` where there is none."""
    return _load(f"content/{name}.yaml")


@cache
def phrasings(name: str, which: Phrasings) -> dict[str, Any]:
    """The parsed file `phrasings/WHICH/NAME.yaml`; `all` joins the lists of both sets."""
    if which == "all":
        joined: dict[str, Any] = _joined(phrasings(name, "train"), phrasings(name, "test"))
        return joined
    return _load(f"phrasings/{which}/{name}.yaml")


def reactions(key: str, language: Language, which: Phrasings) -> list[str]:
    """The templates under `key` of `reactions.yaml` in one language."""
    found: list[str] = phrasings("reactions", which)[key][language]
    return found


def _load(place: str) -> dict[str, Any]:
    text = files("rlhi.world").joinpath(place).read_text(encoding="utf-8")
    parsed: dict[str, Any] = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader in either case
    return parsed


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _joined(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return {key: _joined(left[key], right[key]) for key in left}
    return [*left, *(text for text in right if text not in left)]
