"""The control that any claim of personalization needs: another user's card in the place of the user's own."""

from __future__ import annotations

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

    The other users stand in an order that a hash of seed, user and other user makes. Among the first `DRAWN` of them
    whose cards are not empty and differ from the user's own, the one that shares the fewest lines is taken, ties in
    that order: a random user, but no near twin.
    """

    def __init__(self, lines_of: Mapping[str, Sequence[str]], seed: int) -> None:
        self._lines = {user: tuple(lines) for user, lines in lines_of.items() if lines}
        self._seed = seed
        self._order: dict[str, list[str]] = {}

    def for_user(self, user_id: str, own: Sequence[str]) -> tuple[str, tuple[str, ...]]:
        """The other user and the lines of that card; empty both where no other user has a different card."""
        if user_id not in self._order:
            others = (other for other in self._lines if other != user_id)
            self._order[user_id] = sorted(others, key=lambda other: digest([self._seed, "wrong", user_id, other]))
        drawn: list[tuple[float, int, str]] = []
        for place, other in enumerate(self._order[user_id]):
            shared = overlap(own, self._lines[other])
            if shared < 1:
                drawn.append((shared, place, other))
            if len(drawn) == DRAWN:
                break
        if not drawn:
            return "", ()
        chosen = min(drawn)[2]
        return chosen, self._lines[chosen]
