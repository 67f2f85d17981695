"""Splits by user and by time."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.logs.clean import Clean
from rlhi.logs.readers.base import RawMessage
from rlhi.logs.split import heldout_users, split
from rlhi.recipe import Logs


def users_with(counts: list[int]) -> list[Clean]:
    """Users u0, u1, … with so many conversations each, a day apart."""
    return [
        Clean(f"{user}-{day}", f"u{user}", f"2024-01-{day + 1:02}T00:00:00Z", "en", "", [RawMessage("user", "a")], ())
        for user, count in enumerate(counts)
        for day in range(count)
    ]


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.integers(1, 5),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_what_holds_of_every_split(
    counts: list[int], share: float, later: float, least: int, seed: int, rng: random.Random
) -> None:
    logs = Logs(paths=("x",), heldout_users=share, later=later, min_conversations=least)
    conversations = users_with(counts)
    parts = {one.conversation_id: part for one, part in split(conversations, logs, seed)}
    rng.shuffle(conversations)
    assert {one.conversation_id: part for one, part in split(conversations, logs, seed)} == parts
    assert len(parts) == len(conversations)

    by_user: dict[str, list[str]] = defaultdict(list)
    for one, part in split(conversations, logs, seed):
        by_user[one.user_id].append(part)
    kinds = Counter[str]()
    for own in by_user.values():
        if len(own) < least:
            assert set(own) == {"apart"}
            continue
        kind = "heldout" if {"history", "heldout"} & set(own) else "train"
        kinds[kind] += 1
        early, late = ("history", "heldout") if kind == "heldout" else ("train", "later")
        assert own == [early] * own.count(early) + [late] * own.count(late)
        if kind == "heldout":
            assert own.count("heldout") >= 1
        else:
            assert own.count("train") >= 1
            assert (own.count("later") >= 1) == (later > 0 and len(own) > 1)
        if len(own) > 1:
            assert abs(own.count(late) - later * len(own)) <= 1
    if share > 0 and sum(kinds.values()) > 1:
        assert kinds["heldout"] >= 1 and kinds["train"] >= 1
    if share == 0:
        assert kinds["heldout"] == 0


def test_shares_are_met_and_differ_by_seed() -> None:
    users = [f"user{number}" for number in range(200)]
    first, second = heldout_users(users, 0.25, 0), heldout_users(users, 0.25, 1)
    assert len(first) == len(second) == 50
    assert first != second
    assert heldout_users(reversed(users), 0.25, 0) == first


@pytest.mark.parametrize(("count", "evaluated"), [(2, 1), (3, 1), (5, 2), (10, 3)])
def test_a_third_of_a_users_conversations_is_later(count: int, evaluated: int) -> None:
    logs = Logs(paths=("x",), heldout_users=0, later=0.34, min_conversations=1)
    parts = [part for _, part in split(users_with([count]), logs, 0)]
    assert parts == ["train"] * (count - evaluated) + ["later"] * evaluated
