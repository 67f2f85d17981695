"""The stage `personas`: before each conversation of a user, a card of what the earlier ones show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from pydantic import Field

from rlhi.flow.stage import Context, Drop, Stage
from rlhi.logs.times import order
from rlhi.personas import reader
from rlhi.personas.llm import LlmWriter
from rlhi.personas.local import LocalWriter, by_conversation
from rlhi.prompts import fingerprint
from rlhi.recipe import LOCAL
from rlhi.records import Conversation, LabelledTurn, PersonaCard, Record, Statement, TurnRef


class UserHistory(Record):
    """All that the logs hold of one user."""

    user_id: str
    """Whose history."""
    conversations: tuple[Conversation, ...]
    """The user's conversations, in any order."""
    labels: tuple[LabelledTurn, ...]
    """The labels of their messages, in any order."""


def in_order(conversations: Iterable[Conversation]) -> list[Conversation]:
    """Conversations in the order of the split: by time (none first), then id."""
    return sorted(conversations, key=lambda c: (order(c.started_at), c.conversation_id))


def earlier(ordered: Sequence[Conversation], place: int) -> list[Conversation]:
    """The conversations that are strictly earlier than the one at `place` of `in_order`.

    Conversations of the same moment know nothing of each other. Where a log tells no time, the order of ids stands for
    it, as in the split; a conversation with a time knows none without, and the other way round.
    """
    at = ordered[place].started_at
    if at is None:
        return list(ordered[:place])
    return [c for c in ordered if c.started_at is not None and order(c.started_at) < order(at)]


def _content(statements: Sequence[Statement]) -> list[tuple[str, str, tuple[TurnRef, ...]]]:
    """What makes a new version: the lines, their order and their evidence; not the drift of confidence."""
    return [(made.text, made.condition, made.evidence) for made in statements]


class PersonaStage(Stage[UserHistory, PersonaCard]):
    """Write a user's cards: one before each conversation, and a last one (`before` empty) from all of them.

    A card is drawn only from conversations that began strictly earlier. Its version counts up when its content changes;
    version 0 holds no statement.
    """

    name: ClassVar[str] = "personas"

    persona: str = LOCAL
    """`local`, or the model bound to the role `persona`."""
    every: int = Field(1, ge=1)
    """The content is renewed after so many conversations; in between the last one stays."""
    max_statements: int = Field(12, ge=1)
    """Lines on a card."""
    min_confidence: float = Field(0.4, ge=0, le=1)
    """Statements below are left out, 0–1."""
    made_by: str = Field(
        default_factory=lambda data: reader.version() if data["persona"] == LOCAL else fingerprint("persona")
    )
    """Version of the facet reader, or fingerprint of the prompt: other cards come from another one."""

    async def run(self, row: UserHistory, ctx: Context) -> Sequence[PersonaCard] | Drop:
        """Write the cards of a user."""
        ordered = in_order(row.conversations)
        labels = by_conversation(row.labels)
        writer: LocalWriter | LlmWriter
        writer = LocalWriter(labels) if self.persona == LOCAL else LlmWriter(ctx.model("persona"), labels)
        cards: list[PersonaCard] = []
        shown: tuple[Statement, ...] = ()
        renewed = version = 0
        for place in range(len(ordered) + 1):
            last = place == len(ordered)
            before = ordered if last else earlier(ordered, place)
            if last or len(before) >= renewed + self.every or len(before) < renewed:
                kept, renewed = self._kept(await writer.write(before)), len(before)
                if _content(kept) != _content(shown):
                    shown, version = kept, version + 1
            cards.append(
                PersonaCard(
                    user_id=row.user_id,
                    version=version,
                    as_of=None if last else ordered[place].started_at,
                    before="" if last else ordered[place].conversation_id,
                    statements=shown,
                )
            )
        return cards

    def _kept(self, found: Iterable[Statement]) -> tuple[Statement, ...]:
        trusted = [made for made in found if made.confidence >= self.min_confidence]
        return tuple(trusted[: self.max_statements])

    def about(self, row: UserHistory) -> str:
        """Names the user."""
        return f"user {row.user_id} ({len(row.conversations)} conversations)"
