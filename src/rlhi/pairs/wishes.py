"""A user's feedback on one reply, as lines like those of a persona."""

from __future__ import annotations

from rlhi.personas.facets import statement
from rlhi.personas.signals import signals
from rlhi.prompts import clip
from rlhi.records import Conversation, LabelledTurn

MAX_CHARS = 300


def wishes(conversation: Conversation, label: LabelledTurn) -> tuple[str, ...]:
    """The facets that the labelled message says, in fixed words; empty where none is read in it."""
    found = signals(conversation, {label.turn: label}, 0)
    return tuple(
        dict.fromkeys(
            statement(signal.wish) for signal in found if signal.wish is not None and signal.ref.turn == label.turn
        )
    )


def quoted(feedback: str) -> str:
    """Feedback in which no facet is read, as one line for a reward model. No generating model is told it as a line of
    the system message: there a user's words would count as an order."""
    return f"Said of a reply: {' '.join(clip(' '.join(feedback.split()), MAX_CHARS).split())}"
