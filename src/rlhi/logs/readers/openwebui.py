"""Open WebUI's export, of all chats or of one: `chat.history`, a tree of messages, with the account in `user_id`.

The branch that ends in `history.currentId` is the conversation, the others are told by `trees.py`: a reply that was
regenerated, a prompt that was edited, and the answers of the models that were asked side by side. Exports of its first
versions have no tree but `chat.messages`, in turn. The system prompt of a chat (`chat.params.system`) goes before its
messages. Thoughts, calls of tools and code that was run stand as `<details>` within an answer; they are cut out and
flagged `dropped_thoughts` and `dropped_tool`. Files of a message are left out and flagged `dropped_parts`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from rlhi.logs.readers import fields, trees
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage
from rlhi.logs.readers.trees import Node

_DETAILS = re.compile(r"</details>\s*|<details\b[^<>]*>")
_KIND = re.compile(r'\btype="(\w+)"')
_CUT = {"reasoning": "dropped_thoughts", "tool_calls": "dropped_tool", "code_interpreter": "dropped_tool"}
"""Kinds of `<details>` that are no part of an answer, and the flag of what is cut."""
_COLUMNS = ("chat", "history", "messages", "models", "params", "system", "id", "user_id", "created_at", "timestamp")
_NAMES = fields.Names(times=("timestamp",), role=("role",), content=("content",))


class OpenWebUI:
    """Rows with `chat: {history: {messages, currentId}}`, or with what such a `chat` holds."""

    name = "openwebui"
    key = "chat"

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether there is a chat with a tree, or in the old form with messages in turn."""
        chat = row.get(self.key)
        if isinstance(chat, dict):
            return _has_tree(chat) or (isinstance(chat.get("messages"), list) and "title" in chat)
        return _has_tree(row)

    def columns(self, present: Collection[str]) -> Collection[str]:
        """The columns that `read` looks at."""
        return set(_COLUMNS).intersection(present)

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row. Raises `BadRecord`."""
        flags: set[str] = set()
        chat = row if self.key not in row and _has_tree(row) else _object(row, self.key, "")
        bodies, messages, asides = _messages(chat, flags)
        system = fields.label(chat, "params.system") or fields.label(chat, "system")
        if system:
            messages.insert(0, RawMessage("system", system))
        return RawConversation(
            messages=messages,
            conversation_id=_id(row),
            user_id=fields.identifier(row, ("user_id",)),
            timestamp=fields.moment(row, ("created_at",), flags) or fields.moment(chat, ("timestamp",), flags),
            model=_model(bodies, chat),
            flags=flags,
            asides=asides,
        )


def _has_tree(chat: dict[str, Any]) -> bool:
    history = chat.get("history")
    return isinstance(history, dict) and isinstance(history.get("messages"), dict)


def _object(row: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    if key not in row:
        raise BadRecord("missing_field", f"no {where + key!r}; there are {fields.keys_of(row)}")
    value = row[key]
    if not isinstance(value, dict):
        raise BadRecord("wrong_type", f"{where}{key}: expected an object, got {fields.kind_of(value)}")
    return value


def _id(row: dict[str, Any]) -> str | None:
    """The chat's id; those that were never saved are all called `local`, which is none."""
    found = fields.identifier(row, ("id",))
    return None if found is None or found.startswith("local") else found


def _messages(chat: dict[str, Any], flags: set[str]) -> tuple[list[dict[str, Any]], list[RawMessage], list[BadRecord]]:
    """The current branch as the log has it and as messages, and an aside for each of the other branches."""
    if chat.get("history") is None and isinstance(chat.get("messages"), list):
        items = fields.items(chat, "messages")
        return items, [_message(item, f"chat.messages[{n}].", flags) for n, item in enumerate(items)], []
    history = _object(chat, "history", "chat.")
    where = "chat.history.messages"
    tree = trees.nodes(history.get("messages"), where, "parentId")
    current = history.get("currentId", history.get("current_id"))
    path = trees.trunk(tree, current, lambda node: node.body.get("timestamp"), flags)

    def speak(node: Node, flags: set[str]) -> RawMessage:
        return _message(node.body, f"{where}[{node.id!r}].", flags)

    return [node.body for node in path], *trees.told(tree, path, speak, flags)


def _message(item: dict[str, Any], where: str, flags: set[str]) -> RawMessage:
    message = fields.message(item, _NAMES, where, flags)
    if item.get("files"):
        flags.add("dropped_parts")
    if message.role == "assistant" and "<details" in message.content:
        message.content = _without_details(message.content, flags)
    return message


def _without_details(text: str, flags: set[str]) -> str:
    """An answer without the blocks that the person sees folded; one that never ends stays."""
    kept, at, opened, depth, flag = list[str](), 0, 0, 0, ""
    for tag in _DETAILS.finditer(text):
        closes = tag[0].startswith("</")
        if depth:
            depth += -1 if closes else 1
            if depth == 0:
                kept.append(text[at:opened])
                at = tag.end()
                flags.add(flag)
        elif not closes and (kind := _KIND.search(tag[0])) and kind[1] in _CUT:
            opened, depth, flag = tag.start(), 1, _CUT[kind[1]]
    return "".join([*kept, text[at:]])


def _model(bodies: list[dict[str, Any]], chat: dict[str, Any]) -> str:
    """The model of the last answer that tells it, else the chat's first one."""
    for body in reversed(bodies):
        if model := fields.label(body, "model"):
            return model
    models = chat.get("models")
    return fields.label({"models": models[0]}, "models") or "" if isinstance(models, list) and models else ""
