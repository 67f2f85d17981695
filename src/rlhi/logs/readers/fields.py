"""What the readers share: taking one field out of a row, or saying exactly what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlhi.logs.readers.base import BadRecord, RawMessage, RawRole
from rlhi.logs.times import normalise

ROLES: dict[str, RawRole] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "function_call": "tool",
    "function_response": "tool",
    "tool_call": "tool",
    "tool_response": "tool",
    "observation": "tool",
}
"""Well-known names of roles, in lower case."""
TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def text(value: str, where: str) -> str:
    """Return `value` if it is text that every store and tokenizer takes. Raises `BadRecord`: nothing is repaired."""
    if "\0" in value:
        raise BadRecord("invalid_text", f"{where}: NUL at character {value.index(chr(0))}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            raise BadRecord(
                "invalid_text", f"{where}: lone surrogate U+{code:04X} at character {error.start}"
            ) from None
    return value


def identifier(row: dict[str, Any], keys: Sequence[str]) -> str | None:
    """The first id among `keys` that is not null or blank, as text; `a.b` looks into the object `a`."""
    for key in keys:
        outer, _, inner = key.partition(".")
        value = row.get(outer)
        if inner:
            value = value.get(inner) if isinstance(value, dict) else None
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadRecord("wrong_type", f"{key}: an id is text or a whole number, got {_kind(value)}")
        return text(str(value), key)
    return None


def label(row: dict[str, Any], key: str) -> str | None:
    """A short text that describes the row (model, language), or None where it is null, blank or absent."""
    value = row.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadRecord("wrong_type", f"{key}: expected text, got {_kind(value)}")
    return text(value, key)


def moment(row: dict[str, Any], keys: Sequence[str], flags: set[str], where: str = "") -> str | None:
    """The first time among `keys` that is not null. Adds `relative_time` to `flags` for a mere offset."""
    for key in keys:
        try:
            time, relative = normalise(row.get(key))
        except ValueError as error:
            raise BadRecord("invalid_time", f"{where}{key}: {error}") from None
        if time is not None:
            if relative:
                flags.add("relative_time")
            return time
    return None


def truth(row: dict[str, Any], key: str) -> bool:
    """Whether a flag is set (`true`, 1, "true"). Raises `BadRecord` for what is no flag."""
    value = row.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false", ""):
        return value.strip().lower() == "true"
    raise BadRecord("wrong_type", f"{key}: expected true or false, got {_kind(value)}")


def items(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of message objects under `key`, at least one."""
    if key not in row:
        raise BadRecord("missing_field", f"no {key!r}; the row has {_keys(row)}")
    value = row[key]
    if value is None or value == []:
        raise BadRecord("empty_conversation", f"{key}: no messages ({'null' if value is None else 'empty list'})")
    if not isinstance(value, list):
        raise BadRecord("wrong_type", f"{key}: expected a list of messages, got {_kind(value)}")
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadRecord("wrong_type", f"{key}[{place}]: expected an object, got {_kind(item)}")
    return value


def messages(row: dict[str, Any], key: str, times: Sequence[str], flags: set[str]) -> list[RawMessage]:
    """All messages under `key`, whether written `role`/`content` or `from`/`value`."""
    found = []
    for place, item in enumerate(items(row, key)):
        where = f"{key}[{place}]."
        found.append(RawMessage(_role(item, where), _content(item, where, flags), moment(item, times, flags, where)))
    return found


def _role(item: dict[str, Any], where: str) -> RawRole:
    key = "role" if "role" in item or "from" not in item else "from"
    if key not in item:
        raise BadRecord("missing_field", f"{where}role: missing; the message has {_keys(item)}")
    value = item[key]
    if not isinstance(value, str):
        raise BadRecord("wrong_type", f"{where}{key}: expected text, got {_kind(value)}")
    known = ROLES.get(value.strip().lower())
    if known is None:
        raise BadRecord("unknown_role", f"{where}{key}: {value[:40]!r}; known are {', '.join(ROLES)}")
    return known


def _content(item: dict[str, Any], where: str, flags: set[str]) -> str:
    key = "content" if "content" in item or "value" not in item else "value"
    value = item.get(key)
    if isinstance(value, str):
        return text(value, where + key)
    if isinstance(value, list):
        return text(_parts(value, where + key, flags), where + key)
    if value is None and (key in item or "tool_calls" in item or "function_call" in item):
        return ""
    if value is None:
        raise BadRecord("missing_field", f"{where}{key}: missing; the message has {_keys(item)}")
    raise BadRecord("wrong_type", f"{where}{key}: expected text, got {_kind(value)}")


def _parts(parts: list[Any], where: str, flags: set[str]) -> str:
    found = []
    for place, part in enumerate(parts):
        if isinstance(part, str):
            found.append(part)
            continue
        if not isinstance(part, dict):
            raise BadRecord("wrong_type", f"{where}[{place}]: expected a part, got {_kind(part)}")
        kind = part.get("type", "text")
        if kind not in TEXT_PARTS:
            flags.add("dropped_parts")
            continue
        said = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(said, str):
            raise BadRecord("wrong_type", f"{where}[{place}].text: expected text, got {_kind(said)}")
        found.append(said)
    return "\n".join(found)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    shown = "" if isinstance(value, dict | list) else f" {str(value)[:40]!r}"
    return names.get(type(value), type(value).__name__) + shown


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(repr(str(key)[:40]) for key in list(row)[:12]) or "no fields"
