"""A reader for any format that keeps a conversation's messages in one column; each format says which columns."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from rlhi.logs.readers import fields
from rlhi.logs.readers.base import RawConversation

FLAGS = ("toxic", "redacted")


class ColumnReader:
    """Subclass it and name the columns: earlier names go before later ones, `a.b` looks into the object `a`."""

    name: ClassVar[str]
    """Name in recipes."""
    key: ClassVar[str]
    """Column of the messages."""
    ids: ClassVar[tuple[str, ...]]
    """Columns of the conversation's id."""
    users: ClassVar[tuple[str, ...]]
    """Columns of the user's id."""
    times: ClassVar[tuple[str, ...]]
    """Columns of the time, of the row and of a message."""

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether the column of the messages holds a list."""
        return isinstance(row.get(self.key), list)

    def columns(self, present: Collection[str]) -> Collection[str]:
        """The columns that `read` looks at."""
        named = (self.key, *self.ids, *self.users, *self.times, *FLAGS, "language", "model")
        return {name.partition(".")[0] for name in named}.intersection(present)

    def user(self, row: dict[str, Any]) -> str | None:
        """The user's id, or None where the log has none."""
        return fields.identifier(row, self.users)

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row. Raises `BadRecord`."""
        flags: set[str] = set()
        messages = fields.messages(row, self.key, fields.Names(self.times), flags)
        parts = [row, *row[self.key]]
        flags.update(flag for flag in FLAGS for part in parts if part.get(flag) and fields.truth(part, flag))
        return RawConversation(
            messages=messages,
            conversation_id=fields.identifier(row, self.ids),
            user_id=self.user(row),
            timestamp=fields.moment(row, self.times, flags),
            language=fields.label(row, "language"),
            model=fields.label(row, "model") or "",
            flags=flags,
        )
