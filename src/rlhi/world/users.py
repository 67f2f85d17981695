"""Simulated people: what they want, how patient they are, which language they speak."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from rlhi.world.files import Language
from rlhi.world.preferences import KINDS, Dimension, Kind, Preference, dimensions

PREFERENCES = (5, 6)
"""Fewest and most preferences of a person."""


@dataclass(frozen=True)
class Temper:
    """How a person reacts, each a probability 0–1."""

    impatience: float
    """To complain of a reply that misses one wish (more for each further one)."""
    vagueness: float
    """To complain without saying what is wrong."""
    gratitude: float
    """To thank for a reply that is fine."""
    error: float
    """To correct something that was right."""
    sloppiness: float
    """To write in lower case, without full stops, with typing errors."""
    hostile: bool
    """Whether complaints come with insults."""


@dataclass
class Person:
    """Somebody who writes: hidden wishes and habits. `change` turns one wish into another during the person's life."""

    native: Language
    kinds: tuple[Kind, ...]
    preferences: list[Preference]
    temper: Temper
    change: tuple[Preference, Preference] | None = None
    """(old, new): a change of mind that is still to come."""

    def change_mind(self) -> Preference:
        """Put the new wish in the place of the old one and return it. Raises `ValueError` without a change to come."""
        if self.change is None:
            raise ValueError("This person has no change of mind to come.")
        old, new = self.change
        self.preferences[self.preferences.index(old)] = new
        self.change = None
        return new


def make_person(rng: Random, *, hostile: bool = False, fickle: bool = False, native: Language | None = None) -> Person:
    """A random person; a `fickle` one will change one wish."""
    native = native or ("es" if rng.random() < 0.2 else "en")
    usual: list[Kind] = [kind for kind in KINDS if kind != "spanish"]
    kinds: tuple[Kind, ...] = (*rng.sample(usual, 3), "spanish" if native == "es" else rng.choice(usual))
    person = Person(
        native=native,
        kinds=kinds,
        preferences=_preferences(kinds, rng),
        temper=Temper(
            impatience=rng.uniform(0.35, 0.7),
            vagueness=rng.uniform(0.1, 0.35),
            gratitude=rng.uniform(0.2, 0.6),
            error=rng.uniform(0.0, 0.05),
            sloppiness=rng.uniform(0.0, 0.6),
            hostile=hostile,
        ),
    )
    if fickle:
        old = rng.choice([p for p in person.preferences if p.dimension != "language"])
        others = [value for value in dimensions()[old.dimension].values if value != old.value]
        person.change = (old, Preference(old.dimension, rng.choice(others), old.condition))
    return person


def _preferences(kinds: tuple[Kind, ...], rng: Random) -> list[Preference]:
    """Wishes that matter for the kinds of request this person likes; rather what replies do not do by themselves."""
    found: list[Preference] = []
    left = {name: d.weight * sum(kind in d.kinds for kind in kinds) for name, d in dimensions().items()}
    for _ in range(rng.randint(*PREFERENCES)):
        name = rng.choices(list(left), list(left.values()))[0]
        del left[name]
        found.extend(_wish(dimensions()[name], kinds, rng))
    return found


def _wish(dimension: Dimension, kinds: tuple[Kind, ...], rng: Random) -> list[Preference]:
    value: str
    if dimension.name == "language":
        value = rng.choice(("english", "spanish")) if "spanish" in kinds else "spanish"
        return [Preference("language", value)]
    value = rng.choices(dimension.values, [1 - prior for prior in dimension.priors.values()])[0]
    liked = [kind for kind in dict.fromkeys(kinds) if kind in dimension.kinds]
    if len(dimension.kinds) == 1 or rng.random() > 0.25:
        return [Preference(dimension.name, value)]
    special = Preference(dimension.name, value, rng.choice(liked))
    if len(liked) == 1 or rng.random() < 0.6:
        return [special]
    other = rng.choice([v for v in dimension.values if v != value])
    return [Preference(dimension.name, other), special]


Quirk = Literal["hostile", "fickle", "shared", "plain"]


def quirk(place: int) -> Quirk:
    """What is special about the user at a place: 1 in 20 is hostile, 1 in 20 a shared account, 1 in 5 fickle."""
    turn = place % 20
    return "hostile" if turn == 3 else "shared" if turn == 7 else "fickle" if turn % 5 == 1 else "plain"
