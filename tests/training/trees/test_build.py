from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.training.trees.attention import dense_mask, sees
from rlhi.training.trees.build import Forest, Layout, lay_out, places
from rlhi.training.trees.pack import pack
from rlhi.training.trees.step import make_pass
from tests.training.trees.models import tokens

# Few different tokens, so that sequences share beginnings of all lengths.
sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12)


def laid_out(given: list[list[int]], least_shared: int = 1) -> tuple[Forest, Layout]:
    forest = Forest(least_shared)
    for sequence in given:
        forest.add(sequence)
    return forest, lay_out(forest)


@given(sequences, st.sampled_from([1, 3, 16]))
@settings(max_examples=150, deadline=None)
def test_sequences_share_exactly_what_they_have_in_common(given: list[list[int]], least: int) -> None:
    forest, layout = laid_out(given, least)
    where = [places(forest, sequence).tolist() for sequence in given]
    for sequence, at in zip(given, where, strict=True):
        assert layout.ids[at].tolist() == sequence
        assert layout.positions[at].tolist() == list(range(len(sequence)))
    for a, at_a in zip(given, where, strict=True):
        for b, at_b in zip(given, where, strict=True):
            same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            apart = a[:least] != b[:least]
            assert len(set(at_a) & set(at_b)) == (0 if apart else same)
    assert forest.size == len(layout.ids) == len({place for at in where for place in at})
    assert layout.longest == max(map(len, given))


@given(sequences)
@settings(max_examples=150, deadline=None)
def test_every_token_sees_its_ancestors_and_itself_once(given: list[list[int]]) -> None:
    forest, layout = laid_out(given)
    size = len(layout.ids)
    wanted = np.zeros((size, size), dtype=int)
    for sequence in given:
        at = places(forest, sequence)
        for depth in range(len(at)):
            wanted[at[depth], at[: depth + 1]] = 1
    seen = np.zeros((size, size), dtype=int)
    for block in layout.blocks:
        part = np.ones((block.query[1] - block.query[0], block.key[1] - block.key[0]), dtype=int)
        seen[slice(*block.query), slice(*block.key)] += np.tril(part) if block.causal else part
    assert (seen == wanted).all()
    end = torch.from_numpy(layout.end)
    all_places = torch.arange(size)
    assert (sees(end)(all_places, all_places, all_places[:, None], all_places[None, :]).int().numpy() == wanted).all()
    assert ((dense_mask(end, torch.float32)[0, 0] == 0).int().numpy() == wanted).all()


def test_a_conversation_is_one_chain_with_its_other_replies_behind() -> None:
    stream = random.Random(0)
    prompt, lost, kept, more, last, other = (tokens(stream, count) for count in (30, 8, 9, 5, 7, 6))
    later = [*prompt, *kept, *more]
    _, layout = laid_out([[*prompt, *lost], [*prompt, *kept], [*later, *last], [*later, *other]], 16)
    assert [(block.query, block.key, block.causal) for block in layout.blocks] == [
        ((0, 51), (0, 51), True),
        ((51, 57), (51, 57), True),
        ((57, 65), (57, 65), True),
        ((51, 57), (0, 44), False),
        ((57, 65), (0, 30), False),
    ]


def test_a_branching_is_asked_for_all_its_next_tokens_at_one_place() -> None:
    work = make_pass([([5] * 20, [6, 7]), ([5] * 20, [8]), ([5] * 20, [6, 7]), ([5] * 20 + [6], [7, 9])])
    assert work.tokens == 20 + 3 + 1
    assert len(work.at) == 3
    assert len(work.rows) == 4
    assert work.answers.tolist()[:2] == work.answers.tolist()[3:5]
    assert work.answers.tolist()[5] == work.answers.tolist()[1]
    assert work.lengths == (2, 1, 2, 2)


def test_a_prompt_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        make_pass([([], [1, 2])])


def distinct(units: list[list[list[int]]]) -> int:
    forest = Forest()
    return sum(forest.add(sequence) for unit in units for sequence in unit)


units = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 9)).map(
        lambda made: [[made[0]] * 20 + [3] * made[1] + [4 + made[2]] * made[2], [made[0]] * 20 + [3] * made[1] + [60]]
    ),
    min_size=1,
    max_size=12,
)


@given(units, st.integers(20, 120))
@settings(max_examples=150, deadline=None)
def test_passes_hold_every_unit_once_within_the_budget(given: list[list[list[int]]], budget: int) -> None:
    found = pack(given, budget)
    assert sorted(number for part in found for number in part) == list(range(len(given)))
    for part in found:
        assert distinct([given[number] for number in part]) <= budget or len(part) == 1
    if distinct(given) <= budget:
        assert len(found) == 1


def test_a_cut_tree_repeats_as_little_trunk_as_possible() -> None:
    trunk, left, right = [1] * 20, [2] * 30, [3] * 30
    given = [[[*trunk, *branch, leaf, leaf]] for branch in (left, right) for leaf in range(10, 14)]
    whole = distinct(given)
    assert whole == 20 + 2 * (30 + 4 * 2)
    # Two passes could be cut at any place; only between left and right is nothing but the trunk repeated.
    found = pack(given, 20 + 30 + 8)
    assert sorted(found) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    # Greedily 70 tokens would be left's four leaves and nothing more; the order of the units must not matter either.
    assert pack(given, 70) == found
    assert [len(part) for part in pack(given, 10)] == [1] * 8


def test_passes_depend_on_tokens_and_not_on_order() -> None:
    stream = random.Random(1)
    trunks = [tokens(stream, 30) for _ in range(4)]
    given = [[[*trunk, *tokens(stream, 5)], [*trunk, *tokens(stream, 7)]] for trunk in trunks for _ in range(3)]
    found = [set(part) for part in pack(given, 110)]
    order = list(range(len(given)))
    stream.shuffle(order)
    again = [{order[number] for number in part} for part in pack([given[number] for number in order], 110)]
    assert again == found
    assert len(found) > 1
