"""Which turns are evaluated, and with whose persona."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.evaluation.turns import EvalTurn, request_key, select, trained_requests
from rlhi.evaluation.wrong import WrongPersonas, overlap
from rlhi.personas.render import prompt
from rlhi.records import (
    ChatMessage,
    Conversation,
    Dropped,
    Label,
    LabelledTurn,
    PersonaCard,
    PreferencePair,
    Provenance,
)
from rlhi.settings import Evaluation
from tests.evaluation.material import card, conversation, label


def run(
    conversations: list[Conversation],
    labels: list[LabelledTurn] = [],  # noqa: B006
    cards: list[PersonaCard] = [],  # noqa: B006
    **changes: object,
) -> tuple[list[EvalTurn], list[Dropped]]:
    facts: dict[str, object] = {"seed": 7, "trained": set(), "persona_tokens": 100, "prompt_tokens": 200}
    rest = {key: changes.pop(key) for key in list(changes) if key in facts}
    evaluation = Evaluation.model_validate(changes)
    return select(conversations, labels, cards, evaluation, count=lambda t: len(t.split()), **(facts | rest))  # type: ignore[arg-type]


def reasons(dropped: list[Dropped]) -> dict[str, str]:
    return {row.about: row.reason for row in dropped}


def test_every_message_of_a_heldout_conversation_is_a_turn_or_a_drop_with_its_reason() -> None:
    said = ["egg?", "in grams", "thanks", "hm", "a poem", "more", "unlabelled"]
    kinds: list[Label] = ["reattempt_with_feedback", "positive_feedback", "other", "new_request", "continuation"]
    labels = [label("c", place + 1, kind) for place, kind in enumerate(kinds)]
    turns, dropped = run([conversation("c", "u", said)], labels)
    assert [(t.turn, t.kind, t.label) for t in turns] == [
        (0, "initial", "new_request"),
        (1, "follow_up", "reattempt_with_feedback"),
        (4, "follow_up", "new_request"),
        (5, "follow_up", "continuation"),
    ]
    about = "turn {} of conversation c".format
    assert reasons(dropped) == {about(2): "asks_nothing", about(3): "asks_nothing", about(6): "no_label"}
    assert turns[1].context[-1] == ChatMessage(role="user", content="in grams")
    assert len(turns[1].context) == 3


def test_later_feedback_ends_where_the_user_asks_for_something_else() -> None:
    labels = [
        label("c", 1, "reattempt_with_feedback"),
        label("c", 2, "positive_feedback"),
        label("c", 3, "new_request"),
    ]
    turns, _ = run([conversation("c", "u", ["egg?", "in grams", "thanks", "a poem"])], labels)
    assert [t.later_feedback for t in turns] == [("in grams", "thanks"), ("thanks",), ()]


def test_no_policy_ever_sees_later_feedback_or_the_logged_reply() -> None:
    labels = [label("c", 1, "reattempt_with_feedback")]
    turns, _ = run(
        [conversation("c", "u", ["egg?", "in grams"])], labels, [card("u", ["Is brief."], "c"), card("v", ["Rhymes."])]
    )
    for lines in ((), turns[0].own, turns[0].wrong):
        seen = "\n".join(m.content for m in prompt(lines, turns[0].context))
        assert "grams" not in seen and "Re:" not in seen


def test_splits() -> None:
    rows = [conversation(s, s, ["x " + s], s) for s in ("train", "later", "history", "heldout", "apart")]
    assert [t.split for t in run(rows)[0]] == ["heldout"]
    assert {t.split for t in run(rows, include_later=True)[0]} == {"heldout", "later"}


def test_the_card_is_the_one_from_before_the_conversation() -> None:
    cards = [
        card("u", [], "c1", 0),
        card("u", ["Is brief."], "c2", 1),
        card("u", ["Is brief.", "Likes rhymes."], "", 2),
        card("v", ["Wants Spanish."], ""),
    ]
    turns, _ = run([conversation("c1", "u", ["one"]), conversation("c2", "u", ["two"])], [], cards)
    assert [t.own for t in turns] == [(), ("Is brief.",)]
    assert [t.flags for t in turns] == [("no_persona",), ()]
    assert [(t.wrong_user, t.wrong) for t in turns] == [("v", ("Wants Spanish.",))] * 2


def test_requests_that_were_trained_on_are_left_out_in_context_and_alone() -> None:
    said = ["egg?", "in grams", "a poem"]
    labels = [label("c", 1, "reattempt_with_feedback"), label("c", 2, "new_request")]
    rows = [conversation("c", "u", said)]

    def seen(*texts: str) -> list[int]:
        messages = tuple(ChatMessage(role="user", content=t) for t in texts)
        return [t.turn for t in run(rows, labels, trained=trained_requests([_pair(messages)]))[0]]

    assert seen("  EGG? ") == [1, 2]
    assert seen("another", "egg?") == [1, 2]
    assert seen("egg?", "In  grams") == [0, 2]
    assert seen("in grams") == [0, 1, 2]
    assert seen("a poem") == [0, 1]
    assert seen("egg? again") == [0, 1, 2]


def _pair(messages: tuple[ChatMessage, ...]) -> PreferencePair:
    why = Provenance(
        label="new_request",
        span="",
        feedback="",
        logged_reply="",
        persona_version=0,
        prompts="",
        models="",
        chosen_score=1,
        rejected_score=0,
        candidates=2,
    )
    side = (ChatMessage(role="assistant", content="yes"),)
    system = ChatMessage(role="system", content="persona")
    return PreferencePair(
        pair_id="p",
        prompt=(system, *messages),
        chosen=side,
        rejected=side,
        user_id="t",
        conversation_id="t",
        turn=0,
        source="ubr",
        weight=1,
        provenance=why,
    )


def test_request_key_ignores_replies_case_and_spacing_but_no_word() -> None:
    def key(*texts: str) -> str:
        return request_key(
            [ChatMessage(role="user" if i % 2 == 0 else "assistant", content=t) for i, t in enumerate(texts)]
        )

    assert key("An egg", "reply", "In grams") == key("an  EGG\n", "other reply", "in grams")
    assert key("an egg", "r", "in grams") != key("in grams")
    assert key("ab", "r", "c") != key("a", "r", "bc")


def test_too_long_prompts_are_dropped_counting_the_longer_persona() -> None:
    rows = [conversation("c", "u", ["one two three"])]
    cards = [card("u", ["Brief."], "c"), card("v", ["Wants a great many words in every one of the answers."])]
    assert run(rows, [], cards, prompt_tokens=20)[0] == []
    assert run(rows, [], cards, prompt_tokens=20)[1][0].reason == "prompt_too_long"
    assert len(run(rows, [], cards, prompt_tokens=60)[0]) == 1


@pytest.mark.parametrize(("initial", "follow_up", "most", "expected"), [
    (20, 20, 10, (5, 5)),
    (2, 20, 10, (2, 8)),
    (20, 3, 10, (7, 3)),
    (20, 20, 7, (4, 3)),
    (2, 3, 10, (2, 3)),
    (0, 9, 4, (0, 4)),
    (5, 5, 1, (1, 0)),
])  # fmt: skip
def test_both_kinds_in_equal_parts_as_far_as_there_are(
    initial: int, follow_up: int, most: int, expected: tuple[int, int]
) -> None:
    rows, labels = [], []
    for number in range(max(initial, follow_up)):
        name = f"c{number}"
        rows.append(conversation(name, f"u{number}", [f"first {number}", f"then {number}"]))
        if number < follow_up:
            labels.append(label(name, 1, "continuation"))
    trained = {request_key(row.context(0)) for row in rows[initial:]}
    turns, dropped = run(rows, labels, trained=trained, max_turns=most)
    counts = Counter(t.kind for t in turns)
    assert (counts["initial"], counts["follow_up"]) == expected
    assert Counter(d.reason for d in dropped)["not_drawn"] == initial + follow_up - sum(expected)


def test_turns_are_spread_over_users() -> None:
    rows = [conversation(f"a{i}", "busy", [f"a {i}"]) for i in range(50)]
    rows += [conversation(f"b{i}", f"u{i}", [f"b {i}"]) for i in range(5)]
    counts = Counter(t.user_id for t in run(rows, max_turns=8)[0])
    assert counts == {"busy": 3, **{f"u{i}": 1 for i in range(5)}}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_the_order_of_the_input_decides_nothing(shuffle: int, most: int) -> None:
    rows = [conversation(f"c{i}", f"u{i % 4}", [f"first {i}", f"then {i}"]) for i in range(10)]
    labels = [label(f"c{i}", 1, "continuation" if i % 3 else "other") for i in range(10)]
    cards = [card(f"u{u}", [f"Likes {u}."], before) for u in range(4) for before in ("", *(f"c{i}" for i in range(10)))]
    plain = run(rows, labels, cards, max_turns=most)
    draw = random.Random(shuffle)
    for table in (rows, labels, cards):
        draw.shuffle(table)
    assert run(rows, labels, cards, max_turns=most) == plain


def test_another_seed_draws_others() -> None:
    rows = [conversation(f"c{i}", f"u{i}", [f"first {i}"]) for i in range(40)]
    drawn = [{t.conversation_id for t in run(rows, seed=seed, max_turns=10)[0]} for seed in (1, 2)]
    assert drawn[0] != drawn[1]


@given(
    st.dictionaries(st.sampled_from("abcdefghij"), st.lists(st.sampled_from("PQRS"), max_size=3)), st.integers(0, 99)
)
def test_a_wrong_persona_is_anothers_never_empty_never_equal(lines: dict[str, list[str]], seed: int) -> None:
    pool = WrongPersonas(lines, seed)
    for user, own in lines.items():
        other, wrong = pool.for_user(user, own)
        others = [set(v) for u, v in lines.items() if u != user and v and set(v) != set(own)]
        assert bool(other) == bool(others)
        if other:
            assert other != user and list(wrong) == lines[other] and set(wrong) != set(own)
            assert overlap(own, wrong) == min(overlap(own, list(o)) for o in others) or len(others) > 8


def test_wrong_personas_spread_over_users() -> None:
    lines = {f"u{i}": [f"Likes {i}."] for i in range(30)}
    pool = WrongPersonas(lines, 3)
    assert len({pool.for_user(user, own)[0] for user, own in lines.items()}) > 10


def test_another_seed_gives_another_wrong_persona_and_other_users_of_no_card_change_nothing() -> None:
    lines = {f"u{i}": [f"Likes {i}."] for i in range(30)}
    first = {user: WrongPersonas(lines, 1).for_user(user, own) for user, own in lines.items()}
    assert first != {user: WrongPersonas(lines, 2).for_user(user, own) for user, own in lines.items()}
    backwards = dict(reversed([*lines.items(), *((f"v{i}", []) for i in range(9))]))
    assert first == {user: WrongPersonas(backwards, 1).for_user(user, own) for user, own in lines.items()}
