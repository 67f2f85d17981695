"""The local persona writer: gathers what the labelled feedback says, without an LLM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rlhi.personas.gather import statements
from rlhi.personas.signals import Signal, signals
from rlhi.records import Conversation, LabelledTurn, Statement

Labels = Mapping[str, Mapping[int, LabelledTurn]]
"""Labelled turns by conversation and turn."""


def by_conversation(labels: Iterable[LabelledTurn]) -> dict[str, dict[int, LabelledTurn]]:
    """Labels by conversation and turn."""
    found: dict[str, dict[int, LabelledTurn]] = {}
    for label in labels:
        found.setdefault(label.conversation_id, {})[label.turn] = label
    return found


class LocalWriter:
    """Writes the statements of one user; each conversation is read once, wherever it comes to stand."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._read: dict[str, list[Signal]] = {}

    async def write(self, conversations: Sequence[Conversation]) -> list[Statement]:
        """The statements that these conversations, in the order of time, show; most trusted first."""
        heard: list[Signal] = []
        for place, conversation in enumerate(conversations):
            key = conversation.conversation_id
            if key not in self._read:
                self._read[key] = signals(conversation, self._labels.get(key, {}), place)
            heard += [replace(signal, conversation=place) for signal in self._read[key]]
        return statements(heard, len(conversations))
