"""What users ask: kinds, topics and parameters, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from rlhi.world.files import Language, Phrasings, content, phrasings, reactions
from rlhi.world.preferences import Kind

SOURCES: Mapping[Kind, str] = {
    "explanation": "explanation",
    "recipe": "recipe",
    "travel": "travel",
    "email": "email",
    "code": "code",
    "list": "lists",
    "spanish": "advice",
}
NAMES = ("Anna", "Ben", "Clara", "David", "Eva", "Finn", "Grace", "Hugo", "Ines", "Jack", "Kim", "Leo")
ITEMS = ("pens", "apples", "stamps", "coins", "cards", "eggs", "books", "shells", "keys", "cups")
MONTHS = ("March", "April", "May", "June", "July", "September", "October", "December")
ARITHMETIC = ("boxes_add", "boxes_sub", "sum_sub")


@dataclass(frozen=True)
class Request:
    """What a user wants done."""

    kind: Kind
    """Kind of request."""
    topic: str
    """Key of the topic in the kind's content; for arithmetic the type of problem."""
    params: Mapping[str, int | str] = field(default_factory=dict)
    """Numbers and words that fill the phrasing: days, month, people; a, b, c, name, item."""

    @property
    def language(self) -> Language:
        """The language it is asked in, and by default answered in."""
        return "es" if self.kind == "spanish" else "en"

    @property
    def answer(self) -> int:
        """The right number of an arithmetic problem. Raises `KeyError` for other kinds."""
        a, b, c = (int(self.params[name]) for name in "abc")
        return {"boxes_add": a * b + c, "boxes_sub": a * b - c, "sum_sub": a + b - c}[self.topic]

    def numbers(self) -> tuple[int, int, int]:
        """The three numbers of an arithmetic problem."""
        return int(self.params["a"]), int(self.params["b"]), int(self.params["c"])


def topics(kind: Kind) -> dict[str, Any]:
    """All topics of a kind of request, arithmetic excepted."""
    return content(SOURCES[kind])


def sample(kind: Kind, rng: Random) -> Request:
    """A random request of one kind."""
    if kind == "arithmetic":
        topic = rng.choice(ARITHMETIC)
        a, b = rng.sample(range(4 if topic == "sum_sub" else 2, 10), 2)
        c = rng.choice([n for n in range(2, 10) if n not in (a, b) and n < a * b])
        return Request(kind, topic, {"a": a, "b": b, "c": c, "name": rng.choice(NAMES), "item": rng.choice(ITEMS)})
    params: dict[str, int | str] = {}
    if kind == "travel":
        params = {"days": rng.randint(2, 9), "month": rng.choice(MONTHS)}
    elif kind == "recipe":
        params = {"people": rng.choice((2, 4))}
    return Request(kind, rng.choice(sorted(topics(kind))), params)


def continued(request: Request, rng: Random) -> Request:
    """A request that builds on an answered one: another topic of the kind, or another number."""
    if request.kind == "arithmetic":
        a, b, c = request.numbers()
        others = [n for n in range(2, 10) if n not in (a, b, c) and n < a * b]
        return replace(request, params={**request.params, "c": rng.choice(others), "was": c})
    if request.kind == "recipe" and rng.random() < 0.4:
        return replace(request, params={"people": 6 - int(request.params["people"]), "same": 1})
    elsewhere = sorted(set(topics(request.kind)) - {request.topic})
    params = {name: value for name, value in request.params.items() if name != "same"}
    return replace(request, topic=rng.choice(elsewhere), params=params)


def topic_name(request: Request, language: Language = "en") -> str:
    """The topic in words."""
    if request.kind == "arithmetic":
        return "this sum" if language == "en" else "esta cuenta"
    entry = topics(request.kind)[request.topic]
    name: str = entry[language]["name"] if "en" in entry else entry["name"]
    prefix = {"code": {"en": "code that ", "es": "código: "}, "email": {"en": "a mail ", "es": "un correo: "}}
    return prefix.get(request.kind, {}).get(language, "") + name


def ask(request: Request, rng: Random, which: Phrasings, wish: str = "") -> str:
    """The user's words for a request; `wish` is said along with it."""
    language = request.language
    templates = phrasings("requests", which)[request.kind]
    if request.kind == "arithmetic":
        text = str(rng.choice(templates[request.topic])).format(**request.params)
    else:
        entry = topics(request.kind)[request.topic]
        name = entry[language]["name"] if "en" in entry else entry["name"]
        text = str(rng.choice(templates)).format(topic=name, **request.params)
    text += rng.choice(reactions("request_suffix", language, which))
    if wish:
        text = rng.choice(phrasings("requests", which)["inline_wish"]).format(request=text, wish=wish)
    prefix = rng.choice(reactions("request_prefix", language, which))
    return prefix + (text[0].lower() + text[1:] if prefix.endswith(", ") else text)


def go_on(request: Request, language: Language, rng: Random, which: Phrasings) -> str:
    """The user's words for a request that `continued` made."""
    language = "es" if request.kind == "spanish" else language
    if request.kind == "arithmetic":
        joint = "instead of" if language == "en" else "en vez de"
        name = f"{request.params['c']} {joint} {request.params['was']}"
    elif "same" in request.params:
        name = f"{request.params['people']} " + ("people" if language == "en" else "personas")
    else:
        name = topic_name(request, language)
    return rng.choice(reactions("continuation", language, which)).format(topic=name)
