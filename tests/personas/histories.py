"""Small histories of one user for the tests."""

from __future__ import annotations

from rlhi.personas.stage import UserHistory
from rlhi.records import Conversation, Label, LabelledTurn, Message

Said = tuple[Conversation, tuple[LabelledTurn, ...]]


def says(
    conversation_id: str,
    day: str | None,
    *feedback: str,
    label: Label = "reattempt_with_feedback",
    request: str = "Tell me about volcanoes.",
) -> Said:
    """A conversation on a day of January 2025 in which the user reacts with each of `feedback`."""
    at = f"2025-01-{int(day):02d}T00:00:00Z" if day else None
    messages = [Message(role="user", content=request, timestamp=at), Message(role="assistant", content="They erupt.")]
    for text in feedback:
        messages += [Message(role="user", content=text, timestamp=at), Message(role="assistant", content="Again.")]
    conversation = Conversation(
        conversation_id=conversation_id,
        user_id="u",
        started_at=at,
        language="en",
        model="",
        source="log.jsonl:1",
        split="train",
        messages=tuple(messages),
    )
    labels = tuple(
        LabelledTurn(
            conversation_id=conversation_id,
            turn=turn,
            user_id="u",
            label=label,
            satisfaction=5 if label == "positive_feedback" else 2,
            confidence=0.9,
            span=text,
            labeler="test",
        )
        for turn, text in enumerate(feedback, start=1)
    )
    return conversation, labels


def history(*said: Said) -> UserHistory:
    """The history of these conversations."""
    return UserHistory(
        user_id="u",
        conversations=tuple(conversation for conversation, _ in said),
        labels=tuple(label for _, labels in said for label in labels),
    )
