"""The dimensions in which users differ, their values, and the words for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal, get_args

from rlhi.world.files import Language, Phrasings, content, phrasings

Kind = Literal["explanation", "recipe", "travel", "email", "code", "list", "arithmetic", "spanish"]
KINDS: tuple[Kind, ...] = get_args(Kind)

CONDITIONS: Mapping[Kind, Mapping[Language, str]] = {
    "explanation": {"en": "explanations", "es": "explicaciones"},
    "recipe": {"en": "recipes", "es": "recetas"},
    "travel": {"en": "travel", "es": "viajes"},
    "email": {"en": "e-mails", "es": "correos"},
    "code": {"en": "code", "es": "código"},
    "list": {"en": "recommendations", "es": "recomendaciones"},
    "arithmetic": {"en": "maths", "es": "cálculos"},
    "spanish": {"en": "advice", "es": "consejos"},
}


@dataclass(frozen=True)
class Dimension:
    """One way in which replies, and the wishes of users, differ."""

    name: str
    """Its key, such as `length`."""
    kinds: tuple[Kind, ...]
    """Kinds of request whose replies realise it."""
    weight: float
    """How often users hold a preference in it, relative to the others."""
    priors: Mapping[str, float]
    """Share of replies that realise each value when nobody asks; what is missing to 1 realises none."""
    canonical: Mapping[str, str]
    """The plain English statement of each value."""

    @property
    def values(self) -> tuple[str, ...]:
        """Its values."""
        return tuple(self.priors)


@dataclass(frozen=True)
class Preference:
    """What a user wants in one dimension, always or for one kind of request only."""

    dimension: str
    value: str
    condition: Kind | None = None

    def applies(self, kind: Kind) -> bool:
        """Whether it says something of replies to requests of this kind."""
        return kind in dimensions()[self.dimension].kinds and self.condition in (None, kind)


@cache
def dimensions() -> Mapping[str, Dimension]:
    """All dimensions by name."""
    return {
        name: Dimension(
            name=name,
            kinds=tuple(spec["kinds"]),
            weight=float(spec["weight"]),
            priors={value: float(told["prior"]) for value, told in spec["values"].items()},
            canonical={value: str(told["says"]) for value, told in spec["values"].items()},
        )
        for name, spec in content("preferences").items()
    }


def wanted(preferences: Iterable[Preference], kind: Kind) -> dict[str, str]:
    """The value wanted in each dimension for one kind of request; a conditional wish goes before a general one."""
    general: dict[str, str] = {}
    special: dict[str, str] = {}
    for preference in preferences:
        if preference.applies(kind):
            (special if preference.condition else general)[preference.dimension] = preference.value
    return general | special


def statement(preference: Preference, rng: Random, which: Phrasings, canonical_share: float = 0.4) -> str:
    """A line of a persona card that says this preference, canonical or in other words."""
    dimension = dimensions()[preference.dimension]
    text = dimension.canonical[preference.value]
    if rng.random() >= canonical_share:
        text = rng.choice(phrasings("statements", which)[preference.dimension][preference.value])
    return f"For {CONDITIONS[preference.condition]['en']}: {text}" if preference.condition else text


def wishes(dimension: str, value: str, language: Language, which: Phrasings) -> list[str]:
    """What users say who miss this value."""
    found: list[str] = phrasings("wishes", which)[dimension][value][language]
    return found


# Read from the top: the first pattern that is found decides, so that negations and rarer words stand first.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("comments", "without", r"(no|without|leave out|dislike|remove|delete|uncomment|omit).*comment"),
    ("comments", "with", r"comment"),
    ("subject", "without", r"(no|without|leave out|dislike|remove|drop|omit|skip).*subject"),
    ("subject", "with", r"subject"),
    (
        "steps",
        "hidden",
        r"(only|just).*(answer|result|number)|(no|not|without|omit|skip).*(step|working|calculation)"
        r"|(answer|result) alone",
    ),
    ("steps", "shown", r"step(?!.by)|working|calculation"),
    ("emoji", "without", r"(no|not|without|leave out|dislike|avoid|omit).*(emoji|smiley)"),
    ("emoji", "with", r"emoji|smiley"),
    ("summary", "none", r"(no|not|without|skip|dislike|leave out|omit).*(summar|gist)"),
    ("summary", "first", r"summar|gist|main point|key point"),
    ("examples", "without", r"(no|not|without|leave out|dislike|avoid|omit).*example"),
    ("examples", "with", r"example"),
    ("closing", "without", r"(no|not|without|dislike|leave out|avoid|stop).*(question|asked)"),
    ("closing", "with", r"question|asked something"),
    ("language", "english", r"\benglish\b"),
    ("language", "spanish", r"\bspanish\b"),
    ("units", "imperial", r"imperial|\bmiles?\b|ounces?"),
    ("units", "metric", r"metric|\bkm\b|kilomet|\bgrams?\b"),
    ("opener", "direct", r"straight|direct|pleasantr|without an (intro|opening)|no (intro|greeting|opening)|niceties"),
    ("opener", "friendly", r"friendly|warm|greet|kind word"),
    ("expertise", "plain", r"plain (words|language)|jargon|simpl|easy words|layman|beginner"),
    ("expertise", "technical", r"technical|scientific|expert"),
    ("tone", "casual", r"casual|relaxed|informal|laid.back"),
    ("tone", "formal", r"formal|professional|businesslike"),
    ("format", "prose", r"prose|paragraph|flowing|running text|(no|not|without) (bulleted |numbered )?lists?"),
    ("format", "numbered", r"number"),
    ("format", "bullets", r"bullet|dashes"),
    ("length", "detailed", r"detail|thorough|too (short|thin)|longer|in.depth|elaborate|full explanation"),
    ("length", "short", r"short|brief|brevity|concise|long text|read little|condense"),
)


def meaning(text: str) -> tuple[str, str] | None:
    """The (dimension, value) that a persona statement in English says, or None where it says none of the world's.

    The world's own statements, `train` and `test`, are looked up; any other wording is read by its key words.
    """
    plain = _normal(text)
    known = _known_statements().get(plain)
    if known:
        return known
    if re.search(r"bullet.*over.*paragraph", plain):
        return ("format", "bullets")
    for dimension, value, pattern in _MEANINGS:
        if re.search(pattern, plain):
            return dimension, value
    return None


def condition_kind(text: str) -> Kind | None:
    """The kind of request that the condition of a statement names, or None where it names none of the world's."""
    plain = _normal(text)
    for kind, pattern in _CONDITION_WORDS.items():
        if re.search(pattern, plain):
            return kind
    return None


_CONDITION_WORDS: Mapping[Kind, str] = {
    "explanation": r"expla|explicac",
    "recipe": r"recipe|cook|receta|cocina",
    "travel": r"travel|trip|city|viaje",
    "email": r"mail|correo|message",
    "code": r"\bcod|program|python|código",
    "list": r"recommend|list|recomenda",
    "arithmetic": r"math|arithmetic|calcul|cálcul|number",
    "spanish": r"advice|consejo|spanish",
}


@cache
def _known_statements() -> Mapping[str, tuple[str, str]]:
    found = {
        _normal(text): (name, value)
        for name, dimension in dimensions().items()
        for value, text in dimension.canonical.items()
    }
    for name, values in phrasings("statements", "all").items():
        found |= {_normal(text): (name, value) for value, texts in values.items() for text in texts}
    return found


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[\w'-]+", text.lower()))
