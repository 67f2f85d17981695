"""Which sequences go into one forward pass, by a budget of distinct tokens.

What must stay together (both sides of a pair) is a *unit*. Units that begin alike form a tree; a tree within the budget
stays whole. A larger one is cut: its units are put in the order of their tokens, in which neighbours share most, and
cut into runs within the budget so that the tokens of all runs, repeated trunks included, are fewest (dynamic
programming over the ends of the runs). A unit that is over the budget by itself is a pass of its own. Whole trees and
runs are then gathered into passes, the largest first, each into the first pass with room.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlhi.training.trees.build import LEAST_SHARED, Forest

Unit = Sequence[Sequence[int]]
"""Whole sequences (prompt and completion) that must be in one pass."""


def pack(units: Sequence[Unit], budget: int) -> list[list[int]]:
    """Cut units into passes of at most `budget` distinct tokens: the numbers of each pass's units, rising.

    The result depends on the units' tokens alone, and for equal tokens on their order.
    """
    runs: list[tuple[int, list[int]]] = []
    for tree in _trees(units):
        size = _size(units, tree)
        runs += [(size, tree)] if size <= budget else _cut(units, tree, budget)
    runs.sort(key=lambda run: (-run[0], tuple(units[run[1][0]][0]), run[1][0]))
    passes: list[list[int]] = []
    rooms: list[int] = []
    for size, run in runs:
        place = next((i for i, room in enumerate(rooms) if room >= size), None)
        if place is None:
            passes.append(list(run))
            rooms.append(budget - size)
        else:
            passes[place] += run
            rooms[place] -= size
    return [sorted(numbers) for numbers in passes]


def _trees(units: Sequence[Unit]) -> list[list[int]]:
    """Units by how they begin, each tree in the order of its tokens."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number, unit in enumerate(units):
        found.setdefault(tuple(unit[0][:LEAST_SHARED]), []).append(number)
    return [sorted(tree, key=lambda number: (tuple(map(tuple, units[number])), number)) for tree in found.values()]


def _size(units: Sequence[Unit], numbers: Sequence[int]) -> int:
    forest = Forest()
    return sum(forest.add(sequence) for number in numbers for sequence in units[number])


def _cut(units: Sequence[Unit], tree: Sequence[int], budget: int) -> list[tuple[int, list[int]]]:
    """Cut a tree into runs of least total size."""
    best: list[tuple[int, int]] = [(0, 0)] + [(0, -1)] * len(tree)
    for start in range(len(tree)):
        forest = Forest()
        for stop in range(start + 1, len(tree) + 1):
            for sequence in units[tree[stop - 1]]:
                forest.add(sequence)
            if forest.size > budget and stop > start + 1:
                break
            total = best[start][0] + forest.size
            if best[stop][1] < 0 or total < best[stop][0]:
                best[stop] = (total, start)
    runs: list[tuple[int, list[int]]] = []
    stop = len(tree)
    while stop:
        total, start = best[stop]
        runs.append((total - best[start][0], list(tree[start:stop])))
        stop = start
    return runs[::-1]
