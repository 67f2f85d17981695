"""The truth, read back: scores, matches in time, and the figures drawn from them."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

import orjson
import pytest

from rlhi.errors import UsageError
from rlhi.flow.folder import RunFolder
from rlhi.flow.table import write_rows
from rlhi.records import LabelledTurn, PersonaCard, Statement, TurnRef
from rlhi.world.measure import label_quality, measure_run, persona_quality
from rlhi.world.preferences import CONDITIONS, condition_kind, dimensions
from rlhi.world.score import combined
from rlhi.world.simulate import write_world
from rlhi.world.truth import Truth
from rlhi.world.writer import default_language, prior_style, render

MONDAY = datetime.fromisoformat("2025-01-06T00:00:00+00:00")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    write_world(out, users=25, seed=4)
    return Truth(out)


def test_a_reply_that_meets_all_is_worth_one_and_a_wrong_style_less(truth):
    rng = Random(0)
    scored = [turn for turn in truth.turns.values() if turn.request and len(turn.wanted) >= 2]
    assert len(scored) > 200
    for turn in scored:
        place = turn.conversation_id, turn.turn
        style = prior_style(turn.request, rng) | {"language": default_language(turn.request)} | turn.wanted
        best = truth.score(*place, render(turn.request, style, rng))
        assert (best.personalization, best.instruction_following, best.overall) == (1, 1, 1)
        low, high = best.wanted_words
        assert low <= best.words <= high
        name = rng.choice([name for name in turn.wanted if name != "language"] or [None])
        if name:
            other = next(value for value in dimensions()[name].values if value != turn.wanted[name])
            worse = truth.score(*place, render(turn.request, {**style, name: other}, rng))
            assert worse.personalization == pytest.approx(1 - 1 / len(turn.wanted))
            assert worse.overall < best.overall


def test_the_worth_puts_correctness_before_style():
    assert combined(1, 1) == 1
    assert combined(0, 1) == pytest.approx(1 / 3)
    assert combined(1, 0) == 0
    assert combined(0.5, 1) == pytest.approx(2 / 3)
    assert combined(1, 0.5) == pytest.approx(0.5)


def test_what_asks_nothing_and_what_is_unknown_has_no_score(truth):
    silent = [turn for turn in truth.turns.values() if turn.label in ("positive_feedback", "other")]
    assert silent
    assert all(truth.score(turn.conversation_id, turn.turn, "You're welcome!") is None for turn in silent)
    assert truth.score("no such conversation", 0, "Hello") is None
    assert truth.label("no such conversation", 1) is None


def test_first_messages_have_no_label(truth):
    for conversation_id, turn in truth.turns:
        assert (truth.label(conversation_id, turn) is None) == (turn == 0)


def write_truth(folder, held):
    folder.mkdir()
    account = {"user_id": "u", "persons": [held]}
    (folder / "users.jsonl").write_bytes(orjson.dumps(account) + b"\n")
    turn = {
        "conversation_id": "c", "turn": 1, "user_id": "u", "person": 0, "at": (MONDAY + timedelta(hours=1)).isoformat(),
        "label": "reattempt_with_feedback", "satisfaction": 2, "request": None, "wanted": {},
        "named": [{"dimension": "length", "value": "short", "condition": None}], "mistaken": False, "changed": False,
    }  # fmt: skip
    (folder / "turns.jsonl").write_bytes(orjson.dumps(turn) + b"\n")
    return Truth(folder)


def wish(dimension, value, condition=None, since=MONDAY, until=None):
    return {
        "dimension": dimension, "value": value, "condition": condition, "since": since.isoformat(),
        "until": until.isoformat() if until else None,
    }  # fmt: skip


def test_statements_are_held_against_what_the_user_wants_just_then(tmp_path):
    friday = MONDAY + timedelta(days=4)
    held = [
        wish("length", "short", until=friday),
        wish("length", "detailed", since=friday),
        wish("format", "numbered", "recipe"),
        wish("comments", "with", "code"),
    ]
    truth = write_truth(tmp_path / "truth", held)
    before, after = MONDAY + timedelta(days=1), friday + timedelta(days=1)
    assert truth.matches("u", "Prefers short answers.", "", before) == "right"
    assert truth.matches("u", "Prefers short answers.", "", after) == "wrong"
    assert truth.matches("u", "Likes things in detail", "", after) == "right"
    assert truth.matches("u", "Prefers short answers.", "recipes", before) == "right"
    assert truth.matches("u", "Prefers numbered lists.", "recipes", before) == "right"
    assert truth.matches("u", "Prefers numbered lists.", "", before) == "wrong"
    assert truth.matches("u", "Prefers numbered lists.", "travel", before) == "wrong"
    assert truth.matches("u", "Wants comments in code.", "", before) == "right"
    assert truth.matches("u", "Prefers emojis.", "", before) == "wrong"
    assert truth.matches("u", "Owns two cats.", "", before) == "unknown"
    assert truth.matches("u", "Prefers short answers.", "Sundays", before) == "unknown"
    assert [p.value for p in truth.voiced("u", before)] == ["short"]
    assert truth.voiced("u", after) == []
    assert truth.voiced("u", MONDAY) == []
    with pytest.raises(KeyError):
        truth.preferences("nobody", before)


def test_conditions_are_read_back():
    for kind, names in CONDITIONS.items():
        assert condition_kind(names["en"]) == kind
        assert condition_kind(names["es"]) == kind


def test_a_missing_or_broken_truth_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"turns\.jsonl is missing"):
        Truth(tmp_path)
    (tmp_path / "turns.jsonl").write_text("{")
    with pytest.raises(UsageError, match="line 1"):
        Truth(tmp_path)


def label(turn, said, satisfaction=2):
    return LabelledTurn(
        conversation_id=turn.conversation_id, turn=turn.turn, user_id=turn.user_id, label=said,
        satisfaction=satisfaction, confidence=1, span="", labeler="test",
    )  # fmt: skip


def test_label_quality_is_macro_f1(truth):
    after = [turn for turn in truth.turns.values() if turn.turn]
    perfect = label_quality([label(turn, turn.label, turn.satisfaction) for turn in after], truth)
    assert (perfect.macro_f1, perfect.satisfaction_error, perfect.n) == (1, 0, len(after))
    thanks = [turn for turn in after if turn.label == "positive_feedback"][:6]
    other = [turn for turn in after if turn.label == "other"][:2]
    given = [label(turn, "positive_feedback" if place < 3 else "other") for place, turn in enumerate(thanks)]
    given += [label(turn, "other") for turn in other]
    quality = label_quality(given, truth)
    # thanks: 3 of 6 found, none too many: 2*3/(3+6); other: 2 of 2 found, 3 too many: 2*2/(5+2)
    assert quality.f1 == {"positive_feedback": pytest.approx(2 / 3), "other": pytest.approx(4 / 7)}
    assert quality.macro_f1 == pytest.approx((2 / 3 + 4 / 7) / 2)


def card(*lines, before=""):
    statements = tuple(
        Statement(
            text=text,
            condition=condition,
            confidence=1,
            evidence=(TurnRef(conversation_id="c", turn=1),),
            learnt_at=None,
        )
        for text, condition in lines
    )
    at = (MONDAY + timedelta(days=2)).isoformat()
    return PersonaCard(user_id="u", version=1, as_of=at, before=before, statements=statements)


def test_persona_quality_counts_right_wrong_and_missing(tmp_path):
    truth = write_truth(tmp_path / "truth", [wish("length", "short"), wish("format", "numbered", "recipe")])
    given = card(("Prefers short answers.", ""), ("Prefers emojis.", ""), ("Owns two cats.", ""))
    quality = persona_quality([given], truth)
    assert (quality.precision, quality.recall, quality.recall_voiced) == (0.5, 0.5, 1.0)
    assert (quality.unknown, quality.statements, quality.cards) == (1, 3, 1)
    assert persona_quality([card(("Prefers numbered lists.", "recipes"))], truth).recall == 0.5
    assert persona_quality([card(("Prefers numbered lists.", ""))], truth).recall == 0


def test_a_run_is_measured_by_its_last_cards(tmp_path):
    write_truth(tmp_path / "truth", [wish("length", "short")])
    folder = RunFolder(tmp_path / "run")
    folder.save_recipe({})
    said = LabelledTurn(
        conversation_id="c", turn=1, user_id="u", label="reattempt_with_feedback", satisfaction=2, confidence=1,
        span="", labeler="test",
    )  # fmt: skip
    write_rows(folder.rows_path("labels"), LabelledTurn, [said])
    cards = [card(("Prefers emojis.", ""), before="c"), card(("Prefers short answers.", ""))]
    write_rows(folder.rows_path("personas"), PersonaCard, cards)
    found = measure_run(tmp_path / "run", tmp_path / "truth")
    assert found["labels"]["macro_f1"] == 1
    assert found["labels"]["confusion"] == {"reattempt_with_feedback/reattempt_with_feedback": 1}
    assert (found["personas"]["precision"], found["personas"]["recall"]) == (1, 1)
    assert orjson.dumps(found)
