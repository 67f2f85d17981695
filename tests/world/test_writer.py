"""What the writer writes, the detectors read."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.world.detect import SHORT_WORDS, correctness, detect, words
from rlhi.world.preferences import KINDS, dimensions
from rlhi.world.requests import Request, ask, continued, go_on, sample, topics
from rlhi.world.writer import prior_style, render


@st.composite
def styled_requests(draw):
    rng = Random(draw(st.integers(0, 2**32)))
    request = sample(draw(st.sampled_from(KINDS)), rng)
    style = prior_style(request, rng)
    for name in style:
        style[name] = draw(st.sampled_from(dimensions()[name].values))
    return request, style, rng


@settings(max_examples=300, deadline=None)
@given(styled_requests())
def test_every_style_can_be_written_and_is_read_back(case):
    request, style, rng = case
    reply = render(request, style, rng)
    assert detect(reply, request) == style
    assert correctness(reply, request, style) == 1


@settings(max_examples=200, deadline=None)
@given(styled_requests())
def test_a_mistake_costs_correctness_and_no_style(case):
    request, style, rng = case
    reply = render(request, style, rng, mistake=True)
    assert correctness(reply, request, style) < 1
    assert {k: v for k, v in detect(reply, request).items() if k != "expertise"} == {
        k: v for k, v in style.items() if k != "expertise"
    }


def test_nothing_and_noise_are_right_in_nothing():
    rng = Random(3)
    for kind in KINDS:
        request = sample(kind, rng)
        for reply in ("", "la la la", "I am a teapot and I do not know of this."):
            assert correctness(reply, request, {}) == 0


def test_a_reply_to_another_topic_is_wrong():
    rng = Random(5)
    for kind in ("explanation", "travel", "list", "spanish", "email", "code", "recipe"):
        one, other = (
            Request(kind, topic, {"people": 2, "days": 3, "month": "May"}) for topic in sorted(topics(kind))[:2]
        )
        assert correctness(render(other, prior_style(other, rng), rng), one, {}) <= 0.5


def test_repeating_a_fact_does_not_pay():
    request = Request("explanation", "gravity")
    once = "Heavier bodies pull harder than light ones."
    assert correctness(once, request, {}) == 1
    assert correctness(f"{once} {once} {once} {once}", request, {}) == 0.25


def test_a_reply_in_a_language_nobody_asked_for_is_half_as_right():
    request = Request("travel", "rome")
    reply = render(request, {"language": "spanish"}, Random(0))
    assert correctness(reply, request, {}) == 0.5
    assert correctness(reply, request, {"language": "spanish"}) == 1


@pytest.mark.parametrize(
    ("topic", "answer"), [("boxes_add", 4 * 7 + 5), ("boxes_sub", 4 * 7 - 5), ("sum_sub", 4 + 7 - 5)]
)
def test_arithmetic_is_checked_exactly(topic, answer):
    request = Request("arithmetic", topic, {"a": 4, "b": 7, "c": 5, "name": "Anna", "item": "pens"})
    assert request.answer == answer
    assert correctness(f"Sure! The answer is {answer}. Shall I go on?", request, {}) == 1
    assert correctness(f"{answer}", request, {}) == 1
    assert correctness(f"The answer is {answer + 1}.", request, {}) == 0
    assert correctness(f"{answer} - 1 = {answer - 1}. The answer is {answer - 1}.", request, {}) == 0


def test_the_amounts_of_a_recipe_are_checked():
    request = Request("recipe", "carbonara", {"people": 4})
    right = render(request, {"units": "metric", "length": "short"}, Random(0))
    assert "400 g of spaghetti" in right
    assert correctness(right, request, {}) == 1
    assert correctness(right.replace("400", "450"), request, {}) < 1


def test_numbers_of_a_list_are_no_words():
    assert words("1. one two\n2. three") == 3
    assert words("It's 2.5 km") == 3


def test_length_is_read_at_its_border():
    request = Request("list", "snacks")
    assert detect("word " * SHORT_WORDS, request)["length"] == "short"
    assert detect("word " * (SHORT_WORDS + 1), request)["length"] == "detailed"


def test_requests_rarely_repeat():
    rng = Random(1)
    texts = [ask(sample(kind, rng), rng, "test") for kind in KINDS for _ in range(250)]
    assert len(set(texts)) > 0.75 * len(texts)


def test_a_continuation_asks_for_something_else_of_the_kind():
    rng = Random(2)
    for kind in KINDS:
        for _ in range(50):
            request = sample(kind, rng)
            after = continued(request, rng)
            assert after.kind == kind
            assert (after.topic, after.params) != (request.topic, request.params)
            assert go_on(after, "en", rng, "train")
