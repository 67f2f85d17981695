"""How messages are classified and personas written."""

from __future__ import annotations

from pydantic import Field

from rlhi.settings.base import Section


class Labels(Section):
    """How user messages are classified."""

    max_chars: int = Field(4000, ge=100)
    """Longest excerpt of a request or reply shown to a labeler, in characters."""


class Personas(Section):
    """How cards are written."""

    every: int = Field(1, ge=1)
    """A new version of the card after so many conversations."""
    max_statements: int = Field(12, ge=1)
    """Lines on a card."""
    max_tokens: int = Field(256, ge=16)
    """Limit of the rendered card in the prompt, in the policy's tokens."""
    min_confidence: float = Field(0.4, ge=0, le=1)
    """Statements below are left out."""
