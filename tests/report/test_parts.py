"""The parts of the page: text, charts, warnings, tables."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from rlhi.evaluation.control import Difference
from rlhi.report import charts, text, views
from rlhi.report.arms import ArmMark, arms, headline, judges
from rlhi.report.data import LogCounts, ReportData, RoleUse, StageFacts
from rlhi.report.warnings import find_warnings
from tests.report.sample import curve, recipe, scores

VERDICT = {"sentence": "So.", "arm": "UGR+UBR + persona", "judge": "truth"}
BASE = ReportData(name="r", recipe=recipe().model_dump(mode="json"), scores=scores(), verdict=VERDICT)


@given(st.text(max_size=300), st.integers(0, 300), st.integers(0, 300), st.integers(1, 80))
def test_highlighting_adds_marks_and_loses_nothing(words: str, start: int, length: int, limit: int) -> None:
    span = words[start : start + length]
    whole = text.highlighted(words, span, limit=10_000)
    assert whole.replace(Markup("<mark>"), "").replace(Markup("</mark>"), "") == escape(words)
    cut = text.highlighted(words, span, limit=limit)
    if span:
        assert f"<mark>{escape(span[:limit])}</mark>" in cut
    shown = Markup(cut).striptags() if "<" not in words and "&" not in words else ""
    assert len(shown) <= limit + 60


def test_a_span_far_into_a_long_text_is_still_seen() -> None:
    shown = text.highlighted("x" * 5000 + " too long " + "y" * 5000, "too long", limit=100)
    assert "<mark>too long</mark>" in shown and shown.count('class="cut"') == 2
    assert shown.count("x") + shown.count("y") < 120


def test_text_that_is_not_in_the_message_is_not_marked() -> None:
    assert text.highlighted("a < b", "c") == "a &lt; b"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.44, "0.4 s"), (42, "42 s"), (135, "2 min 15 s"), (3600, "1 h 00 min"), (7322, "2 h 02 min")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert text.duration(seconds).replace("\u202f", " ") == words


def test_days_are_told_from_counters() -> None:
    assert text.date("2025-03-07T09:11:00+00:00") == "2025-03-07"
    assert text.date("1970-01-01T00:00:17+00:00") == text.date(None) == "undated"


def test_ids_stay_distinct() -> None:
    assert text.short("programmer-12") == "programmer-12"
    assert text.short("0123456789abcdef0123456789abcdef") == "0123456789ab…"


def test_the_first_sentence_is_told_from_the_rest() -> None:
    first, rest = text.sentences("A wins 72.4 % (66.9–77.9 %) of 9. The gain is personal. So.")
    assert first.replace("\u202f", " ") == "A wins 72.4 % (66.9–77.9 %) of 9."
    assert rest == "The gain is personal. So."
    assert text.sentences("One only") == ("One only", "")


def test_code_in_warnings_is_set_as_code_and_escaped() -> None:
    assert text.with_code("a `<b>` c") == "a <code>&lt;b&gt;</code> c"
    assert text.with_code("a ` <b>") == "a ` &lt;b&gt;"


def test_the_axis_holds_every_interval_and_is_even_around_50() -> None:
    for rows in (scores(), scores()[:1], []):
        low, high = charts.reach(rows)
        assert low + high == 100 and low >= 0
        assert all(low <= 100 * s.low and 100 * s.high <= high for s in rows)


def test_the_chart_of_arms_holds_each_interval_once() -> None:
    marks = arms(BASE)
    spec = charts.arms_chart(scores(), marks, "truth", "overall", (10, 90))
    assert spec
    rows = {(row["arm"], row["slot"]): row for row in spec["data"]["values"]}
    assert len(rows) == 5 * 3
    row = rows["UGR+UBR + persona", "Initial turns"]
    assert (row["rate"], row["low"], row["high"]) == pytest.approx((70.3, 62.5, 78.1))
    assert [row["control"] for key, row in rows.items() if key[0] == "wrong persona"] == [True] * 3
    assert not any(row["control"] for key, row in rows.items() if key[0] != "wrong persona")
    assert charts.arms_chart(scores(), marks, "nobody", "overall", (10, 90)) is None


def test_curves_are_thinned_to_a_bound_that_keeps_the_end() -> None:
    curves = {f"ugr/seed-{seed}": curve(seed, 1.0, steps=5000) for seed in range(30)}
    spec = charts.curve_chart(curves, "loss")
    assert spec
    values = spec["data"]["values"]
    assert len(values) <= charts.MAX_POINTS * 1.1
    for name in curves:
        assert max(row["step"] for row in values if row["run"] == name) == 5000
    assert charts.curve_chart({"sft/seed-0": [{"step": 1, "loss": 1.0}]}, "margin") is None


def test_arms_are_told_apart_by_what_they_see_and_learn() -> None:
    assert arms(BASE)[:3] == [
        ArmMark("base", "untrained", against=False),
        ArmMark("base + persona", "untrained", against=True),
        ArmMark("UGR + persona", "trained", against=False),
    ]
    assert arms(BASE)[-1] == ArmMark("wrong persona", "control", against=False)


def test_the_truth_comes_first_and_statistics_last() -> None:
    row = scores()[0]
    rows = [row.model_copy(update={"judge": judge}) for judge in ("likelihood", "gpt", "truth", "claude")]
    assert judges(rows) == judges(rows[::-1]) == ["truth", "claude", "gpt", "likelihood"]


def test_the_headline_is_the_score_that_the_verdict_names() -> None:
    named = headline(dataclasses.replace(BASE, verdict={"arm": "UBR + persona", "judge": "likelihood"}))
    assert named and (named.arm, named.judge, named.turns, named.dimension) == (
        "UBR + persona", "likelihood", "all", "overall",
    )  # fmt: skip
    for verdict in ({}, {"arm": "gone", "judge": "truth"}, {"outcome": "no_scores"}):
        assert headline(dataclasses.replace(BASE, verdict=verdict)) is None


def _with_roles(policy: str, model: str, judges: list[str], *, world: bool) -> ReportData:
    settings = recipe().model_dump(mode="json")
    settings["roles"]["policy"], settings["training"]["model"] = policy, model
    settings["evaluation"]["judges"] = judges
    settings["models"] = {"server": {"model": "meta-llama/Llama-3.1-8B-Instruct"}}
    logs = LogCounts(conversations=5, from_world=world)
    return ReportData(name="r", recipe=settings, logs=logs, pair_counts={"ugr": 1})


@pytest.mark.parametrize(
    ("policy", "model", "judges", "world", "warned"),
    [
        ("local", "embedded", ["likelihood"], False, True),
        ("embedded", "some/hub-model", ["likelihood"], False, True),
        ("local", "embedded", ["likelihood"], True, False),
        ("local", "embedded", ["truth"], False, False),
        ("local", "some/hub-model", ["likelihood"], False, False),
        ("server", "embedded", ["likelihood"], False, False),
    ],
)
def test_the_embedded_model_on_real_logs_is_warned_of(
    policy: str, model: str, judges: list[str], world: bool, warned: bool
) -> None:
    found = find_warnings(_with_roles(policy, model, judges, world=world))
    assert any("Its prose is of no use here" in warning for warning in found) == warned


def test_a_model_that_has_not_answered_yet_is_not_warned_of() -> None:
    data = _with_roles("local", "embedded", ["likelihood"], world=False)
    assert not find_warnings(dataclasses.replace(data, pair_counts={}))


def _warned(words: str, **change: object) -> bool:
    return any(words in warning for warning in find_warnings(dataclasses.replace(BASE, **change)))  # type: ignore[arg-type]


def test_weak_judges_controls_seeds_users_and_lengths_are_warned_of() -> None:
    truth = scores(("truth",))
    weak = [s.model_copy(update={"judge": "likelihood"}) for s in truth]
    assert _warned("The only judge is `likelihood`", scores=weak)
    assert not _warned("likelihood", scores=truth)
    assert not _warned("control", scores=truth)
    assert _warned("One seed only", scores=[s.model_copy(update={"seeds": (3,)}) for s in truth])
    assert _warned("Only 4 users", scores=[s.model_copy(update={"users": 4}) for s in truth])
    assert _warned("longer", scores=[s.model_copy(update={"length": 80.0}) for s in truth])
    assert not _warned("length alone", scores=[s.model_copy(update={"length": 55.0}) for s in truth])
    assert _warned("2 of 9 rows failed", funnel=[StageFacts("labels", rows_in=9, failed=2)])
    assert _warned("50\u202f% of the records", quarantined={"bad_json": 3}, logs=LogCounts(conversations=3))


@pytest.mark.parametrize(("low", "high", "found", "warned"), [
    (0.2, 0.3, 0.25, False), (0.02, 0.14, 0.08, True), (-0.03, 0.05, 0.01, True), (-0.2, 0.3, 0.01, False),
])  # fmt: skip
def test_a_gain_that_survives_its_control_is_warned_of(low: float, high: float, found: float, warned: bool) -> None:
    row = Difference(
        arm="UGR+UBR + persona", control="wrong persona", against="base + persona", judge="truth", win_rate=0.724,
        control_win_rate=0.724 - found, difference=found, low=low, high=high, n=960, users=36,
    )  # fmt: skip
    assert _warned("judged by truth: what is won", differences=[row]) == warned
    lost = [s.model_copy(update={"low": 0.4}) for s in scores()]
    assert not _warned("what is won", scores=lost, differences=[row])


def test_parts_of_one_step_are_added_up() -> None:
    parts = [
        StageFacts("labels", rows_in=5, rows_out=9, seconds=1.0),
        StageFacts("replies/a-seed-0", 4, 3, {"x": 1}, 0, seconds=2.0, calls={"policy": RoleUse(4, 1, 10, 20)}),
        StageFacts("replies/a-seed-1", 4, 2, {"x": 1}, 1, seconds=3.0, calls={"policy": RoleUse(3, 0, 10, 20)}),
    ]
    one, replies = views.grouped(parts)
    assert one.stage == "labels" and replies.stage == "replies (2 parts)"
    assert (replies.rows_in, replies.rows_out, replies.dropped, replies.failed) == (8, 5, {"x": 2}, 1)
    assert replies.seconds == 5.0 and replies.calls == {"policy": RoleUse(7, 1, 20, 40)}
    assert views.kept(replies) == 5
    trained = views.grouped([StageFacts(f"model/ugr/seed-{n}", 9, 6, {"too_long": 1}, held_out=2) for n in (0, 1)])[0]
    assert trained.held_out == 4 and views.kept(trained) == trained.rows_out == 12
