"""LMSYS-Chat-1M: WildChat's `conversation`, but no user, no times, and an id of its own.

Nobody knows which of these conversations are one person's, so each is a user of its own, flagged `no_user_id`: with
`logs.min_conversations` above 1 all of them are set apart, and nothing is learnt over conversations. A copy that has
`user_id` beside the published columns is read with it.
"""

from __future__ import annotations

from typing import Any

from rlhi.logs.readers.wildchat import WildChat


class LMSYS(WildChat):
    """Rows with `conversation_id`, `conversation: [{content, role}]`, `turn` and `openai_moderation`."""

    name = "lmsys"
    ids = ("conversation_id",)
    users = ("user_id", "user")

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether a conversation has LMSYS's id, and nothing that only WildChat has."""
        theirs = "conversation_id" in row and "turn" in row
        return theirs and super().matches(row) and not {"conversation_hash", "hashed_ip"} & row.keys()
