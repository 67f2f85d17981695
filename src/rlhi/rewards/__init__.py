"""Reward models: how good is a reply for this user? All behind `Reward`, whatever computes the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlhi.records import ChatMessage


class Reward(Protocol):
    """Scores replies to one chat under what is known of its user."""

    name: str
    """Goes into a pair's provenance."""

    async def score(
        self, context: Sequence[ChatMessage], replies: Sequence[str], lines: Sequence[str]
    ) -> list[float | None]:
        """One figure for each reply, higher is better; None where the judge gave none.

        `context` ends with the user message to answer and holds no persona; `lines` are what is known of the user.
        """
        ...


__all__ = ["Reward"]
