"""Your own columns: a YAML file says which is which, and this reader reads them.

    conversation_id: chat          # `a.b` looks into the object `a`
    user_id: customer.id
    messages: {column: turns, role: who, content: said, time: at}    # one row per conversation, or
    rows: {role: who, content: said, time: at, index: n}             # one row per message
    roles: {customer: user, agent: assistant}                        # beside the well-known names

With `rows`, the messages of one conversation may stand anywhere in the logs: `gather.py` brings them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from rlhi.logs.readers import fields
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage, RawRole
from rlhi.settings import Section
from rlhi.yamlfile import read_yaml, validate

ROWS = "rows"
"""Where a gathered conversation keeps its rows, each with its place."""
Column = Annotated[str, Field(min_length=1)]
Flag = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class MessageColumns(Section):
    """What a message is made of."""

    role: Column
    """Who speaks."""
    content: Column
    """The text, or a list of parts."""
    time: Column | None = None
    """When it was said."""


class Nested(MessageColumns):
    """One row per conversation."""

    column: Column
    """The list of messages."""


class Flat(MessageColumns):
    """One row per message."""

    index: Column | None = None
    """Its place in the conversation; without it they go by `time`, and without both by their place in the logs."""


class ColumnMap(Section):
    """Which columns hold what."""

    conversation_id: Column | None = None
    """The conversation's id."""
    user_id: Column | None = None
    """The user's id; without it each conversation is a user of its own."""
    time: Column | None = None
    """Time of the whole conversation."""
    language: Column | None = None
    """Name or code of the language."""
    model: Column | None = None
    """The model that answered."""
    flags: dict[Flag, Column] = Field(default_factory=dict)
    """Columns of true or false by the flag that they set; `toxic` and `redacted` are what the recipe can leave out."""
    messages: Nested | None = None
    """The messages, where a row is a conversation."""
    rows: Flat | None = None
    """The messages, where each is a row of its own."""
    roles: dict[str | bool | int, RawRole] = Field(default_factory=dict)
    """Who is meant by a value of the role's column, besides the well-known names."""

    @model_validator(mode="after")
    def _one_layout(self) -> ColumnMap:
        if (self.messages is None) == (self.rows is None):
            raise ValueError(
                "name either `messages` (one row per conversation) or `rows` (one row per message), "
                + ("not both" if self.messages else "for example messages: {column: turns, role: role, content: text}")
            )
        if self.rows is not None and self.conversation_id is None:
            raise ValueError("`rows` needs `conversation_id`, the column that tells which messages belong together")
        return self

    def of_rows(self) -> Iterator[tuple[str, str]]:
        """Key of this file and column, of what stands in a row."""
        for key in ("conversation_id", "user_id", "time", "language", "model"):
            if column := getattr(self, key):
                yield key, column
        yield from ((f"flags.{flag}", column) for flag, column in self.flags.items())
        if self.messages:
            yield "messages.column", self.messages.column
        elif self.rows:
            yield from _columns("rows", self.rows)

    def of_messages(self) -> Iterator[tuple[str, str]]:
        """Key of this file and field, of what stands in each message of a row."""
        if self.messages:
            yield from _columns("messages", self.messages)


def _columns(section: str, columns: MessageColumns) -> Iterator[tuple[str, str]]:
    for key in ("role", "content", "time", "index"):
        if column := getattr(columns, key, None):
            yield f"{section}.{key}", column


def load(path: str) -> ColumnMap:
    """Read a mapping file. Raises `UsageError` that names each wrong key and what would be right."""
    hint = "it is the file that logs.mapping names: docs/logs.md shows one"
    data = read_yaml(Path(path), "mapping file", hint)
    return validate(ColumnMap, data, f"mapping file {path}", "mapping")


class MappedReader:
    """Rows whose columns a mapping file names."""

    name = "mapping"

    def __init__(self, path: str) -> None:
        self.path, self.map = path, load(path)
        layout = self.map.messages or self.map.rows
        assert layout is not None
        own = {str(key).strip().lower(): role for key, role in self.map.roles.items()}
        times = (layout.time,) if layout.time else ()
        self._names = fields.Names(times, (layout.role,), (layout.content,), {**fields.ROLES, **own})

    @property
    def key(self) -> str:
        """The column of the messages."""
        return self.map.messages.column if self.map.messages else ROWS

    def matches(self, row: dict[str, Any]) -> bool:
        """All rows are read by the mapping that was asked for."""
        return True

    def columns(self, present: Collection[str]) -> Collection[str]:
        """The columns that the mapping names; all of them where one is missing, so that the nearest can be told."""
        named = {name if name in present else name.partition(".")[0] for _, name in self.map.of_rows()}
        return named if named <= set(present) else present

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row, or the gathered rows of a conversation. Raises `BadRecord`."""
        flags: set[str] = set()
        if self.map.messages:
            parts = [row]
            messages = fields.messages(row, self.key, self._names, flags)
            user = self._first(parts, "user_id")
        else:
            parts = [part for _, part in row[ROWS]]
            messages = [fields.message(part, self._names, f"{place} ", flags) for place, part in row[ROWS]]
            user = self._speaker(parts, messages)
        times = (self.map.time,) if self.map.time else ()
        moments = [moment for part in parts if (moment := fields.moment(part, times, flags))]
        flags.update(flag for flag, column in self.map.flags.items() for part in parts if fields.truth(part, column))
        return RawConversation(
            messages=messages,
            conversation_id=self._first(parts, "conversation_id"),
            user_id=user,
            timestamp=moments[0] if moments else None,
            language=self._first(parts, "language", fields.label),
            model=self._first(parts, "model", fields.label) or "",
            flags=flags,
        )

    def _first(self, parts: list[dict[str, Any]], key: str, read: Any = None) -> str | None:
        """What the first part that tells it has in a column."""
        column = getattr(self.map, key)
        if column is None:
            return None
        for part in parts:
            found: str | None = read(part, column) if read else fields.identifier(part, (column,))
            if found is not None:
                return found
        return None

    def _speaker(self, parts: list[dict[str, Any]], messages: list[RawMessage]) -> str | None:
        """The user of gathered rows: whoever the user's messages name, since an answer may name who answered."""
        said = [part for part, message in zip(parts, messages, strict=True) if message.role == "user"]
        users = sorted({user for part in said if (user := self._first([part], "user_id"))})
        if len(users) > 1:
            shown = ", ".join(users[:4])
            raise BadRecord("several_users", f"{self.map.user_id}: the user's messages name {len(users)}: {shown}")
        return users[0] if users else None
