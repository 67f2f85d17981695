"""Writes a readable reply to a request in a given style, now and then with a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from rlhi.world.files import Language
from rlhi.world.preferences import dimensions
from rlhi.world.requests import Request, topics

Style = Mapping[str, str]

OPENERS: Mapping[Language, tuple[str, ...]] = {
    "en": ("Great question!", "Happy to help!", "Of course!", "Hi there!"),
    "es": ("¡Buena pregunta!", "¡Claro que sí!", "¡Con mucho gusto!", "¡Hola!"),
}
CLOSINGS: Mapping[Language, tuple[str, ...]] = {
    "en": ("Would you like more?", "Shall I go on?", "Does that help you?", "Anything else you need?"),
    "es": ("¿Quieres saber más?", "¿Sigo con algo más?", "¿Te sirve esto?", "¿Necesitas algo más?"),
}
EMOJI = ("😊", "👍", "✨", "🎉", "🙂", "🌟")
TONES: Mapping[Language, Mapping[str, tuple[str, ...]]] = {
    "en": {"formal": ("Please note:", "Kindly note:"), "casual": ("So, basically:", "Honestly,")},
    "es": {"formal": ("Cabe señalar:", "Le informo:"), "casual": ("Pues mira:", "La verdad,")},
}
SUMMARY: Mapping[Language, str] = {"en": "In short:", "es": "En resumen:"}
EXAMPLE: Mapping[Language, str] = {"en": "For example,", "es": "Por ejemplo,"}
LIST_HEADS: Mapping[Language, str] = {"en": "Here are some good {name}", "es": "Aquí van ideas de {name}"}
AMOUNT_HEAD = "For {people} you need {amount} of {main}, {rest}"
GREETINGS: Mapping[str, tuple[str, str]] = {
    "formal": ("Dear {to},", "Kind regards"),
    "casual": ("Hey {to}!", "Cheers"),
    "": ("Hello {to},", "Best wishes"),
}


def prior_style(request: Request, rng: Random) -> dict[str, str]:
    """A value for each dimension of the request's kind, as replies have them when nobody asks."""
    style = {}
    for name, dimension in dimensions().items():
        if request.kind in dimension.kinds:
            values = [*dimension.values, ""]
            weights = [*dimension.priors.values(), max(0.0, 1 - sum(dimension.priors.values()))]
            style[name] = rng.choices(values, weights)[0]
    if style.get("language") == "":
        style["language"] = default_language(request)
    return style


def default_language(request: Request) -> str:
    """The value of `language` that a request in its own language asks for."""
    return "spanish" if request.language == "es" else "english"


def render(request: Request, style: Style, rng: Random, *, mistake: bool = False) -> str:
    """The reply to `request` in `style` (see `prior_style`); `mistake` puts in one thing that is wrong."""
    language: Language = "es" if style.get("language", default_language(request)) == "spanish" else "en"
    body = _BODIES[request.kind](request, style, language, rng, mistake)
    emoji = f" {rng.choice(EMOJI)}" if style.get("emoji") == "with" else ""
    opener = rng.choice(OPENERS[language]) if style.get("opener") == "friendly" else ""
    closing = rng.choice(CLOSINGS[language]) if style.get("closing") == "with" else ""
    if "\n" in body:
        first = f"{opener}{emoji}\n" if opener else ""
        last = f"\n{closing}" if closing else ""
        return f"{first}{body}{'' if opener else emoji}{last}"
    parts = (f"{opener}{emoji}", body, closing) if opener else (f"{body}{emoji}", closing)
    return " ".join(part for part in parts if part)


def _facts(request: Request, style: Style, language: Language, rng: Random, mistake: bool) -> str:
    """Explanation, travel and advice: a lead sentence, then points."""
    entry = topics(request.kind)[request.topic][language]
    lead = entry[style.get("expertise") or "plain"] if "plain" in entry else entry["lead"]
    points = list(entry["facts"])
    rng.shuffle(points)
    if mistake:
        points[0] = _foreign(request, language, "facts", rng)
    if "metric" in entry:
        points.insert(0, entry[style.get("units") or "metric"])
    example = style.get("examples") == "with"
    if style.get("length") == "short":
        points = [] if example else points[:1]
        if mistake and (example or "metric" in entry):
            lead = _foreign_lead(request, style, language, rng)
    elif mistake:
        rng.shuffle(points)
    if style.get("summary") == "first":
        lead = f"{SUMMARY[language]} {_low(lead)}"
    if style.get("tone"):
        lead = f"{rng.choice(TONES[language][style['tone']])} {_low(lead)}"
    if example:
        points.append(f"{EXAMPLE[language]} {entry['example']}")
    return _layout(lead, points, style)


def _recipe(request: Request, style: Style, language: Language, rng: Random, mistake: bool) -> str:
    entry = topics("recipe")[request.topic]
    people = int(request.params["people"])
    quantity = amount(entry, people, style)
    head = AMOUNT_HEAD.format(people=people, amount=quantity, main=entry["main"], rest=entry["rest"])
    steps = list(entry["steps"])
    if mistake:
        steps[rng.randrange(2)] = _foreign(request, "en", "steps", rng)
    return _layout(head, steps[:2] if style.get("length") == "short" else [*steps, entry["tip"]], style)


def amount(entry: Mapping[str, Any], people: int, style: Style) -> str:
    """The quantity of a dish's main ingredient, in grams or in ounces."""
    if style.get("units") == "imperial":
        return f"{entry['ounces'] * people // 2} ounces"
    return f"{entry['grams'] * people // 2} g"


def _list(request: Request, style: Style, language: Language, rng: Random, mistake: bool) -> str:
    entry = topics("list")[request.topic][language]
    items = rng.sample(entry["items"], 2 if style.get("length") == "short" else 5)
    if mistake:
        items[rng.randrange(len(items))] = _foreign(request, language, "items", rng)
    return _layout(LIST_HEADS[language].format(name=entry["name"]), items, style)


def _email(request: Request, style: Style, language: Language, rng: Random, mistake: bool) -> str:
    entry = topics("email")[request.topic]
    key = _foreign(request, "en", "key", rng) if mistake else entry["key"]
    sentences = [key] if style.get("length") == "short" else [key, *entry["more"]]
    hello, bye = GREETINGS[style.get("tone") or ""]
    lines = [hello.format(to=entry["to"]), " ".join(_stop(text) for text in sentences), bye]
    if style.get("subject") == "with":
        lines.insert(0, f"Subject: {entry['subject']}")
    return "\n".join(lines)


def _code(request: Request, style: Style, language: Language, rng: Random, mistake: bool) -> str:
    entry = topics("code")[request.topic]
    lines = list(entry["lines"])
    if mistake:
        lines[1] = topics("code")[_other_topic(request, rng)]["lines"][1]
    if style.get("comments") == "with":
        lines.insert(1, f"    # {entry['comment']}")
    parts = ["```python", *lines, "```", _stop(entry[style.get("expertise") or "plain"])]
    if style.get("examples") == "with":
        parts.append(_stop(f"{EXAMPLE['en']} {entry['example']}"))
    return "\n".join(parts)


def _arithmetic(request: Request, style: Style, language: Language, rng: Random, mistake: bool) -> str:
    a, b, c = request.numbers()
    first = a + b if request.topic == "sum_sub" else a * b
    answer = request.answer
    if mistake:
        off = rng.choice((-2, -1, 1, 2, 10))
        first, answer = first + off, answer + off
    said = f"The answer is {answer}."
    if style.get("steps") != "shown":
        return said
    sign, last = ("+" if request.topic == "sum_sub" else "x"), ("+" if request.topic == "boxes_add" else "-")
    return f"{a} {sign} {b} = {first}. {first} {last} {c} = {answer}. {said}"


def _layout(lead: str, points: Sequence[str], style: Style) -> str:
    """A lead and its points as prose, bullets or numbered lines."""
    form = style.get("format") or "prose"
    if form == "prose":
        return " ".join(_stop(text) for text in (lead, *points))
    marks = ["-" if form == "bullets" else f"{place}." for place in range(1, len(points) + 1)]
    return "\n".join([_stop(lead), *(f"{mark} {point}" for mark, point in zip(marks, points, strict=True))])


def _foreign(request: Request, language: Language, part: str, rng: Random) -> str:
    """Something of the same sort that is true of another topic only."""
    entry = topics(request.kind)[_other_topic(request, rng)]
    found = (entry[language] if "en" in entry else entry)[part]
    return found if isinstance(found, str) else str(rng.choice(found))


def _foreign_lead(request: Request, style: Style, language: Language, rng: Random) -> str:
    entry = topics(request.kind)[_other_topic(request, rng)][language]
    lead: str = entry[style.get("expertise") or "plain"] if "plain" in entry else entry["lead"]
    return lead


def _other_topic(request: Request, rng: Random) -> str:
    return rng.choice([topic for topic in topics(request.kind) if topic != request.topic])


def _stop(text: str) -> str:
    return f"{text}?" if text.startswith(("Could you", "Could we", "Would you")) else f"{text}."


def _low(text: str) -> str:
    """Lower the first letter, unless the first word is a name or an abbreviation."""
    word = text.split(maxsplit=1)[0]
    keep = not word.isalpha() or word.isupper() or (word.istitle() and word not in _COMMON)
    return text if keep else text[0].lower() + text[1:]


_COMMON = frozenset(
    ("A", "An", "The", "El", "La", "Los", "Las", "Un", "Una", "It", "Good", "In", "En", "Most", "Start", "Learn")
)

_BODIES = {
    "explanation": _facts,
    "travel": _facts,
    "spanish": _facts,
    "recipe": _recipe,
    "list": _list,
    "email": _email,
    "code": _code,
    "arithmetic": _arithmetic,
}
