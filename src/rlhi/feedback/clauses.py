"""Clauses of a message: verbatim pieces between marks and joining words."""

from __future__ import annotations

import re

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CUT = re.compile(
    r"(?<=[.!?;…])\s+|(?<=[。！？；])|\n+|\s+[-–—]+\s+|,\s+(?=(?:but|and|please|pls|so|just|now|also|pero|aber|mais|mas|no)\b)"
    r"|\s+(?=(?:but|pero|aber|mais|porque|because)\b)",
    re.IGNORECASE,
)


def clauses(message: str) -> list[str]:
    """Cut a message into clauses, each a verbatim piece of it without spaces around; code blocks are left out."""
    pieces: list[str] = []
    for part in _FENCED.split(message):
        pieces += [piece.strip() for piece in _CUT.split(part)]
    return [piece for piece in pieces if any(char.isalnum() for char in piece)]
