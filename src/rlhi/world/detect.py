"""Reads a reply: which value it realises in each dimension, and how much of it is true.

Deterministic, and forgiving of a small model's slips: sentences are recognised by their words, not letter by letter.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rlhi.world.preferences import Kind, dimensions
from rlhi.world.requests import Request, topics
from rlhi.world.writer import LIST_HEADS, default_language

SHORT_WORDS = 34
"""Most words of a short reply."""
SHORT_EMAIL_WORDS = 27
"""Most words of a short e-mail, its subject line aside."""

_EMOJI = re.compile("[\U0001f300-\U0001faff☀-➿️]")
_CODE = re.compile(r"```.*?(```|$)", re.DOTALL)
_OPENER = re.compile(
    r"\W*(great question|good question|sure|of course|happy to|glad|hi there|hello there"
    r"|buena pregunta|claro|con mucho gusto|hola)",
    re.IGNORECASE,
)
_ENGLISH = re.compile(
    r"\b(the|is|a|of|to|and|it|in|you|for|from|with|are|on|your|at|that|this|some|or|by|as|so|than|not|we|when|under|over"
    r"|onto|through)\b"
)
_SPANISH = re.compile(r"\b(el|la|los|las|es|un|una|de|y|que|en|con|del|por|para|se|no|su|al|lo)\b|[¿¡ñáéíóú]")
_MARK = re.compile(r"^\s*([-*•]|\d+[.)])\s+")
_LEAD_IN = re.compile(
    r"^((In short|En resumen|Please note|Kindly note|So, basically|Cabe señalar|Le informo|Pues mira):"
    r"|Honestly,|La verdad,)"
    r"(\s*(in short|en resumen):)?",
    re.IGNORECASE,
)
_MANNERS = re.compile(
    rf"{_OPENER.pattern}|subject:|dear |hey |hello |kind regards|cheers|best wishes|¿"
    r"|would you like more|shall i|does that|anything else",
    re.IGNORECASE,
)


def words(text: str) -> int:
    """Number of words, the numbers of a numbered list aside."""
    return len(re.findall(r"\w+(?:['’.]\w+)*", re.sub(r"^\s*\d+[.)] ", "", text, flags=re.MULTILINE)))


def detect(reply: str, request: Request) -> dict[str, str | None]:
    """The value of each dimension that the request's kind has; None where the reply does not tell."""
    return {
        name: _DETECTORS[name](reply, request)
        for name, dimension in dimensions().items()
        if request.kind in dimension.kinds
    }


def _length(reply: str, request: Request) -> str | None:
    if request.kind == "email":
        body = "\n".join(line for line in reply.splitlines() if not line.startswith("Subject:"))
        return "short" if words(body) <= SHORT_EMAIL_WORDS else "detailed"
    return None if not reply.strip() else "short" if words(reply) <= SHORT_WORDS else "detailed"


def _format(reply: str, request: Request) -> str | None:
    bullets = len(re.findall(r"^\s*[-*•] ", reply, re.MULTILINE))
    numbered = len(re.findall(r"^\s*\d+[.)] ", reply, re.MULTILINE))
    if (bullets and numbered) or not reply.strip():
        return None
    return "bullets" if bullets else "numbered" if numbered else "prose"


def _tone(reply: str, request: Request) -> str | None:
    formal = re.search(r"please note|kindly note|^dear |kind regards|cabe señalar|le informo", reply, re.I | re.M)
    casual = re.search(r"basically|honestly|^hey |^cheers|pues mira|la verdad", reply, re.I | re.M)
    if bool(formal) == bool(casual):
        return None
    return "formal" if formal else "casual"


def _language(reply: str, request: Request) -> str | None:
    english, spanish = len(_ENGLISH.findall(reply.lower())), len(_SPANISH.findall(reply.lower()))
    return None if english == spanish else "english" if english > spanish else "spanish"


def _units(reply: str, request: Request) -> str | None:
    metric = re.search(r"\d ?(km|g|kg|m|cm)\b|kilomet|kilómet|\bgram", reply, re.I)
    imperial = re.search(r"\bmiles?\b|ounces?|\boz\b|millas?|onzas?|pounds?", reply, re.I)
    if bool(metric) == bool(imperial):
        return None
    return "metric" if metric else "imperial"


def _examples(reply: str, request: Request) -> str | None:
    return "with" if re.search(r"for example|for instance|por ejemplo", reply, re.I) else "without"


def _summary(reply: str, request: Request) -> str | None:
    return "first" if re.search(r"in short[:,]|en resumen[:,]", reply[:90], re.I) else "none"


def _expertise(reply: str, request: Request) -> str | None:
    parts = [found.part for found in (match(s, request.kind) for s in sentences(reply)) if found]
    plain, technical = parts.count("plain"), parts.count("technical")
    return None if plain == technical else "plain" if plain > technical else "technical"


def _emoji(reply: str, request: Request) -> str | None:
    return "with" if _EMOJI.search(reply) else "without"


def _steps(reply: str, request: Request) -> str | None:
    equals = reply.count("=")
    return "shown" if equals >= 2 else None if equals else "hidden"


def _comments(reply: str, request: Request) -> str | None:
    code = _CODE.search(reply)
    if not code:
        return None
    return "with" if re.search(r"^\s*#|\s#\s", code.group(0), re.MULTILINE) else "without"


def _closing(reply: str, request: Request) -> str | None:
    text = _EMOJI.sub("", reply).strip()
    return "with" if text.endswith("?") else "without"


def _opener(reply: str, request: Request) -> str | None:
    return "friendly" if _OPENER.match(_EMOJI.sub("", reply)) else "direct"


def _subject(reply: str, request: Request) -> str | None:
    return "with" if re.search(r"^subject:", reply, re.I | re.M) else "without"


_DETECTORS: Mapping[str, Callable[[str, Request], str | None]] = {
    "length": _length,
    "format": _format,
    "tone": _tone,
    "language": _language,
    "units": _units,
    "examples": _examples,
    "summary": _summary,
    "expertise": _expertise,
    "emoji": _emoji,
    "steps": _steps,
    "comments": _comments,
    "closing": _closing,
    "opener": _opener,
    "subject": _subject,
}


@dataclass(frozen=True)
class Known:
    """A sentence that the world knows to be true of a topic."""

    topic: str
    part: str
    text: str
    tokens: frozenset[str]


def correctness(reply: str, request: Request, wanted: Mapping[str, str]) -> float:
    """How right a reply is, 0–1.

    Arithmetic: 1 where the number given as the answer (else the last number) is right, 0 otherwise. Code: 1 where the
    function is the right one, half where only its name is. All else: the share of the reply's sentences that are true
    of the asked topic (a repeated sentence counts as untrue), halved where the reply is in another language than the
    user's and `wanted`, the values that this user wants, does not ask for that.
    """
    if request.kind == "arithmetic":
        return float(_answer(reply) == request.answer)
    if request.kind == "code":
        return _code_correctness(reply, request)
    found: list[bool] = []
    seen: set[str] = set()
    for sentence in sentences(reply):
        known = match(sentence, request.kind)
        right = known is not None and known.topic == request.topic and known.text not in seen
        if known:
            seen.add(known.text)
        if known or words(sentence) > 3:
            found.append(right and _numbers_right(sentence, known, request))
    foreign = _language(reply, request) not in (None, wanted.get("language", default_language(request)))
    return sum(found) / len(found) * (0.5 if foreign else 1.0) if found else 0.0


def _numbers_right(sentence: str, known: Known | None, request: Request) -> bool:
    """Whether the sentence has the numbers of the fact; a recipe's amounts are those for the people asked for."""
    if known is None:
        return False
    said = Counter(re.findall(r"\d+", sentence))
    if known.part != "amount":
        return said == Counter(re.findall(r"\d+", known.text))
    people = int(request.params["people"])
    entry = topics("recipe")[request.topic]
    return said in [Counter((str(people), str(entry[unit] * people // 2))) for unit in ("grams", "ounces")]


def _answer(reply: str) -> int | None:
    said = re.findall(r"answer is:? *(-?\d+)", reply) or re.findall(r"-?\d+", reply)
    return int(said[-1]) if said else None


def _code_correctness(reply: str, request: Request) -> float:
    block = _CODE.search(reply)
    right = [_squeezed(line) for line in topics("code")[request.topic]["lines"]]
    written = [_squeezed(line.split("#")[0]) for line in (block.group(0) if block else reply).splitlines()]
    written = [line for line in written if line and not line.startswith("```")]
    if written == right:
        return 1.0
    return 0.5 if right[0] in written else 0.0


def _squeezed(line: str) -> str:
    return "".join(line.split())


def sentences(reply: str) -> Iterable[str]:
    """The sentences that say something: no openers, closing questions, greetings, headings."""
    text = _EMOJI.sub("", _CODE.sub("\n", reply))
    for line in text.splitlines():
        for part in re.split(r"(?<=[.!?])\s+", _MARK.sub("", line)):
            sentence = _LEAD_IN.sub("", part.strip()).strip()
            if sentence and not _MANNERS.match(sentence):
                yield sentence


def match(sentence: str, kind: Kind) -> Known | None:
    """The known sentence of this kind that `sentence` says in about the same words (Jaccard index 0.7 or more)."""
    tokens = _tokens(sentence)
    known, index = _index(kind)
    shared = Counter(place for token in tokens for place in index.get(token, ()))
    best, similar = None, 0.7
    for place, count in shared.items():
        score = count / len(tokens | known[place].tokens)
        if score >= similar:
            best, similar = known[place], score + 1e-9
    return best


def _tokens(text: str) -> frozenset[str]:
    return frozenset(token for token in re.findall(r"\w+", text.lower()) if not token.isdigit())


@cache
def _index(kind: Kind) -> tuple[list[Known], dict[str, list[int]]]:
    known = [
        Known(topic, part, text, _tokens(text))
        for topic, entry in topics(kind).items()
        for part, text in _said(kind, entry)
    ]
    index: dict[str, list[int]] = {}
    for place, fact in enumerate(known):
        for token in fact.tokens:
            index.setdefault(token, []).append(place)
    return known, index


def _said(kind: Kind, entry: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """All (part, sentence) of a topic as the writer says them."""
    if kind == "recipe":
        for unit in ("g", "ounces"):
            yield "amount", f"For 2 you need 0 {unit} of {entry['main']}, {entry['rest']}"
    if kind == "list":
        yield from (("head", LIST_HEADS[code].format(name=entry[code]["name"])) for code in LIST_HEADS)
    for language in ("en", "es"):
        told = entry.get(language, entry if language == "en" else {})
        for part in ("plain", "technical", "lead", "metric", "imperial", "key", "tip"):
            if part in told:
                yield part, told[part]
        for part in ("facts", "items", "steps", "more"):
            yield from ((part, text) for text in told.get(part, ()))
        if "example" in told and kind in ("explanation", "spanish"):
            yield "example", ("For example, " if language == "en" else "Por ejemplo, ") + told["example"]
