"""Prefix trees over token ids, and their layout as one row of tokens.

Sharing follows from the tokens alone: two sequences of a tree share exactly the tokens that they have in common from
the start, whatever template, turn or pair they come from.

In the layout a *chain* is a path of the tree that lies in one piece: at each branching it goes on with the child of
most tokens, and the other children hang off it behind its end, those of the deepest branching first. A subtree is
therefore one range of places, and place `j` is an ancestor of place `i` (or `i` itself) just where j <= i < end[j].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]

LEAST_SHARED = 16
"""Sequences that share fewer tokens than this stand in trees of their own: a branching costs more than it saves."""


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens without a branching, and what may follow it."""

    tokens: Ints
    """Token ids, at least one."""
    depth: int
    """Tokens before it."""
    children: dict[int, Node] = field(default_factory=dict)
    """What follows, by first token."""
    total: int = 0
    """Tokens of the subtree; known once it is laid out."""
    start: int = -1
    """Place of its first token; known once it is laid out."""


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of attention: queries that see keys, all of them or, of their own chain, those not after them."""

    query: tuple[int, int]
    """First place, and the one after the last."""
    key: tuple[int, int]
    """First place, and the one after the last."""
    causal: bool
    """Whether these are the same places and only what comes before is seen."""


def common(a: Ints, b: Ints) -> int:
    """How many tokens two runs have in common from the start."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if len(differ) else size


class Forest:
    """Prefix trees that grow sequence by sequence."""

    def __init__(self, least_shared: int = LEAST_SHARED) -> None:
        self.trees: dict[tuple[int, ...], Node] = {}
        """Roots by their first `least_shared` tokens."""
        self.size = 0
        """Tokens of all trees."""
        self._least = least_shared

    def add(self, tokens: Sequence[int] | Ints) -> int:
        """Add a sequence; return how many tokens are new."""
        ids = np.asarray(tokens, dtype=np.int64)
        if not len(ids):
            raise ValueError("a sequence needs at least one token")
        key = self._key(ids)
        node = self.trees.get(key)
        if node is None:
            self.trees[key] = Node(ids, 0)
            new = len(ids)
        else:
            new = _insert(node, ids)
        self.size += new
        return new

    def _key(self, ids: Ints) -> tuple[int, ...]:
        return tuple(ids[: self._least].tolist())

    def path(self, tokens: Sequence[int] | Ints) -> list[Node]:
        """The nodes that a sequence that was added runs through."""
        ids = np.asarray(tokens, dtype=np.int64)
        node = self.trees[self._key(ids)]
        nodes = [node]
        while (depth := node.depth + len(node.tokens)) < len(ids):
            node = node.children[int(ids[depth])]
            nodes.append(node)
        return nodes


def _insert(node: Node, ids: Ints) -> int:
    while True:
        rest = ids[node.depth :]
        same = common(node.tokens, rest)
        if same < len(node.tokens) and same < len(rest):
            _split(node, same)
        if same == len(rest):
            return 0
        child = node.children.get(int(rest[same]))
        if child is None:
            node.children[int(rest[same])] = Node(rest[same:], node.depth + same)
            return len(rest) - same
        node = child


def _split(node: Node, size: int) -> None:
    low = Node(node.tokens[size:], node.depth + size, node.children)
    node.tokens, node.children = node.tokens[:size], {int(low.tokens[0]): low}


@dataclass(frozen=True, slots=True)
class Layout:
    """Trees as one row of N tokens."""

    ids: Ints
    """Token ids [N]."""
    positions: Ints
    """Depth of each token in its tree [N]: its position in every sequence that holds it."""
    end: Ints
    """Where the subtree of each token ends [N]."""
    blocks: tuple[Block, ...]
    """Attention, so that each token sees its ancestors and itself once; the causal ones, one per chain, come first."""

    @property
    def longest(self) -> int:
        """Tokens of the longest path."""
        return int(self.positions.max()) + 1


class _Writer:
    def __init__(self) -> None:
        self.size = 0
        self.ids: list[Ints] = []
        self.positions: list[Ints] = []
        self.ends: list[tuple[int, int, int]] = []
        self.chains: list[Block] = []
        self.blocks: list[Block] = []

    def chain(self, node: Node) -> None:
        """Lay out a subtree: its chain, then what hangs off it."""
        start = self.size
        runs: list[tuple[int, list[Node]]] = []
        following: Node | None = node
        while following is not None:
            node = following
            node.start = self.size
            self.ids.append(node.tokens)
            self.positions.append(np.arange(node.depth, node.depth + len(node.tokens)))
            self.size += len(node.tokens)
            following = max(node.children.values(), key=lambda child: child.total, default=None)
            runs.append((node.start, [child for child in node.children.values() if child is not following]))
        stop = self.size
        self.chains.append(Block((start, stop), (start, stop), True))
        for run_start, hanging in reversed(runs):
            run_stop, group = stop, self.size
            for child in hanging:
                self.chain(child)
            if hanging:
                self.blocks.append(Block((group, self.size), (start, run_stop), False))
            self.ends.append((run_start, run_stop, self.size))
            stop = run_start


def _totals(root: Node) -> None:
    stack, order = [root], []
    while stack:
        node = stack.pop()
        order.append(node)
        stack += node.children.values()
    for node in reversed(order):
        node.total = len(node.tokens) + sum(child.total for child in node.children.values())


def lay_out(forest: Forest) -> Layout:
    """Lay out all trees of a forest, one behind the other; their nodes then know their places."""
    writer = _Writer()
    for root in forest.trees.values():
        _totals(root)
        writer.chain(root)
    end = np.empty(writer.size, dtype=np.int64)
    for start, stop, value in writer.ends:
        end[start:stop] = value
    return Layout(np.concatenate(writer.ids), np.concatenate(writer.positions), end, (*writer.chains, *writer.blocks))


def places(forest: Forest, tokens: Sequence[int] | Ints) -> Ints:
    """Where each token of a sequence lies in the layout."""
    length = len(tokens)
    return np.concatenate(
        [np.arange(node.start, node.start + min(len(node.tokens), length - node.depth)) for node in forest.path(tokens)]
    )
