"""ShareGPT: `conversations: [{from, value}]`, with `human` and `gpt` (or another assistant's name) in turn."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rlhi.logs.readers import fields
from rlhi.logs.readers.base import RawConversation, RawMessage
from rlhi.logs.readers.columns import ColumnReader


class ShareGPT(ColumnReader):
    """Rows with `conversations`, and the system message in a column of its own or among them."""

    name = "sharegpt"
    key = "conversations"
    ids = ("id", "conversation_id", "conversation_hash")
    users = ("user_id", "user", "metadata.user_id")
    times = ("timestamp", "created_at", "create_time")

    def columns(self, present: Collection[str]) -> Collection[str]:
        """The columns that `read` looks at."""
        return {*super().columns(present), *{"system"}.intersection(present)}

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row; a `system` column goes before the messages. Raises `BadRecord`."""
        conversation = super().read(row)
        system = fields.label(row, "system")
        if system:
            conversation.messages.insert(0, RawMessage("system", system))
        return conversation
