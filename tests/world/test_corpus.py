"""What the embedded model is taught: the exact prompts of the package, answers of the right form."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import orjson
import pytest

from rlhi.feedback.label import Answer
from rlhi.personas.render import HEAD, TAIL
from rlhi.world.corpus import LIFE, SCHOOL, role_samples, samples
from rlhi.world.detect import detect
from rlhi.world.dialogue import Conversation
from rlhi.world.files import reactions
from rlhi.world.users import make_person


@pytest.fixture(scope="module")
def corpus():
    return list(itertools.islice(samples(3), 600))


def test_the_corpus_is_the_same_for_a_seed(corpus):
    assert list(itertools.islice(samples(3), 50)) == corpus[:50]
    assert list(itertools.islice(samples(4), 50)) != corpus[:50]


def test_chats_alternate_and_end_with_the_assistant(corpus):
    for sample in corpus:
        roles = [message.role for message in sample.messages if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message.role != "system" for message in sample.messages[1:])


def test_personas_are_rendered_as_the_package_renders_them(corpus):
    systems = [s.messages[0].content for s in corpus if s.messages[0].content.startswith(HEAD) and not s.last_only]
    assert len(systems) > 150
    for system in systems:
        head, *lines, tail = system.split("\n")
        assert (head, tail) == (HEAD, TAIL)
        assert lines
        assert all(line.startswith("- ") for line in lines)


def test_some_dialogues_have_no_persona(corpus):
    assert sum(s.messages[0].role == "user" for s in corpus) > 100


def test_at_school_wishes_are_met_more_often():
    def share(lesson):
        rng = Random(1)
        met = []
        for _ in range(80):
            person = make_person(rng)
            chat = Conversation(person, "train", rng, lesson.chat, tuple(person.preferences)).run()
            for exchange in chat:
                if exchange.request:
                    got = detect(exchange.reply, exchange.request)
                    met += [got[name] == value for name, value in exchange.wanted.items()]
        return sum(met) / len(met)

    assert share(SCHOOL) > 0.93
    assert 0.55 < share(LIFE) < 0.8


def test_no_phrasing_of_the_test_set_is_taught(corpus):
    said = Counter(m.content.lower() for s in corpus for m in s.messages if m.role == "user")
    for label in ("reattempt_without_feedback", "positive_feedback"):
        test = {text.lower() for text in reactions(label, "en", "test")}
        assert not test & said.keys()


def test_role_answers_have_the_form_that_the_package_reads():
    keys = {
        "label": {"label", "satisfaction", "confidence", "span"},
        "persona": {"statements"},
        "validity": {"applies"},
        "rubric": {"score"},
        "judge": {"verdict"},
    }
    found = role_samples(0, 12)
    assert Counter(role for role, _ in found) == dict.fromkeys(keys, 12)
    for role, sample in found:
        answer = orjson.loads(sample.messages[-1].content)
        assert answer.keys() == keys[role]
        if role == "label":
            assert Answer.model_validate(answer).span in sample.messages[1].content
        elif role == "rubric":
            assert 1 <= answer["score"] <= 10
        elif role == "judge":
            assert answer["verdict"] in ("A", "B", "tie")
        elif role == "persona":
            for line in answer["statements"]:
                assert all(f"{turn}: " in sample.messages[1].content for turn in line["evidence"])
