"""From what a log says to a clean conversation: an optional system message, then user and assistant in turn.

What is repaired is flagged, what is not is quarantined; with `repair_roles: false` nothing is repaired.

| in the log | becomes | flag, or reason in quarantine |
|---|---|---|
| neighbours of one role | one message, joined by a blank line; the same text said twice is said once | `merged_roles` |
| a leading answer to nothing | left out | `dropped_leading_assistant` |
| an empty message | left out, its neighbours merged | `dropped_empty` |
| a system message after the first words | left out: it belongs to the deployment | `dropped_system` |
| calls to tools and their results | always left out; the answers around them become neighbours | `dropped_tool` |
| pictures and sounds in a message | always left out, the text stays | `dropped_parts` |
| no user message at all | quarantine | `no_user_message`, `empty_conversation` |
| a message over `max_message_chars` | quarantine | `message_too_long` |
| times that run backwards | the order of the log stays: it is what the model saw | `times_out_of_order` |
| offsets instead of times | see `times.py` | `relative_time` |
| thoughts, and what the person never saw | always left out by the reader | `dropped_thoughts`, `dropped_hidden` |
| other branches of a tree | an entry of its own in quarantine for each, see `readers/trees.py` | `branches`, … |
| an export that does not say whose it is | one user for all of them, see `readers/chatgpt.py` | `unknown_owner` |
| no user id | a user of its own, `anonymous-…`: nothing can be learnt over conversations | `no_user_id` |
| toxic, redacted, other languages | kept and flagged, or quarantine | `toxic`, `redacted`, `language` |

A last user message without an answer is kept: it says something of the answer before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhi.logs import languages
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage
from rlhi.logs.times import is_offset, order
from rlhi.recipe import Logs
from rlhi.records import digest

ANONYMOUS = "anonymous-"


@dataclass(slots=True)
class Clean:
    """A conversation that may enter the data, but for its twins and its split."""

    conversation_id: str
    """As in `Conversation`."""
    user_id: str
    """As in `Conversation`."""
    started_at: str | None
    """As in `Conversation`."""
    language: str
    """As in `Conversation`."""
    model: str
    """As in `Conversation`."""
    messages: list[RawMessage]
    """Alternating, none empty, none of role `tool`."""
    flags: tuple[str, ...]
    """Sorted."""

    def content(self) -> list[tuple[str, str]]:
        """What was said, without times."""
        return [(message.role, message.content) for message in self.messages]


def clean(raw: RawConversation, settings: Logs) -> Clean:
    """Clean one conversation. Raises `BadRecord` where it must go to quarantine."""
    flags = set(raw.flags)
    times = [message.timestamp for message in raw.messages if message.timestamp is not None]
    if times != sorted(times, key=order):
        flags.add("times_out_of_order")
    messages = _alternate(raw.messages, flags, settings.repair_roles)
    _check_lengths(messages, settings.max_message_chars)
    language = languages.code_of(raw.language)
    if language is None:
        language = languages.detect("\n".join(m.content for m in messages if m.role == "user"))
    _filter(flags, language, settings)
    started_at = _start(times, raw.timestamp)
    user_id, conversation_id = raw.user_id, raw.conversation_id
    if conversation_id is None:
        said = [[message.role, message.content] for message in messages]
        conversation_id = digest({"user": user_id, "time": started_at, "messages": said})
    if user_id is None:
        user_id = ANONYMOUS + digest(conversation_id)
        flags.add("no_user_id")
    return Clean(conversation_id, user_id, started_at, language, raw.model, messages, tuple(sorted(flags)))


def _start(times: list[str], own: str | None) -> str | None:
    """The earliest message's time, else the conversation's own; offsets only where there is nothing better."""
    real = [time for time in times if not is_offset(time)]
    if own is not None and not real:
        return own if not times or not is_offset(own) else min(times, key=order)
    return min(real or times, default=None, key=order)


def _alternate(raw: list[RawMessage], flags: set[str], repair: bool) -> list[RawMessage]:
    """Make roles alternate, by the table above."""
    told: list[RawMessage] = []
    for place, message in enumerate(raw):
        if message.role == "tool":
            flags.add("dropped_tool")
            continue
        dropped = _unwanted(message, told)
        if dropped is not None:
            # an assistant message without text beside tool traffic is the call itself
            if dropped == "dropped_empty" and message.role == "assistant" and _calls_tool(raw, place):
                continue
            _repair(dropped, repair, place, message)
            flags.add(dropped)
        elif told and told[-1].role == message.role:
            _repair("merged_roles", repair, place, message)
            flags.add("merged_roles")
            told[-1] = _merged(told[-1], message)
        else:
            told.append(message)
    if not any(message.role == "user" for message in told):
        reason = "no_user_message" if any(m.content.strip() for m in raw) else "empty_conversation"
        raise BadRecord(reason, f"{len(raw)} messages, none of them a user's with text")
    return told


def _unwanted(message: RawMessage, told: list[RawMessage]) -> str | None:
    """The flag under which a message is left out, or None."""
    if not message.content.strip():
        return "dropped_empty"
    if message.role == "system" and any(earlier.role != "system" for earlier in told):
        return "dropped_system"
    if message.role == "assistant" and not any(earlier.role == "user" for earlier in told):
        return "dropped_leading_assistant"
    return None


def _calls_tool(raw: list[RawMessage], place: int) -> bool:
    return place + 1 < len(raw) and raw[place + 1].role == "tool"


def _repair(flag: str, allowed: bool, place: int, message: RawMessage) -> None:
    if allowed:
        return
    if flag == "dropped_empty":
        raise BadRecord("empty_message", f"message {place} ({message.role}) has no text, and repair_roles is off")
    raise BadRecord("roles_not_alternating", f"message {place} ({message.role}): {flag}, and repair_roles is off")


def _merged(first: RawMessage, second: RawMessage) -> RawMessage:
    if first.content == second.content:
        return first
    return RawMessage(first.role, f"{first.content}\n\n{second.content}", first.timestamp or second.timestamp)


def _check_lengths(messages: list[RawMessage], limit: int) -> None:
    for place, message in enumerate(messages):
        if len(message.content) > limit:
            raise BadRecord(
                "message_too_long",
                f"message {place} ({message.role}) has {len(message.content)} characters; max_message_chars is {limit}",
            )


def _filter(flags: set[str], language: str, settings: Logs) -> None:
    if "toxic" in flags and not settings.keep_toxic:
        raise BadRecord("toxic", "the log flags it as toxic, and keep_toxic is off")
    if "redacted" in flags and not settings.keep_redacted:
        raise BadRecord("redacted", "the log hid personal data in it, and keep_redacted is off")
    if settings.languages and language not in settings.languages:
        raise BadRecord("language", f"its language is {language}; kept are {', '.join(settings.languages)}")
