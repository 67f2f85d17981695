"""WildChat (1M and 4.8M), and what follows its columns: `rlhi world`, chats published in its keys.

The messages stand in `conversation`. The two layouts differ in what stands beside them: 1M has the user's address hash,
time and flags in each message and on top, 4.8M adds token counts and request parameters, which are ignored.
`timestamp` on top is the time of the last turn, so a message's own time goes before it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from rlhi.logs.readers import fields
from rlhi.logs.readers.base import RawConversation
from rlhi.logs.readers.columns import ColumnReader


class WildChat(ColumnReader):
    """Rows with `conversation: [{role, content, …}]` and the user in `hashed_ip`."""

    name = "wildchat"
    key = "conversation"
    ids: ClassVar[tuple[str, ...]] = ("conversation_hash", "conversation_id", "id")
    users: ClassVar[tuple[str, ...]] = ("hashed_ip", "user_id", "user")
    times = ("timestamp", "created", "created_at")

    def columns(self, present: Collection[str]) -> Collection[str]:
        """The columns that `read` looks at; the large `openai_moderation` only where there is no `toxic`."""
        moderation = {"openai_moderation"} - ({"openai_moderation"} if "toxic" in present else set())
        return {*super().columns(present), *moderation.intersection(present)}

    def user(self, row: dict[str, Any]) -> str | None:
        """`hashed_ip` of the row, else of its messages, else `user_id`."""
        for part in (row, *row[self.key]):
            user = fields.identifier(part, self.users[:1])
            if user:
                return user
        return super().user(row)

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row. Raises `BadRecord`."""
        conversation = super().read(row)
        if "toxic" not in row and _flagged(row.get("openai_moderation")):
            conversation.flags.add("toxic")
        return conversation


def _flagged(moderation: Any) -> bool:
    if not isinstance(moderation, list):
        return False
    return any(isinstance(verdict, dict) and verdict.get("flagged") is True for verdict in moderation)
