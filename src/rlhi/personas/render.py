"""A persona card as the system message that the policy and the reference see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlhi.records import ChatMessage, PersonaCard, Statement

HEAD = "What is known of this user from earlier conversations:"
TAIL = "Answer the user's message as this user would like it."


def line(statement: Statement) -> str:
    """A statement on one line, its condition first."""
    text = " ".join(statement.text.split())
    return f"For {statement.condition}: {text}" if statement.condition else text


def system_text(lines: Sequence[str]) -> str:
    """The system message for some lines; empty where there are none."""
    return "\n".join([HEAD, *(f"- {text}" for text in lines), TAIL]) if lines else ""


def persona_lines(card: PersonaCard | None, *, max_tokens: int, count: Callable[[str], int]) -> list[str]:
    """The lines of a card, most trusted first, as many as fit into `max_tokens` with head and tail.

    `count` gives the tokens of a text in the policy's tokenizer.
    """
    kept: list[str] = []
    for statement in card.statements if card else ():
        if count(system_text([*kept, line(statement)])) > max_tokens:
            break
        kept.append(line(statement))
    return kept


def prompt(lines: Sequence[str], context: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """The chat that the policy answers: the persona as the system message, then the conversation."""
    text = system_text(lines)
    head = (ChatMessage(role="system", content=text),) if text else ()
    return (*head, *context)
