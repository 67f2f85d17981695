"""The local labeler on any text: verbatim spans, calibrated range, no dependence on the batch."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.feedback import local
from rlhi.feedback.clauses import clauses
from rlhi.feedback.features import CONTEXT_FEATURES, Exchange, common_words, features
from rlhi.feedback.hashing import Text, bags, normalise
from rlhi.feedback.taxonomy import EVIDENT, LABELS

TEXT = st.text(max_size=120) | st.sampled_from(
    ["too long, make it shorter", "Thanks! But why?", "不对，再试一次", "```code```", "\n\n", "No.\nIt's 42, not 41."]
)
EXCHANGES = st.lists(st.builds(Exchange, request=TEXT, reply=TEXT, message=TEXT, earlier=TEXT), max_size=5)


@settings(deadline=None, max_examples=60)
@given(EXCHANGES)
def test_spans_are_verbatim_and_numbers_in_range(exchanges: list[Exchange]) -> None:
    for exchange, found in zip(exchanges, local.load().label(exchanges), strict=True):
        assert found.label in LABELS
        assert found.span in exchange.message
        assert bool(found.span) <= (found.label in EVIDENT)
        assert bool(found.span) or found.label not in EVIDENT
        assert 1 <= found.satisfaction <= 5
        assert 0 <= found.confidence <= 1


@settings(deadline=None, max_examples=30)
@given(EXCHANGES)
def test_a_message_is_labelled_alike_alone_and_in_a_batch(exchanges: list[Exchange]) -> None:
    labeler = local.load()
    together = labeler.label(exchanges)
    for exchange, found in zip(exchanges, together, strict=True):
        alone = labeler.label([exchange])[0]
        assert abs(alone.confidence - found.confidence) < 1e-4


@settings(deadline=None, max_examples=60)
@given(TEXT)
def test_clauses_are_verbatim(message: str) -> None:
    assert all(piece and piece in message for piece in clauses(message))


def test_code_is_no_clause() -> None:
    assert clauses("Fix this:\n```\nprint(1)\n```\nThanks.") == ["Fix this:", "Thanks."]


def test_a_message_without_words_is_other() -> None:
    found = local.load().label([Exchange("Hi", "Hello", "  \n ")])[0]
    assert (found.label, found.satisfaction, found.span) == ("other", 3, "")


def test_bags_hold_the_same_grams_whatever_stands_beside() -> None:
    def buckets(texts: list[str], place: int) -> list[int]:
        text = Text.of([normalise(said) for said in texts])
        found = bags(text, text.tokens(), 1 << 15)
        return sorted(found.ids[found.starts[place] : found.starts[place + 1]].tolist())

    assert buckets(["", "No, shorter!", "x"], 1) == buckets(["No,  SHORTER!"], 0)
    assert buckets(["", "a"], 0) == buckets([""], 0)


def test_context_features_measure_repetition() -> None:
    common = common_words(["please tell me about it", "tell me about that please"], 3)
    same = Exchange("Tell me about volcanoes", "They erupt.", "tell me about volcanoes")
    other = Exchange("Tell me about volcanoes", "They erupt.", "Tell me about Mozart")
    table = features([same, other], common).context
    column = dict(zip(CONTEXT_FEATURES, table.T.tolist(), strict=True))
    assert column["same_as_request"] == [1.0, 0.0]
    assert column["dice_request"][0] == 1.0 > column["dice_request"][1]
    assert column["topic_before"] == [1.0, 0.0]
