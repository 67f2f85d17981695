"""The account export of ChatGPT: `conversations.json`, an array of conversations, each a tree of messages (`mapping`).

| in the export | becomes |
|---|---|
| the branch that ends in `current_node` | the conversation; the others are told by `trees.py` |
| calls to tools (an answer not meant for `all`) and their results | role `tool`, which the cleaning leaves out |
| custom instructions (`user_editable_context`) | a system message, flagged `custom_instructions` |
| what is hidden from the person, or has no weight | left out, flagged `dropped_hidden`; the empty ones silently |
| thoughts and their recap | left out, flagged `dropped_thoughts` |
| pictures, sounds, attached files | left out, flagged `dropped_parts`; what was said aloud stays as its transcript |

All of it is one person's: the `id` of the `user.json` beside the file, or where there is none, `chatgpt-account`,
flagged `unknown_owner`. Exports of several people therefore need their `user.json`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import orjson

from rlhi.logs.readers import fields, trees
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage
from rlhi.logs.readers.trees import Node

ACCOUNT = "user.json"
UNKNOWN_OWNER = "chatgpt-account"
_THOUGHTS = ("thoughts", "reasoning_recap")
_WORDS = ("user_profile", "user_instructions", "text", "result", "model_set_context")
"""Fields that hold the words of a message without parts."""
_NAMES = fields.Names(role=("role",))


class ChatGPT:
    """Rows with `mapping: {id: {message, parent, children}}` and `current_node`."""

    name = "chatgpt"
    key = "mapping"

    def __init__(self) -> None:
        self._owners: dict[Path, str | None] = {}

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether the mapping's nodes are those of a tree of messages."""
        mapping = row.get(self.key)
        node = next(filter(None, mapping.values()), None) if isinstance(mapping, dict) else None
        return isinstance(node, dict) and "parent" in node and ("message" in node or "children" in node)

    def columns(self, present: Collection[str]) -> Collection[str]:
        """The columns that `read` looks at."""
        named = {self.key, "current_node", "conversation_id", "id", "create_time", "default_model_slug"}
        return named.intersection(present)

    def owner(self, file: str) -> tuple[str, bool]:
        """The account's id, from the `user.json` beside the file."""
        folder = Path(file).parent
        if folder not in self._owners:
            self._owners[folder] = _account(folder / ACCOUNT)
        known = self._owners[folder]
        return known or UNKNOWN_OWNER, known is not None

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row. Raises `BadRecord`."""
        flags: set[str] = set()
        if self.key not in row:
            raise BadRecord("missing_field", f"no {self.key!r}; the row has {fields.keys_of(row)}")
        tree = trees.nodes(row[self.key], self.key, "parent")
        path = trees.trunk(tree, row.get("current_node"), _written, flags)
        messages, asides = trees.told(tree, path, _speak, flags)
        return RawConversation(
            messages=messages,
            conversation_id=fields.identifier(row, ("conversation_id", "id")),
            timestamp=fields.moment(row, ("create_time",), flags),
            model=_model(path) or fields.label(row, "default_model_slug") or "",
            flags=flags,
            asides=asides,
        )


def _account(path: Path) -> str | None:
    """The id in an export's `user.json`, or None where the file or the id is not there."""
    try:
        data = orjson.loads(path.read_bytes())
        return fields.identifier(data, ("id",)) if isinstance(data, dict) else None
    except (OSError, orjson.JSONDecodeError, BadRecord):
        return None


def _written(node: Node) -> Any:
    message = node.body.get("message")
    return message.get("create_time") if isinstance(message, dict) else None


def _model(path: list[Node]) -> str | None:
    """The model of the last answer that tells it."""
    for node in reversed(path):
        message = node.body.get("message")
        metadata = message.get("metadata") if isinstance(message, dict) else None
        if isinstance(metadata, dict) and (model := fields.label(metadata, "model_slug")):
            return model
    return None


def _speak(node: Node, flags: set[str]) -> RawMessage | None:
    where = f"mapping[{node.id!r}].message"
    message = node.body.get("message")
    if message is None:
        return None
    if not isinstance(message, dict):
        raise BadRecord("wrong_type", f"{where}: expected an object, got {fields.kind_of(message)}")
    author, content, metadata = (_object(message, key, where) for key in ("author", "content", "metadata"))
    role = fields.role(author, _NAMES, f"{where}.author.")
    time = fields.moment(message, ("create_time",), flags, f"{where}.")
    kind, said = content.get("content_type"), set[str]()
    text = _text(content, f"{where}.content", said)
    if kind == "user_editable_context" or metadata.get("is_user_system_message") is True:
        if text.strip():
            flags.add("custom_instructions")
        return RawMessage("system", text, time)
    if role == "tool" or (role == "assistant" and message.get("recipient") not in (None, "all")):
        return RawMessage("tool", text, time)
    if kind in _THOUGHTS or message.get("channel") == "analysis":
        flags.add("dropped_thoughts")
        return None
    hidden = metadata.get("is_visually_hidden_from_conversation") is True or message.get("weight") == 0
    if hidden or kind == "model_editable_context":
        if text.strip():
            flags.add("dropped_hidden")
        return None
    flags |= said | ({"dropped_parts"} if metadata.get("attachments") else set())
    return RawMessage(role, text, time)


def _object(message: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    """The object under `key`, empty for null."""
    value = message.get(key)
    if value is not None and not isinstance(value, dict):
        raise BadRecord("wrong_type", f"{where}.{key}: expected an object, got {fields.kind_of(value)}")
    return value or {}


def _text(content: dict[str, Any], where: str, flags: set[str]) -> str:
    """What a message says, whichever of the export's kinds it is."""
    parts = content.get("parts")
    if parts is None:
        parts = [content[key] for key in _WORDS if isinstance(content.get(key), str)]
        if not parts and len(content) > 1:
            flags.add("dropped_parts")
    if not isinstance(parts, list):
        raise BadRecord("wrong_type", f"{where}.parts: expected a list, got {fields.kind_of(parts)}")
    found = []
    for place, part in enumerate(parts):
        said = part.get("text") if isinstance(part, dict) else part
        if isinstance(said, str):
            found.append(said)
        elif isinstance(part, dict):
            flags.add("dropped_parts")
        elif part is not None:
            raise BadRecord("wrong_type", f"{where}.parts[{place}]: expected a part, got {fields.kind_of(part)}")
    return fields.text("\n".join(filter(None, found)), where)
