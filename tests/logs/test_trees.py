"""Conversations kept as trees: whatever the links are, every node is on one branch, and each branch is told."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.logs.readers import trees
from rlhi.logs.readers.base import BadRecord, RawMessage
from rlhi.logs.readers.trees import Node

KEYS = [f"n{number}" for number in range(12)]
links = st.dictionaries(st.sampled_from(KEYS), st.none() | st.sampled_from([*KEYS, "nowhere"]), min_size=1)
"""Any parents: circles, several roots, parents that are not there."""


def tree_of(parents: dict[str, str | None], **bodies: dict[str, Any]) -> dict[str, Node]:
    return trees.nodes({key: {"up": above, **bodies.get(key, {})} for key, above in parents.items()}, "tree", "up")


def trunk(tree: dict[str, Node], current: Any, flags: set[str] | None = None) -> list[Node]:
    return trees.trunk(tree, current, lambda node: node.body.get("at"), set() if flags is None else flags)


def speak(node: Node, flags: set[str]) -> RawMessage | None:
    return RawMessage(node.body["role"], node.body.get("says", node.id)) if "role" in node.body else None


@settings(max_examples=400)
@given(links, st.none() | st.sampled_from([*KEYS, "nowhere"]))
def test_each_node_is_on_one_branch(parents: dict[str, str | None], current: str | None) -> None:
    tree = tree_of(parents)
    flags: set[str] = set()
    try:
        path = trunk(tree, current, flags)
    except BadRecord as bad:
        assert bad.reason == "broken_tree"
        return
    assert path[0].parent is None
    assert (path[-1].id == current) == (current in parents) == ("guessed_branch" not in flags)
    found = trees.branches(tree, path)
    assert sorted(node.id for branch in [path, *(b.nodes for b in found)] for node in branch) == sorted(parents)
    for branch in [path, *(b.nodes for b in found)]:
        assert all(after.parent == before.id for before, after in pairwise(branch))
    for one in found:
        if one.instead:
            assert one.nodes[0].parent == one.instead[one.at - 1].id
            assert one.nodes[0].id not in {node.id for node in one.instead}


@settings(max_examples=200)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=25), st.integers(0, 30))
def test_a_whole_tree_has_a_branch_for_each_end(above: list[int], current: int) -> None:
    parents = {f"n{n}": None if n == 0 else f"n{link % n}" for n, link in enumerate(above)}
    tree = tree_of(parents)
    end = f"n{current % len(above)}"
    ends = set(parents) - set(parents.values())
    assert len(trees.branches(tree, trunk(tree, end))) == len(ends - {end})


@settings(max_examples=200)
@given(
    links, st.sampled_from(KEYS), st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["user", "assistant", "x"]))
)
def test_all_that_is_said_is_told(parents: dict[str, str | None], current: str, roles: dict[str, str]) -> None:
    tree = tree_of(parents, **{key: {"role": role} for key, role in roles.items()})
    try:
        path = trunk(tree, current)
    except BadRecord:
        return
    flags: set[str] = set()
    messages, asides = trees.told(tree, path, speak, flags)
    spoken = [key for key in parents if key in roles]
    told_aside = sum(int(aside.detail.split(": ")[1].split()[0]) for aside in asides)
    assert len(messages) + told_aside == len(spoken)
    assert ("branches" in flags) == bool(asides)


def test_a_tree_of_any_depth() -> None:
    parents: dict[str, str | None] = {f"n{n}": f"n{n - 1}" if n else None for n in range(50_000)}
    parents |= {f"m{n}": f"n{n}" for n in range(0, 50_000, 10)}
    tree = tree_of(parents)
    path = trunk(tree, "n49999")
    assert len(path) == 50_000
    assert len(trees.branches(tree, path)) == 5_000


def test_what_a_branch_begins_with() -> None:
    roles = {"u1": "user", "a1": "assistant", "a2": "assistant", "u2": "user", "u3": "user", "b3": "assistant"}
    roles |= {"late": "user", "lost": "user", "tool": "tool"}
    parents: dict[str, str | None] = {"u1": None, "a1": "u1", "a2": "u1", "u2": "a2", "u3": "a2", "b3": "u3"}
    parents |= {"late": "u2", "lost": "nowhere", "tool": "u1", "silent": "u1"}
    tree = tree_of(parents, **{key: {"role": role} for key, role in roles.items()})
    flags: set[str] = set()
    messages, asides = trees.told(tree, trunk(tree, "u2"), speak, flags)
    assert [message.content for message in messages] == ["u1", "a2", "u2"]
    assert [(aside.reason, aside.detail) for aside in asides] == [
        ("other_reply", "branch at 'a1': 1 messages, the first (assistant): 'a1'"),
        ("edited_prompt", "branch at 'u3': 2 messages, the first (user): 'u3'"),
        ("other_branch", "branch at 'late': 1 messages, the first (user): 'late'"),
        ("other_branch", "branch at 'lost': 1 messages, the first (user): 'lost'"),
        ("other_branch", "branch at 'tool': 1 messages, the first (tool): 'tool'"),
    ]
    assert flags == {"branches", "other_reply", "edited_prompt", "other_branch"}


def test_a_branch_within_a_branch_is_told_too() -> None:
    roles = {"u1": "user", "u2": "user", "a1": "assistant", "a2": "assistant", "a3": "assistant"}
    tree = tree_of(
        {"r": None, "u1": "r", "u2": "r", "a1": "u2", "a2": "u2", "a3": "u2"},
        **{k: {"role": v} for k, v in roles.items()},
    )
    _, asides = trees.told(tree, trunk(tree, "u1"), speak, set())
    assert [aside.reason for aside in asides] == ["edited_prompt", "other_reply", "other_reply"]


def test_the_branch_written_last_is_guessed() -> None:
    tree = tree_of({"r": None, "new": "r", "old": "r", "odd": "r"}, new={"at": 5.0}, old={"at": 3}, odd={"at": "?"})
    for current in (None, "nowhere"):
        flags: set[str] = set()
        assert [node.id for node in trunk(tree, current, flags)] == ["r", "new"]
        assert flags == {"guessed_branch"}


@pytest.mark.parametrize(
    ("parents", "current", "words"),
    [
        ({"a": "a"}, "a", "circle"),
        ({"a": "b", "b": "a"}, "b", "circle"),
        ({"a": "b", "b": "a"}, None, "circles"),
        ({"a": "b"}, "a", "no node 'b', the parent of 'a'"),
        ({"r": None, "a": "b", "b": "a", "c": "a"}, "c", "circle"),
    ],
)
def test_a_broken_current_branch_is_refused(parents: dict[str, str | None], current: str | None, words: str) -> None:
    with pytest.raises(BadRecord, match=words) as caught:
        trunk(tree_of(parents), current)
    assert caught.value.reason == "broken_tree"


@pytest.mark.parametrize(
    ("value", "reason", "place"),
    [
        (None, "empty_conversation", "null"),
        ({}, "empty_conversation", "empty object"),
        ({"a": None}, "empty_conversation", "each node is null"),
        ([], "wrong_type", "expected an object of nodes, got a list"),
        ({"a": 3}, "wrong_type", "tree['a']: expected an object, got a number '3'"),
        ({"a": {"up": 7}}, "wrong_type", "tree['a'].up"),
    ],
)
def test_what_is_no_tree(value: Any, reason: str, place: str) -> None:
    with pytest.raises(BadRecord) as caught:
        trees.nodes(value, "tree", "up")
    assert caught.value.reason == reason
    assert place in caught.value.detail
