"""The world's YAML keeps the promises that are made for it."""

from __future__ import annotations

import re

import pytest

from rlhi.world.files import Phrasings, phrasings, reactions
from rlhi.world.preferences import KINDS, dimensions, meaning, wishes

LABELS = ("reattempt_without_feedback", "positive_feedback", "other", "continuation")
CONDITIONAL = re.compile(r"^For [\w-]+: ")


def test_there_are_enough_dimensions_and_kinds():
    assert len(dimensions()) >= 10
    assert len(KINDS) >= 6
    assert all(2 <= len(d.values) <= 3 for d in dimensions().values())
    assert all(sum(d.priors.values()) <= 1 + 1e-9 for d in dimensions().values())


@pytest.mark.parametrize("label", LABELS)
def test_every_label_has_many_phrasings(label):
    sets: tuple[tuple[Phrasings, int], ...] = (("train", 40), ("test", 25))
    for which, least in sets:
        english, spanish = set(reactions(label, "en", which)), set(reactions(label, "es", which))
        assert len(english) >= least
        assert len(spanish) >= least // 2


def test_requests_and_complaints_have_many_phrasings():
    for which, least in (("train", 40), ("test", 25)):
        asked = phrasings("requests", which)
        texts = [text for kind in KINDS if kind != "arithmetic" for text in asked[kind]]
        texts += [text for texts_of in asked["arithmetic"].values() for text in texts_of]
        assert len(set(texts)) >= least
    for name, dimension in dimensions().items():
        for value in dimension.values:
            assert len(set(wishes(name, value, "en", "train"))) >= 5
            assert len(set(wishes(name, value, "en", "test"))) >= 4
            assert wishes(name, value, "es", "train")
            assert wishes(name, value, "es", "test")


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in leaves(branch)]
    return tree


@pytest.mark.parametrize("name", ["wishes", "statements", "requests"])
def test_test_phrasings_are_not_train_phrasings(name):
    train, test = ({text.lower() for text in leaves(phrasings(name, which))} for which in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize("label", [*LABELS, "hostile", "correct_number", "correct_fact", "wrap_change", "wrap_hostile"])
def test_test_reactions_are_not_train_reactions(label):
    for language in ("en", "es"):
        train, test = ({text.lower() for text in reactions(label, language, which)} for which in ("train", "test"))
        assert not train & test


def test_statements_mean_their_value():
    for which in ("train", "test"):
        for name, values in phrasings("statements", which).items():
            for value, texts in values.items():
                assert [meaning(text) for text in texts] == [(name, value)] * len(texts)
    for name, dimension in dimensions().items():
        for value, text in dimension.canonical.items():
            assert meaning(text) == (name, value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The user likes concise, brief responses.", ("length", "short")),
        ("Wants a thorough treatment with much detail.", ("length", "detailed")),
        ("Does not want any emoji.", ("emoji", "without")),
        ("Likes replies to use emojis 🙂", ("emoji", "with")),
        ("Expects measurements in kilometres.", ("units", "metric")),
        ("Would like a bulleted format.", ("format", "bullets")),
        ("Prefers to be answered in Spanish.", ("language", "spanish")),
        ("Do not close with a question.", ("closing", "without")),
        ("Has a dog.", None),
    ],
)
def test_other_wordings_are_read_by_their_key_words(text, said):
    assert meaning(text) == said
