"""The LLM persona writer: renews a user's card from its known statements and the new messages.

The model cites ids that we give it (T1 = a new message, K1 = a known statement and its evidence) and code maps them
back; a statement that cites nothing, or what was not shown, is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from pydantic import Field

from rlhi.models.base import ChatModel, Sampling
from rlhi.models.structured import ask
from rlhi.personas.local import Labels
from rlhi.personas.render import line
from rlhi.personas.signals import commands, sensitive
from rlhi.prompts import clip, render
from rlhi.records import Conversation, Record, Statement, TurnRef

SAMPLING = Sampling(temperature=0, max_tokens=800)
TURNS_PER_CALL = 40
MAX_MESSAGE_CHARS = 400
MAX_CONDITION_CHARS = 40
_LOG = logging.getLogger(__name__)


class Line(Record):
    """A statement as the model writes it."""

    text: str
    """What is known of the user."""
    condition: str = ""
    """The kind of request it is limited to; empty = none."""
    confidence: float = Field(ge=0, le=1)
    """The model's own view, 0–1."""
    evidence: tuple[str, ...]
    """Ids of messages (T…) and known statements (K…)."""


class Answer(Record):
    """The whole card as the model writes it."""

    statements: tuple[Line, ...]
    """Its lines."""


def fault(made: Line, ids: Mapping[str, tuple[TurnRef, ...]]) -> str | None:
    """What is wrong with a line; None where nothing is."""
    if not made.text.strip():
        return "a statement has no text"
    if commands(made.text) or commands(made.condition) or len(made.condition) > MAX_CONDITION_CHARS:
        return f"{made.text[:60]!r} is no short statement on how the user likes answers"
    if sensitive(made.text) or sensitive(made.condition):
        return f"{made.text[:60]!r} speaks of health, faith, politics or orientation"
    if not made.evidence:
        return f"{made.text[:60]!r} cites no id"
    unknown = [cited for cited in made.evidence if cited not in ids]
    return f"{made.text[:60]!r} cites {unknown}, which were not shown; there are {sorted(ids)}" if unknown else None


def faults(answer: Answer, ids: Mapping[str, tuple[TurnRef, ...]]) -> str | None:
    """What is wrong with the lines of an answer, for the model's second try; None where nothing is."""
    return "; ".join(found for made in answer.statements if (found := fault(made, ids))) or None


class LlmWriter:
    """Writes the statements of one user, one call per `TURNS_PER_CALL` new messages."""

    def __init__(self, model: ChatModel, labels: Labels) -> None:
        self._model = model
        self._labels = labels
        self._consumed: list[str] = []
        self._known: list[Statement] = []
        self._times: dict[TurnRef, str | None] = {}

    async def write(self, conversations: Sequence[Conversation]) -> list[Statement]:
        """The statements that these conversations, in the order of time, show; most trusted first.

        Raises `BadAnswer` where the model's second try is no card either.
        """
        ids = [conversation.conversation_id for conversation in conversations]
        if ids[: len(self._consumed)] != self._consumed:
            self._consumed, self._known = [], []
        turns = [turn for c in conversations[len(self._consumed) :] for turn in self._turns(c)]
        for start in range(0, len(turns), TURNS_PER_CALL):
            await self._renew(turns[start : start + TURNS_PER_CALL])
        self._consumed = ids
        return sorted(self._known, key=lambda made: (-made.confidence, made.text, made.condition))

    def _turns(self, conversation: Conversation) -> list[tuple[TurnRef, str]]:
        """The labelled messages of a conversation, each on one line."""
        places = conversation.user_turns()
        found: list[tuple[TurnRef, str]] = []
        for turn, label in sorted(self._labels.get(conversation.conversation_id, {}).items()):
            if label.label == "other" or turn >= len(places):
                continue
            message = conversation.messages[places[turn]]
            ref = TurnRef(conversation_id=conversation.conversation_id, turn=turn)
            self._times[ref] = message.timestamp or conversation.started_at
            found.append((ref, f"{label.label}: {' '.join(clip(message.content, MAX_MESSAGE_CHARS).split())}"))
        return found

    async def _renew(self, turns: Sequence[tuple[TurnRef, str]]) -> None:
        ids: dict[str, tuple[TurnRef, ...]] = {f"T{n}": (ref,) for n, (ref, _) in enumerate(turns, start=1)}
        ids |= {f"K{n}": made.evidence for n, made in enumerate(self._known, start=1)}
        known = [f"[K{n}] {line(made)}" for n, made in enumerate(self._known, start=1)]
        new = [f"[T{n}] {text}" for n, (_, text) in enumerate(turns, start=1)]
        messages = render("persona", known="\n".join(known) or "nothing", turns="\n".join(new))
        answer = await ask(
            self._model,
            messages,
            Answer,
            sampling=SAMPLING,
            check=lambda made: faults(made, ids),
            mend=lambda made: made,  # its faulty lines are left out below
        )
        kept = {(made.text, made.condition): made for made in answer.statements if not fault(made, ids)}
        if len(kept) < len(answer.statements):
            _LOG.info("%d of %d persona statements refused", len(answer.statements) - len(kept), len(answer.statements))
        self._known = [self._statement(made, ids) for made in kept.values()]

    def _statement(self, made: Line, ids: Mapping[str, tuple[TurnRef, ...]]) -> Statement:
        evidence = tuple(dict.fromkeys(ref for cited in made.evidence for ref in ids[cited]))
        times = [time for ref in evidence if (time := self._times.get(ref))]
        return Statement(
            text=" ".join(made.text.split()),
            condition=" ".join(made.condition.split()),
            confidence=made.confidence,
            evidence=evidence,
            learnt_at=max(times, default=None),
        )
