"""What kind of request a text is, and the kind that a user names as a condition; by key words, without an LLM."""

from __future__ import annotations

import difflib
import re

_NAMES: dict[str, str] = {
    "recipes": r"recipes?|cooking|dishes|recetas?|cocina|rezepten?|recettes?|receitas?|菜谱|рецепт\w*",
    "code": r"cod(?:e|ing)|programming|programs|scripts|snippets|código|programación|программ\w*|кода?|代码",
    "e-mails": r"e-?mails?|mails|letters|correos?(?: electrónicos)?|cartas|mensajes|courriels?|письм\w*|邮件",
    "travel": r"travel(?:l?ing)?|trips?|destinations|viajes?|viajar|reisen?|voyages?|viagens|путешеств\w*|旅行",
    "maths": r"math(?:s|ematics)?|calculations?|arithmetic|sums|cálculos?|matemáticas|cuentas|mathe|математик\w*|数学",
    "recommendations": r"recommendations?|suggestions|recomendaci(?:ón|ones)|sugerencias|empfehlungen|recommandations",
    "explanations": r"explanations?|explaining things|explicaci(?:ón|ones)|erklärungen|explications",
    "advice": r"advice|consejos?|ratschläge|conseils?|conselhos",
    "stories": r"stories|fiction|poems|cuentos|poemas|geschichten|histoires",
    "translations": r"translations?|traducci(?:ón|ones)|übersetzungen|traductions",
}

_LINKS = (
    r"for|in|on|with|about|regarding|when(?: it(?: i|')s| talking| I ask)?(?: about| for| you write| writing)?"
    r"|if it(?: i|')s(?: about)?|as for|para|en|con|cuando se trat[ae] de|cuando hablamos de|si se trata de|sobre"
    r"|bei|für|in|pour|dans|em|nos?|nas?|для|в"
)
_DETERMINERS = r"(?:(?:the|my|any|all|your|every|los|las|el|la|mis|les|mes|den|meinen|os|as) )?"
_CONDITIONS = [
    (kind, re.compile(rf"\b(?:{_LINKS}) {_DETERMINERS}(?:{words})\b", re.IGNORECASE)) for kind, words in _NAMES.items()
]

_OPENINGS = rf"{_LINKS}|if|whenever|si|cuando|wenn|quand|se|quando|если|когда"
_LEADS = [
    (
        kind,
        re.compile(
            rf"\b(?:{_OPENINGS})\b[^:,.;!?]{{0,30}}?\b(?:{words})\b\s*[:,]"
            rf"|^\W*[^:,.;!?]{{0,25}}?\b(?:{words})\b[^:,.;!?]{{0,12}}:",
            re.IGNORECASE,
        ),
    )
    for kind, words in _NAMES.items()
]
"""A lead-in that ends in a colon or comma and names a kind: "whenever I ask about cooking, …", "on travel: …"."""

_LIMIT = re.compile(rf"\b(?:{_LINKS}) {_DETERMINERS}([\w-]{{5,20}}):", re.IGNORECASE)
_SPELLINGS = {
    **{kind: kind for kind in _NAMES},
    **{"recetas": "recipes", "viajes": "travel", "correos": "e-mails", "código": "code", "consejos": "advice"},
    **{"cálculos": "maths", "recomendaciones": "recommendations", "explicaciones": "explanations"},
}

_REQUESTS: dict[str, str] = {
    "code": r"\b(?:python|javascript|java|sql|html|css|regex|function|code|snippet|script|program(?:me|a|ar)?"
    r"|código|función)\b|c\+\+|```",
    "e-mails": r"\b(?:e-?mail|mail|letter|correo|carta|message to)\b",
    "recipes": r"\b(?:recipe|cook|bake|servings|how (?:do|can) I make .+ for (?:\w+ people|\d+|two|four|six)"
    r"|receta|cocinar|hornear|rezept|kochen|recette)\b",
    "travel": r"\b(?:trip|travel|visit|itinerary|days in|what to see|fly to|viaje|visitar|reise|voyage)\b",
    "maths": r"\b(?:how many|how much is|calculate|solve|sum of|percent|cuántos|calcula)\b|\d\s*[+*/×÷-]\s*\d",
    "stories": r"\b(?:story|poem|scene|novel|cuento|poema|geschichte|gedicht)\b",
    "translations": r"\b(?:translate|translation|traduce|traducir|übersetze|traduis)\b",
    "recommendations": r"\b(?:recommend|suggest|what are (?:some |good )|name (?:a few|some)|ideas for"
    r"|recomienda|empfiehl)\b",
    "explanations": r"\b(?:explain|what is|how does|why|tell me about|describe|explica|qué es|por qué|erkläre|warum)\b",
}
_KINDS = [(kind, re.compile(words, re.IGNORECASE)) for kind, words in _REQUESTS.items()]


def request_kind(request: str) -> str:
    """The kind of a request, or an empty string where its words do not tell."""
    return next((kind for kind, words in _KINDS if words.search(request[:1000])), "")


def said_condition(clause: str) -> str:
    """The kind of request that a clause limits a wish to ("for recipes: …"), or an empty string.

    A misspelt kind is understood before a colon ("for reciepes: …").
    """
    found = next((kind for kind, words in (*_LEADS, *_CONDITIONS) if words.search(clause)), "")
    limit = None if found else _LIMIT.search(clause)
    if limit:
        close = difflib.get_close_matches(limit.group(1).lower(), _SPELLINGS, n=1, cutoff=0.8)
        found = _SPELLINGS[close[0]] if close else ""
    return found


def without_condition(clause: str) -> str:
    """The clause without the words that limit it."""
    misspelt = bool(said_condition(clause))
    for _, words in (*_LEADS, *_CONDITIONS):
        clause = words.sub(" ", clause)
    if misspelt:
        clause = _LIMIT.sub(" ", clause)
    return clause.strip(" ,:;-")
