"""Which turns give pairs: the rows of the two pair stages, made from conversations, labels and persona cards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rlhi.pairs.wishes import wishes
from rlhi.personas.render import persona_lines
from rlhi.records import (
    ChatMessage,
    Conversation,
    Dropped,
    LabelledTurn,
    PersonaCard,
    Record,
    TurnRef,
    digest,
)

T = TypeVar("T", "RewriteTask", "RequestTask")


class RewriteTask(Record):
    """A reply that its user gave feedback on."""

    conversation_id: str
    """Conversation of the turn."""
    turn: int
    """The request whose reply is to be rewritten, 0-based among user messages; the feedback is the next one."""
    user_id: str
    """Whose conversation."""
    context: tuple[ChatMessage, ...]
    """Messages up to and with the request."""
    logged_reply: str
    """The reply in the log."""
    feedback: str
    """The user's next message."""
    label: LabelledTurn
    """What the labeler said of the feedback."""
    lines: tuple[str, ...]
    """The persona as it was known before this conversation."""
    persona_version: int
    """Version of that card."""
    wishes: tuple[str, ...]
    """The facets that the feedback says, as persona lines; empty where none is read in it."""


class RequestTask(Record):
    """A request to which candidates are sampled."""

    conversation_id: str
    """Conversation of the turn."""
    turn: int
    """The request, 0-based among user messages."""
    user_id: str
    """Whose conversation."""
    context: tuple[ChatMessage, ...]
    """Messages up to and with the request."""
    logged_reply: str
    """The reply in the log."""
    lines: tuple[str, ...]
    """The persona as it was known before this conversation."""
    persona_version: int
    """Version of that card."""


class Source:
    """Training conversations with their labels and cards, in reach by id."""

    def __init__(
        self,
        conversations: Iterable[Conversation],
        labels: Iterable[LabelledTurn],
        cards: Iterable[PersonaCard],
        max_persona_tokens: int,
        count: Callable[[str], int],
    ) -> None:
        self.conversations = [c for c in conversations if c.split == "train"]
        self.labels: dict[tuple[str, int], LabelledTurn] = {(row.conversation_id, row.turn): row for row in labels}
        self._cards = {(card.user_id, card.before): card for card in cards}
        self._tokens, self._count = max_persona_tokens, count

    def persona(self, conversation: Conversation) -> tuple[tuple[str, ...], int]:
        """Lines and version of the card from before a conversation; no lines and -1 where there is none."""
        card = self._cards.get((conversation.user_id, conversation.conversation_id))
        lines = persona_lines(card, max_tokens=self._tokens, count=self._count)
        return tuple(lines), card.version if card else -1


def rewrite_tasks(source: Source, min_confidence: float) -> tuple[list[RewriteTask], list[Dropped]]:
    """A task for each message labelled `reattempt_with_feedback`; the unsure ones are dropped with their confidence."""
    tasks: list[RewriteTask] = []
    dropped: list[Dropped] = []
    for conversation in source.conversations:
        lines, version = source.persona(conversation)
        for turn in range(1, len(conversation.user_turns())):
            label = source.labels.get((conversation.conversation_id, turn))
            reply = conversation.reply(turn - 1)
            if label is None or label.label != "reattempt_with_feedback" or reply is None:
                continue
            if label.confidence < min_confidence:
                dropped.append(_unsure(label, min_confidence))
                continue
            feedback = conversation.context(turn)[-1].content
            tasks.append(
                RewriteTask(
                    conversation_id=conversation.conversation_id,
                    turn=turn - 1,
                    user_id=conversation.user_id,
                    context=conversation.context(turn - 1),
                    logged_reply=reply,
                    feedback=feedback,
                    label=label,
                    lines=lines,
                    persona_version=version,
                    wishes=wishes(conversation, label),
                )
            )
    return tasks, dropped


def request_tasks(source: Source) -> tuple[list[RequestTask], list[Dropped]]:
    """A task for each first message and `new_request` whose reply got no feedback to rewrite it by.

    Where a label is missing (its labelling failed), nobody knows whether a message is a request, or whether feedback
    follows: dropped with reason `no_label`.
    """
    tasks: list[RequestTask] = []
    dropped: list[Dropped] = []
    for conversation in source.conversations:
        lines, version = source.persona(conversation)
        turns = len(conversation.user_turns())
        for turn in range(turns):
            label = source.labels.get((conversation.conversation_id, turn))
            after = source.labels.get((conversation.conversation_id, turn + 1))
            if turn and label is not None and label.label != "new_request":
                continue
            if (turn and label is None) or (turn + 1 < turns and after is None):
                dropped.append(_unlabelled(conversation.conversation_id, turn))
                continue
            if after is not None and after.label == "reattempt_with_feedback":
                continue
            tasks.append(
                RequestTask(
                    conversation_id=conversation.conversation_id,
                    turn=turn,
                    user_id=conversation.user_id,
                    context=conversation.context(turn),
                    logged_reply=conversation.reply(turn) or "",
                    lines=lines,
                    persona_version=version,
                )
            )
    return tasks, dropped


def cap_per_user(tasks: Sequence[T], most: int, seed: int) -> tuple[list[T], list[Dropped]]:
    """At most `most` tasks of each user, drawn by seed; the others are dropped with a reason."""
    by_user: dict[str, list[T]] = defaultdict(list)
    for task in tasks:
        by_user[task.user_id].append(task)
    kept: set[str] = set()
    for rows in by_user.values():
        rows.sort(key=lambda row: digest([seed, row.conversation_id, row.turn]))
        kept.update(row.key for row in rows[:most])
    dropped = [
        Dropped(row=task.key, about=about(task), reason="user_cap", detail=f"more than {most} from this user")
        for task in tasks
        if task.key not in kept
    ]
    return [task for task in tasks if task.key in kept], dropped


def about(task: RewriteTask | RequestTask) -> str:
    """A task in a few words, for lists of drops and failures."""
    return f"turn {task.turn} of conversation {task.conversation_id}"


def _unlabelled(conversation_id: str, turn: int) -> Dropped:
    return Dropped(
        row=TurnRef(conversation_id=conversation_id, turn=turn).key,
        about=f"turn {turn} of conversation {conversation_id}",
        reason="no_label",
        detail="it or the message after it could not be labelled",
    )


def _unsure(label: LabelledTurn, least: float) -> Dropped:
    return Dropped(
        row=label.key,
        about=f"turn {label.turn} of conversation {label.conversation_id}",
        reason="unsure_label",
        detail=f"confidence {label.confidence:.2f} < {least:.2f}",
    )
