"""What the readers share: taking one field out of a row, or saying exactly what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True, frozen=True)
class Names:
    """Where a message keeps what: earlier names go before later ones."""

    times: tuple[str, ...] = ()
    """Of the time."""
    role: tuple[str, ...] = ("role", "from")
    """Of the role."""
    content: tuple[str, ...] = ("content", "value")
    """Of the text."""
    roles: Mapping[str, RawRole] = field(default_factory=lambda: ROLES)
    """Who is meant by which role, in lower case."""


def find(row: dict[str, Any], path: str) -> tuple[bool, Any]:
    """Whether a row has a field and what it holds; `a.b` looks into the object `a`, if no field has that very name."""
    if path in row:
        return True, row[path]
    if "." not in path:
        return False, None
    outer, _, rest = path.partition(".")
    inner = row.get(outer)
    return find(inner, rest) if isinstance(inner, dict) else (False, None)


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
        _, value = find(row, key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadRecord("wrong_type", f"{key}: an id is text or a whole number, got {kind_of(value)}")
        return text(str(value), key)
    return None


def label(row: dict[str, Any], key: str) -> str | None:
    """A short text that describes the row (model, language), or None where it is null, blank or absent."""
    _, value = find(row, key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise BadRecord("wrong_type", f"{key}: expected text, got {kind_of(value)}")
    return text(value, key)


def moment(row: dict[str, Any], keys: Sequence[str], flags: set[str], where: str = "") -> str | None:
    """The first time among `keys` that is not null. Adds `relative_time` to `flags` for a mere offset."""
    for key in keys:
        try:
            # `find`, but quick: this is asked of every message, and mostly in vain
            value = row.get(key) if key in row or "." not in key else find(row, key)[1]
            if value is None:
                continue
            time, relative = normalise(value)
        except ValueError as error:
            raise BadRecord("invalid_time", f"{where}{key}: {error}") from None
        if time is not None:
            if relative:
                flags.add("relative_time")
            return time
    return None


def truth(row: dict[str, Any], key: str) -> bool:
    """Whether a flag is set (`true`, 1, "true"). Raises `BadRecord` for what is no flag."""
    _, value = find(row, key)
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in ("true", "false", ""):
        return value.strip().lower() == "true"
    raise BadRecord("wrong_type", f"{key}: expected true or false, got {kind_of(value)}")


def items(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of message objects under `key`, at least one."""
    present, value = find(row, key)
    if not present:
        raise BadRecord("missing_field", f"no {key!r}; the row has {keys_of(row)}")
    if value is None or value == []:
        raise BadRecord("empty_conversation", f"{key}: no messages ({'null' if value is None else 'empty list'})")
    if not isinstance(value, list):
        raise BadRecord("wrong_type", f"{key}: expected a list of messages, got {kind_of(value)}")
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadRecord("wrong_type", f"{key}[{place}]: expected an object, got {kind_of(item)}")
    return value


def messages(row: dict[str, Any], key: str, names: Names, flags: set[str]) -> list[RawMessage]:
    """All messages under `key`."""
    return [message(item, names, f"{key}[{place}].", flags) for place, item in enumerate(items(row, key))]


def message(item: dict[str, Any], names: Names, where: str, flags: set[str]) -> RawMessage:
    """One message. Adds `dropped_parts` to `flags` where it holds more than text."""
    return RawMessage(
        role(item, names, where), _content(item, names, where, flags), moment(item, names.times, flags, where)
    )


def role(item: dict[str, Any], names: Names, where: str) -> RawRole:
    """Who speaks."""
    present, key, value = _first(item, names.role)
    if not present:
        raise BadRecord("missing_field", f"{where}{key}: missing; the message has {keys_of(item)}")
    if not isinstance(value, str) and (names.roles is ROLES or not isinstance(value, int)):
        raise BadRecord("wrong_type", f"{where}{key}: expected text, got {kind_of(value)}")
    known = names.roles.get(str(value).strip().lower())
    if known is None:
        raise BadRecord("unknown_role", f"{where}{key}: {str(value)[:40]!r}; known are {', '.join(names.roles)}")
    return known


def _content(item: dict[str, Any], names: Names, where: str, flags: set[str]) -> str:
    present, key, value = _first(item, names.content)
    if isinstance(value, str):
        return text(value, where + key)
    if isinstance(value, list):
        return text(_parts(value, where + key, flags), where + key)
    if value is None and (present or "tool_calls" in item or "function_call" in item):
        return ""
    if value is None:
        raise BadRecord("missing_field", f"{where}{key}: missing; the message has {keys_of(item)}")
    raise BadRecord("wrong_type", f"{where}{key}: expected text, got {kind_of(value)}")


def _first(item: dict[str, Any], keys: Sequence[str]) -> tuple[bool, str, Any]:
    """The first of `keys` that is there, and what it holds."""
    for key in keys:
        if key in item:
            return True, key, item[key]
        present, value = find(item, key)
        if present:
            return True, key, value
    return False, keys[0], None


def _parts(parts: list[Any], where: str, flags: set[str]) -> str:
    found = []
    for place, part in enumerate(parts):
        if isinstance(part, str):
            found.append(part)
            continue
        if not isinstance(part, dict):
            raise BadRecord("wrong_type", f"{where}[{place}]: expected a part, got {kind_of(part)}")
        kind = part.get("type", "text")
        if kind not in TEXT_PARTS:
            flags.add("dropped_parts")
            continue
        said = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(said, str):
            raise BadRecord("wrong_type", f"{where}[{place}].text: expected text, got {kind_of(said)}")
        found.append(said)
    return "\n".join(found)


def kind_of(value: Any) -> str:
    """What a value is, in words for a message."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    shown = "" if isinstance(value, dict | list) else f" {str(value)[:40]!r}"
    return names.get(type(value), type(value).__name__) + shown


def keys_of(row: dict[str, Any]) -> str:
    """The fields of a row, in words for a message."""
    return ", ".join(repr(str(key)[:40]) for key in list(row)[:12]) or "no fields"
