"""A written world: complete, the same for a seed, and silent about its truth."""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from random import Random
from typing import get_args

import orjson
import pytest

from rlhi.errors import UsageError
from rlhi.records import Label
from rlhi.world.detect import detect
from rlhi.world.dialogue import Conversation
from rlhi.world.preferences import Preference, dimensions, wanted
from rlhi.world.simulate import write_world
from rlhi.world.truth import Truth
from rlhi.world.users import make_person, quirk
from rlhi.world.wildchat import language_name

COLUMNS = {
    "conversation_hash", "model", "timestamp", "conversation", "turn", "language", "openai_moderation",
    "detoxify_moderation", "toxic", "redacted", "state", "country", "hashed_ip", "header",
}  # fmt: skip
MESSAGE = {
    "role", "content", "timestamp", "language", "toxic", "redacted", "hashed_ip", "turn_identifier", "country", "state",
    "header",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    return write_world(out, users=25, seed=4)


def rows(world):
    return [
        orjson.loads(line)
        for path in sorted((world.out / "logs").iterdir())
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]


def test_logs_have_the_columns_of_wildchat(world):
    found = rows(world)
    assert len(found) == world.conversations
    for row in found:
        assert set(row) == COLUMNS
        assert len(row["conversation"]) == 2 * row["turn"] == len(row["openai_moderation"])
        assert all(set(message) == MESSAGE for message in row["conversation"])
        assert [m["role"] for m in row["conversation"]] == ["user", "assistant"] * row["turn"]
        assert row["timestamp"] == row["conversation"][-1]["timestamp"]
        times = [m["timestamp"] for m in row["conversation"][1::2]]
        assert times == sorted(times)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world, tmp_path):
    again = write_world(tmp_path / "again", users=25, seed=4)
    other = write_world(tmp_path / "other", users=25, seed=5)
    for path in world.out.rglob("*.*"):
        assert path.read_bytes() == (again.out / path.relative_to(world.out)).read_bytes()
    assert (world.out / "truth/turns.jsonl").read_bytes() != (other.out / "truth/turns.jsonl").read_bytes()


def test_every_message_has_its_truth_and_all_labels_occur(world):
    truth = Truth(world.out)
    told = {(row["conversation_hash"], turn) for row in rows(world) for turn in range(row["turn"])}
    assert told == set(truth.turns)
    assert set(world.labels) == set(get_args(Label))
    assert world.user_messages == len(told)
    for row in rows(world):
        assert truth.turns[row["conversation_hash"], 0].user_id == row["hashed_ip"]


def test_nothing_in_the_logs_names_the_truth(world):
    for row in rows(world):
        row["conversation"] = [{**message, "content": ""} for message in row["conversation"]]
        row["detoxify_moderation"] = row["openai_moderation"] = None
        text = orjson.dumps(row).decode()
        assert not any(label in text for label in get_args(Label))
        assert not any(f'"{name}"' in text for name in dimensions() if name != "language")


def test_the_client_is_independent_of_what_its_user_wants(world, tmp_path):
    """The same place in worlds of other seeds has other people, and ids share nothing."""
    other = write_world(tmp_path, users=25, seed=5)
    ours, theirs = ({row["hashed_ip"] for row in rows(w)} for w in (world, other))
    assert len(ours) == len(theirs) == 25
    assert not ours & theirs


def test_conversations_are_as_many_as_asked_for(tmp_path):
    world = write_world(tmp_path, users=6, seed=1, conversations=(2, 3))
    counts = Counter(row["hashed_ip"] for row in rows(world))
    assert set(counts.values()) <= {2, 3}


@pytest.mark.parametrize(("users", "conversations"), [(0, (8, 16)), (3, (0, 2)), (3, (5, 4))])
def test_impossible_numbers_are_refused(tmp_path, users, conversations):
    with pytest.raises(UsageError, match="world needs at least"):
        write_world(tmp_path, users=users, seed=0, conversations=conversations)


def test_quirks_occur_among_twenty_users():
    assert {quirk(place) for place in range(20)} == {"hostile", "fickle", "shared", "plain"}


def conversations(number, seed=0, **traits):
    rng = Random(seed)
    for _ in range(number):
        person = make_person(rng, **traits)
        yield person, [e for _ in range(6) for e in Conversation(person, "test", rng).run()]


def test_a_changed_mind_is_said_and_holds_from_then_on():
    said = 0
    for person, exchanges in conversations(40, fickle=True):
        for place, exchange in enumerate(exchanges):
            if exchange.changed:
                said += 1
                (new,) = exchange.named
                assert exchange.wanted[new.dimension] == new.value
                assert new in person.preferences
                assert all(not e.changed for e in exchanges[place + 1 :])
    assert said >= 20


def test_named_wishes_are_held_and_were_missed():

    for person, exchanges in conversations(30):
        for before, after in itertools.pairwise(exchanges):
            if after.label == "reattempt_with_feedback" and after.named:
                task = after.request
                assert task is not None
                got = detect(before.reply, task)
                for p in after.named:
                    assert p in person.preferences
                    assert got[p.dimension] != p.value


def test_wrong_feedback_and_insults_occur():
    exchanges = [e for _, found in conversations(60) for e in found]
    assert any(e.mistaken for e in exchanges)
    hostile = [e for _, found in conversations(20, hostile=True) for e in found]
    assert any(e.satisfaction == 1 for e in hostile)


def test_second_language_users_complain_in_spanish():

    wishes = [
        e.text
        for _, found in conversations(30, native="es")
        for e in found
        if e.label in ("reattempt_with_feedback", "positive_feedback")
    ]
    assert sum(language_name(text) == "Spanish" for text in wishes) > 0.7 * len(wishes)


def test_a_conditional_wish_goes_before_a_general_one():
    held = [Preference("format", "prose"), Preference("format", "numbered", "recipe"), Preference("steps", "shown")]
    assert wanted(held, "recipe") == {"format": "numbered"}
    assert wanted(held, "travel") == {"format": "prose"}
    assert wanted(held, "arithmetic") == {"steps": "shown"}
