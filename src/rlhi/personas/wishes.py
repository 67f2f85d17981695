"""The hand-written ways to say a wish, from which the facet reader and the labeler are trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import permutations
from typing import Any

import numpy as np
import yaml

from rlhi.personas.facets import Wish

LISTED = ("en", "es")
"""Languages with a file of whole messages, `cases/messages_*.yaml`."""

_PRAISE = re.compile(
    r"\b(?:love|like that|great|cute|helped|nice and|fine with me|I like(?: your| how)? )|me encantan", re.I
)


@dataclass(frozen=True)
class Said:
    """A way to say a wish."""

    text: str
    """The message."""
    wish: Wish | None
    """What it wishes; None = nothing."""
    language: str
    """ISO 639-1 code."""
    whole: bool
    """Written as a whole, not put into a mould."""


@cache
def table() -> dict[str, Any]:
    """The parsed `cases/wishes.yaml`."""
    text = (files(__package__) / "cases" / "wishes.yaml").read_text(encoding="utf-8")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def frames(language: str) -> list[str]:
    """All sentence moulds of a language; empty where it has none."""
    return [mould for moulds in table()["frames"].get(language, {}).values() for mould in moulds]


def said(rng: np.random.Generator, moulds: int) -> Iterator[Said]:
    """Every whole message of `wishes.yaml`, every filler in `moulds` moulds drawn by `rng`, what wishes nothing."""
    for facet, values in table()["facets"].items():
        for value, languages in values.items():
            wish = Wish(facet, value)
            for language, spec in languages.items():
                yield from (Said(text, wish, language, True) for text in spec.get("says", []))
                for frame in sorted(spec.keys() - {"says"}):
                    shapes = table()["frames"][language][frame]
                    for filler in spec[frame]:
                        picked = rng.choice(len(shapes), size=min(moulds, len(shapes)), replace=False)
                        yield from (Said(shapes[place].format(x=filler), wish, language, False) for place in picked)
    for language, texts in table()["nothing"].items():
        yield from (Said(text, None, language, True) for text in texts)


def listed() -> Iterator[Said]:
    """The whole messages of `cases/messages_*.yaml`."""
    for language in LISTED:
        text = (files(__package__) / "cases" / f"messages_{language}.yaml").read_text(encoding="utf-8")
        facets: dict[str, dict[str, str]] = yaml.safe_load(text)
        for facet, values in facets.items():
            for value, lines in values.items():
                wish = None if facet == "nothing" else Wish(facet, value)
                yield from (Said(said.strip(), wish, language, True) for said in lines.split(" | "))


def contrasts(rng: np.random.Generator, moulds: int) -> Iterator[Said]:
    """One value preferred to another (`cases/contrasts.yaml`): each filler in `moulds` moulds drawn by `rng`."""
    table = yaml.safe_load((files(__package__) / "cases" / "contrasts.yaml").read_text(encoding="utf-8"))
    for facet, values in table["facets"].items():
        for value, other in permutations(values, 2):
            for language, shapes in table["moulds"].items():
                unwanted = values[other][language]
                for filler in values[value][language]:
                    for place in rng.choice(len(shapes), size=min(moulds, len(shapes)), replace=False):
                        text = shapes[place].format(x=filler, y=unwanted[rng.integers(len(unwanted))])
                        yield Said(text, Wish(facet, value), language, True)


def complaints(rng: np.random.Generator, moulds: int) -> Iterator[Said]:
    """The wishes that ask for something else, without those that praise what there is."""
    yield from (one for one in said(rng, moulds) if one.wish and not _PRAISE.search(one.text))
