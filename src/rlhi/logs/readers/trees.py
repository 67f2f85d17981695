"""A conversation that its log keeps as a tree: whoever edits a prompt or asks for another reply opens a new branch.

The branch that the log calls the current one, from its root on, is the conversation. The others are no conversations of
their own: they share its beginning, and what the user said there would count twice. Each of them, from where it leaves
its neighbour to its end, is told as an aside and counted:

| reason | what the branch begins with |
|---|---|
| `edited_prompt` | a user message where the neighbour has another |
| `other_reply` | an answer where the neighbour has another: a regenerated one, or another model's |
| `other_branch` | anything else: what follows the current message, or nodes that hang on no root of it |

The conversation is flagged `branches`, and by what they begin with. Where the log names no current node, the branch
that was written last is taken and flagged `guessed_branch`. A current branch that misses a parent or goes in a circle
is quarantined as `broken_tree`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rlhi.logs.readers import fields
from rlhi.logs.readers.base import BadRecord, RawMessage

KINDS = {"user": "edited_prompt", "assistant": "other_reply"}
FLAGS = {"branches", "other_branch", *KINDS.values()}
_SHOWN = 60
"""Characters that are told of a branch."""


@dataclass(slots=True, frozen=True, eq=False)
class Node:
    """A place in the tree."""

    id: str
    """Key of the node."""
    parent: str | None
    """Key of the node before it; None = a root."""
    body: dict[str, Any]
    """What the log has there."""


@dataclass(slots=True, frozen=True)
class Branch:
    """Nodes in turn, from where they leave the branch that was taken instead."""

    nodes: list[Node]
    """At least one."""
    instead: list[Node]
    """The branch that their first node's parent went on with; empty where there is none."""
    at: int = 0
    """Where in `instead` the neighbour of the first node stands."""


Speak = Callable[[Node, set[str]], RawMessage | None]
"""The message at a node, or None where there is none to be told. May add flags. Raises `BadRecord`."""


def nodes(value: Any, where: str, parent: str) -> dict[str, Node]:
    """The nodes of an object under `where` by their keys; `parent` is the field of a node that names the one before."""
    if value is None or value == {}:
        raise BadRecord("empty_conversation", f"{where}: no messages ({'null' if value is None else 'empty object'})")
    if not isinstance(value, dict):
        raise BadRecord("wrong_type", f"{where}: expected an object of nodes, got {fields.kind_of(value)}")
    found = {}
    for key, body in value.items():
        if body is None:  # a table holds the keys of all its rows in each
            continue
        if not isinstance(body, dict):
            raise BadRecord("wrong_type", f"{where}[{key!r}]: expected an object, got {fields.kind_of(body)}")
        above = body.get(parent)
        if above is not None and not isinstance(above, str):
            raise BadRecord("wrong_type", f"{where}[{key!r}].{parent}: expected text, got {fields.kind_of(above)}")
        found[key] = Node(key, above, body)
    if not found:
        raise BadRecord("empty_conversation", f"{where}: no messages (each node is null)")
    return found


def trunk(tree: dict[str, Node], current: Any, written: Callable[[Node], Any], flags: set[str]) -> list[Node]:
    """The nodes from the root to the current one; `written` gives the time by which the last one is guessed."""
    if current is not None and not isinstance(current, str):
        raise BadRecord("wrong_type", f"the current node's id: expected text, got {fields.kind_of(current)}")
    if current not in tree:
        flags.add("guessed_branch")
        current = _last_leaf(tree, written)
    path, seen = list[Node](), set[str]()
    at: str | None = current
    while at is not None:
        if at in seen:
            raise BadRecord("broken_tree", f"the current branch goes in a circle: {at!r} comes before itself")
        if at not in tree:
            raise BadRecord("broken_tree", f"there is no node {at!r}, the parent of {path[-1].id!r}")
        seen.add(at)
        path.append(tree[at])
        at = tree[at].parent
    return path[::-1]


def _last_leaf(tree: dict[str, Node], written: Callable[[Node], Any]) -> str:
    parents = {node.parent for node in tree.values()}
    leaves = [node for node in tree.values() if node.id not in parents]
    if not leaves:
        raise BadRecord("broken_tree", "no current node is named, and all nodes go in circles")
    return max(enumerate(leaves), key=lambda leaf: (_number(written(leaf[1])), leaf[0]))[1].id


def _number(value: Any) -> float:
    numeric = isinstance(value, int) or (isinstance(value, float) and not math.isnan(value))
    return value if numeric else -math.inf


def branches(tree: dict[str, Node], path: list[Node]) -> list[Branch]:
    """All nodes that are not on `path`, each once, as branches in the order of the log."""
    below: dict[str | None, list[Node]] = {}
    for node in tree.values():
        below.setdefault(node.parent if node.parent in tree else None, []).append(node)
    taken = {node.id for node in path}
    loose = [node for node in below.get(None, []) if node.id not in taken]
    found = [branch for root in loose for branch in _grown([root], [], 0, below, taken)]
    found = [*_beside(path, below, taken), *found]
    found += [Branch([node], []) for node in tree.values() if node.id not in taken]  # only circles are left
    place = {key: number for number, key in enumerate(tree)}
    return sorted(found, key=lambda branch: place[branch.nodes[0].id])


def _beside(path: list[Node], below: dict[str | None, list[Node]], taken: set[str]) -> Iterator[Branch]:
    """The branches that leave a path."""
    for place, node in enumerate(path, start=1):
        for child in below.get(node.id, ()):
            if child.id not in taken:
                yield from _grown([child], path, place, below, taken)


def _grown(
    start: list[Node], instead: list[Node], at: int, below: dict[str | None, list[Node]], taken: set[str]
) -> Iterator[Branch]:
    """A branch up to its end by way of the last child each time, then those that leave it."""
    waiting = [Branch(start, instead, at)]
    while waiting:
        branch = waiting.pop()
        taken.add(branch.nodes[0].id)
        while further := below.get(branch.nodes[-1].id):
            place = len(branch.nodes)
            waiting += [Branch([child], branch.nodes, place) for child in further[:-1]]
            branch.nodes.append(further[-1])
            taken.add(further[-1].id)
        yield branch


def told(
    tree: dict[str, Node], path: list[Node], speak: Speak, flags: set[str]
) -> tuple[list[RawMessage], list[BadRecord]]:
    """The messages of the current branch, and an aside for each of the others that says anything."""
    messages = [message for node in path if (message := speak(node, flags)) is not None]
    asides = []
    for branch in branches(tree, path):
        aside = _aside(branch, speak, flags)
        if aside is not None:
            asides.append(aside)
            flags.update({"branches", aside.reason} & FLAGS)
    return messages, asides


def _aside(branch: Branch, speak: Speak, flags: set[str]) -> BadRecord | None:
    where, own = f"branch at {branch.nodes[0].id!r}", set[str]()
    try:
        said = [message for node in branch.nodes if (message := speak(node, own)) is not None]
    except BadRecord as bad:
        return BadRecord(bad.reason, f"{where}: {bad.detail}")
    said = [message for message in said if message.content.strip()]
    if not said:
        flags |= own
        return None
    reason = "other_branch"
    if said[0].role == _first_role(branch, speak):
        reason = KINDS.get(said[0].role, reason)
    words = " ".join(said[0].content[: 2 * _SHOWN].split())[:_SHOWN]
    return BadRecord(reason, f"{where}: {len(said)} messages, the first ({said[0].role}): {words!r}")


def _first_role(branch: Branch, speak: Speak) -> str | None:
    """Who speaks first in the branch that was taken instead."""
    for place in range(branch.at, len(branch.instead)):
        try:
            message = speak(branch.instead[place], set())
        except BadRecord:
            return None
        if message is not None and message.content.strip():
            return message.role
    return None
