"""The facets by which users of chat models differ, their values, and the plain statement of each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Wish(NamedTuple):
    """A value that somebody wants in a facet of answers."""

    facet: str
    """Name of the facet."""
    value: str
    """One of its values."""


@dataclass(frozen=True)
class Facet:
    """One way in which wishes differ; its values exclude each other."""

    values: dict[str, str]
    """The plain statement of each value."""
    only: str = ""
    """The one kind of request that the facet has a meaning for; empty = many."""


FACETS: dict[str, Facet] = {
    "length": Facet({"short": "Prefers short answers.", "detailed": "Prefers detailed answers."}),
    "format": Facet(
        {
            "bullets": "Prefers bullet points.",
            "numbered": "Prefers numbered lists.",
            "prose": "Prefers prose without lists.",
            "table": "Prefers tables.",
        }
    ),
    "tone": Facet({"formal": "Prefers a formal tone.", "casual": "Prefers a casual tone."}),
    "language": Facet(
        {
            name.lower(): f"Prefers answers in {name}."
            for name in (
                "English",
                "Spanish",
                "German",
                "French",
                "Portuguese",
                "Italian",
                "Chinese",
                "Russian",
                "Japanese",
            )
        }
    ),
    "units": Facet({"metric": "Prefers metric units.", "imperial": "Prefers imperial units."}),
    "examples": Facet({"with": "Prefers answers with an example.", "without": "Prefers answers without examples."}),
    "summary": Facet({"first": "Prefers a summary first.", "none": "Prefers no summary at the start."}),
    "expertise": Facet({"plain": "Prefers plain words.", "technical": "Prefers technical terms."}),
    "emoji": Facet({"with": "Prefers emojis.", "without": "Prefers no emojis."}),
    "steps": Facet({"shown": "Prefers to see the steps.", "hidden": "Prefers only the result."}, only="maths"),
    "comments": Facet({"with": "Prefers comments in code.", "without": "Prefers code without comments."}, only="code"),
    "closing": Facet({"with": "Prefers a question at the end.", "without": "Prefers no question at the end."}),
    "opener": Facet({"friendly": "Prefers a friendly opening.", "direct": "Prefers to get straight to the point."}),
    "subject": Facet(
        {
            "with": "Prefers e-mails with a subject line.",
            "without": "Prefers e-mails without a subject line.",
        },
        only="e-mails",
    ),
    "sources": Facet({"with": "Prefers answers that name their sources."}),
}
"""All facets by name."""

WISHES: tuple[Wish, ...] = tuple(Wish(name, value) for name, facet in FACETS.items() for value in facet.values)
"""All wishes, in the order of the facet reader's outputs."""


def statement(wish: Wish) -> str:
    """The plain statement of a wish."""
    return FACETS[wish.facet].values[wish.value]
