"""The control that any claim of personalization needs: another user's card in the place of the user's own."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence

from rlhi.records import digest

DRAWN = 8
"""Other users looked at for each choice: few enough to be a random draw, enough to avoid near twins."""


def overlap(left: Sequence[str], right: Sequence[str]) -> float:
    """Share of lines that two cards have in common: 0 none, 1 equal (Jaccard index, case ignored)."""
    a, b = ({line.casefold() for line in lines} for lines in (left, right))
    return len(a & b) / len(a | b) if a | b else 1.0


class WrongPersonas:
    """Gives each user the card of another one.

    A hash of seed and user puts all users on a ring. From the user's own place on, the next `DRAWN` users whose cards
    are not empty and differ from the user's own are looked at, and the one that shares the fewest lines is taken, ties
    in that order: a random user, but no near twin.
    """

    def __init__(self, lines_of: Mapping[str, Sequence[str]], seed: int) -> None:
        self._seed = seed
        self._ring = sorted((self._place(user), user, tuple(lines)) for user, lines in lines_of.items() if lines)

    def _place(self, user_id: str) -> str:
        return digest([self._seed, "wrong persona", user_id])

    def for_user(self, user_id: str, own: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """The other user and the lines of that card; empty both where no other user has a different card."""
        start = bisect(self._ring, (self._place(user_id), user_id))
        drawn: list[tuple[float, int, str, tuple[str, ...]]] = []
        for step in range(len(self._ring)):
            _, other, lines = self._ring[(start + step) % len(self._ring)]
            shared = overlap(own, lines)
            if other != user_id and shared < 1:
                drawn.append((shared, step, other, lines))
            if len(drawn) == DRAWN:
                break
        if not drawn:
            return "", ()
        _, _, chosen, lines = min(drawn)
        return chosen, lines
