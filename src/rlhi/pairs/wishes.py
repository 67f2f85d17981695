"""A user's feedback on one reply, as lines that a reward model reads like those of a persona."""

from __future__ import annotations

from rlhi.personas.facets import statement
from rlhi.personas.signals import signals
from rlhi.prompts import clip
from rlhi.records import Conversation, LabelledTurn

MAX_CHARS = 300


def wishes(conversation: Conversation, label: LabelledTurn) -> tuple[str, ...]:
    """What the labelled message wishes: the facets read in it, or where there are none the message itself."""
    found = signals(conversation, {label.turn: label}, 0)
    lines = dict.fromkeys(statement(signal.wish) for signal in found if signal.wish is not None)
    if lines:
        return tuple(lines)
    said = " ".join(conversation.context(label.turn)[-1].content.split())
    return (f"Said of a reply: {clip(said, MAX_CHARS)}",)
