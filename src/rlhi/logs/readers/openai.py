"""OpenAI's chat messages: `messages: [{role, content}]`, the content text or a list of parts."""

from __future__ import annotations

from rlhi.logs.readers.columns import ColumnReader


class OpenAI(ColumnReader):
    """Rows with `messages`, and the user in `user`, `user_id` or `metadata.user_id`."""

    name = "openai"
    key = "messages"
    ids = ("conversation_id", "conversation_hash", "id", "metadata.conversation_id")
    users = ("user", "user_id", "metadata.user_id")
    times = ("timestamp", "created_at", "created", "create_time")
