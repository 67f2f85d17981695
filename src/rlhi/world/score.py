"""The worth of a reply against the truth: wishes met, correctness, and both together."""

from __future__ import annotations

from collections.abc import Mapping

from rlhi.world.detect import detect
from rlhi.world.requests import Request

FLOOR = 1 / 3
"""Worth of a right reply that meets no wish, where one that meets all is worth 1."""


def wishes_met(reply: str, request: Request, wanted: Mapping[str, str]) -> float:
    """Share of the wishes in `wanted` (dimension → value) that the reply meets, 0–1; 1 where there are none."""
    if not wanted:
        return 1.0
    got = detect(reply, request)
    return sum(got.get(name) == value for name, value in wanted.items()) / len(wanted)


def combined(personalization: float, correct: float) -> float:
    """Correctness × (1/3 + 2/3 × personalization), 0–1.

    A wrong reply is worth little in whatever style, so correctness is a factor; a right reply in the wrong style is
    still of some use, so personalization moves the worth between a third and the whole.
    """
    return correct * (FLOOR + (1 - FLOOR) * personalization)
