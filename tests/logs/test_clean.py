"""Roles, empties, filters, ids, duplicates, languages."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhi.errors import UsageError
from rlhi.logs import languages
from rlhi.logs.clean import Clean, clean
from rlhi.logs.duplicates import placed, unique
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage
from rlhi.recipe import Logs

SETTINGS = Logs(paths=("x",))
LETTERS: dict[str, Any] = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}


def raw(text: str, **fields: Any) -> RawConversation:
    """`"u:hello a:hi u:"` as a conversation."""
    pairs = [word.partition(":") for word in text.split()]
    return RawConversation([RawMessage(LETTERS[role], content) for role, _, content in pairs], **fields)


def told(one: Clean) -> str:
    """A conversation as `raw` takes it, blank lines as `+`."""
    return " ".join(f"{m.role[0]}:{m.content}" for m in one.messages).replace("\n\n", "+")


@pytest.mark.parametrize(
    ("log", "cleaned", "flags"),
    [
        ("u:1 a:2 u:3 a:4", "u:1 a:2 u:3 a:4", []),
        ("s:0 u:1 a:2 u:3", "s:0 u:1 a:2 u:3", []),
        ("u:1", "u:1", []),
        ("u:1 u:2 a:3 a:4", "u:1+2 a:3+4", ["merged_roles"]),
        ("u:1 u:1 a:3", "u:1 a:3", ["merged_roles"]),
        ("a:0 u:1 a:2", "u:1 a:2", ["dropped_leading_assistant"]),
        ("s:0 a:0 u:1", "s:0 u:1", ["dropped_leading_assistant"]),
        ("u:1 a: u:2 a:3", "u:1+2 a:3", ["dropped_empty", "merged_roles"]),
        ("u:1 a:2 u:", "u:1 a:2", ["dropped_empty"]),
        ("s:0 s:1 u:1", "s:0+1 u:1", ["merged_roles"]),
        ("u:1 s:0 a:2", "u:1 a:2", ["dropped_system"]),
        ("u:1 a: t:x a:2", "u:1 a:2", ["dropped_tool"]),
        ("u:1 a:wait t:x a:2", "u:1 a:wait+2", ["dropped_tool", "merged_roles"]),
    ],
)
def test_roles_alternate_after_cleaning(log: str, cleaned: str, flags: list[str]) -> None:
    one = clean(raw(log, user_id="u"), SETTINGS)
    assert (told(one), list(one.flags)) == (cleaned, flags)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("u:1 u:2", "roles_not_alternating"),
        ("a:0 u:1", "roles_not_alternating"),
        ("u:1 s:0 a:2", "roles_not_alternating"),
        ("u:1 a: u:2", "empty_message"),
    ],
)
def test_without_repair_such_conversations_are_refused(log: str, reason: str) -> None:
    with pytest.raises(BadRecord) as caught:
        clean(raw(log), Logs(paths=("x",), repair_roles=False))
    assert caught.value.reason == reason
    assert clean(raw("s:0 u:1 a: t:x a:2"), Logs(paths=("x",), repair_roles=False)).messages


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("a:1", "no_user_message"),
        ("s:1 a:2", "no_user_message"),
        ("u: a:", "empty_conversation"),
        ("u: a:2", "no_user_message"),
    ],
)
def test_a_conversation_needs_a_user(log: str, reason: str) -> None:
    with pytest.raises(BadRecord) as caught:
        clean(raw(log), SETTINGS)
    assert caught.value.reason == reason


@given(st.text("uast", min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_any_roles_end_alternating_or_refused(roles: str, rng: random.Random) -> None:
    log = " ".join(f"{role}:{'' if rng.random() < 0.2 else place}" for place, role in enumerate(roles))
    try:
        one = clean(raw(log), SETTINGS)
    except BadRecord as bad:
        assert bad.reason in ("no_user_message", "empty_conversation")
        assert "u" not in [word[0] for word in log.split() if len(word) > 2]
        return
    kinds = [m.role for m in one.messages]
    talk = kinds[1:] if kinds[0] == "system" else kinds
    assert talk == ["user", "assistant"] * (len(talk) // 2) + ["user"] * (len(talk) % 2)
    users = "".join(m.content for m in one.messages if m.role == "user").replace("\n\n", "")
    assert users == "".join(word[2:] for word in log.split() if word[0] == "u")


def test_limits_and_filters() -> None:
    def reason(conversation: RawConversation, **settings: Any) -> str | None:
        try:
            clean(conversation, Logs(paths=("x",), **settings))
        except BadRecord as bad:
            return bad.reason
        return None

    assert reason(raw("u:12345 a:1"), max_message_chars=4) == "message_too_long"
    assert reason(raw("u:1234 a:1"), max_message_chars=4) is None
    assert reason(raw("u:1", flags={"toxic"})) == "toxic"
    assert reason(raw("u:1", flags={"toxic"}), keep_toxic=True) is None
    assert reason(raw("u:1", flags={"redacted"})) is None
    assert reason(raw("u:1", flags={"redacted"}), keep_redacted=False) == "redacted"
    assert reason(raw("u:1", language="German"), languages=("en",)) == "language"
    assert reason(raw("u:1", language="en-GB"), languages=("en",)) is None


def test_the_earliest_message_begins_the_conversation() -> None:
    log = raw("u:1 a:2", timestamp="2024-01-01T00:00:09Z", user_id="u")
    assert clean(log, SETTINGS).started_at == "2024-01-01T00:00:09Z"
    log.messages[0].timestamp = "2024-01-01T00:00:05.500000Z"
    log.messages[1].timestamp = "2024-01-01T00:00:05Z"
    one = clean(log, SETTINGS)
    assert one.started_at == "2024-01-01T00:00:05Z"
    assert one.flags == ("times_out_of_order",)
    assert told(one) == "u:1 a:2"


@pytest.mark.parametrize(
    ("messages", "own", "began"),
    [
        (("1970-01-01T00:00:00Z", "1970-01-01T00:00:09.500000Z"), "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        (("1970-01-01T00:00:03Z", "1970-01-01T00:00:09Z"), "1970-01-01T00:00:09Z", "1970-01-01T00:00:03Z"),
        (("1970-01-01T00:00:03Z", None), None, "1970-01-01T00:00:03Z"),
        ((None, None), "1970-01-01T00:00:09Z", "1970-01-01T00:00:09Z"),
        ((None, None), None, None),
    ],
)
def test_offsets_yield_to_a_real_time(messages: tuple[str | None, ...], own: str | None, began: str | None) -> None:
    log = raw("u:1 a:2", timestamp=own, user_id="u")
    for message, time in zip(log.messages, messages, strict=True):
        message.timestamp = time
    assert clean(log, SETTINGS).started_at == began


def test_a_language_that_is_none_is_wrong_usage() -> None:
    languages.check(("en", "de", "und"))
    with pytest.raises(UsageError, match=r"'English' is no ISO 639-1 code.* did you mean 'en'"):
        languages.check(("de", "English"))
    with pytest.raises(UsageError, match="'klingon' is no"):
        languages.check(("klingon",))


def test_ids_are_made_of_content() -> None:
    one, same, other = (clean(raw(log), SETTINGS) for log in ("u:1 a:2", "u:1 a:2", "u:1 a:3"))
    assert one == same and one.conversation_id != other.conversation_id and one.user_id != other.user_id
    assert one.user_id.startswith("anonymous-") and one.flags == ("no_user_id",)
    known = clean(raw("u:1 a:2", user_id="u"), SETTINGS)
    assert known.flags == () and known.conversation_id != one.conversation_id


def _unique(logs: list[RawConversation]) -> tuple[set[str], list[tuple[int, str]]]:
    kept, refused = unique(placed(clean(log, SETTINGS), "f", line) for line, log in enumerate(logs, start=1))
    return {one.clean.started_at or "" for one in kept}, sorted((q.line, q.reason) for q in refused)


def test_one_of_each_is_kept() -> None:
    logs = [
        raw("u:1 a:2", user_id="u", conversation_id="c1", timestamp="2024-01-02"),
        raw("u:1 a:2", user_id="u", conversation_id="c2", timestamp="2024-01-01"),
        raw("u:1 a:2", user_id="v", conversation_id="c3", timestamp="2024-01-03"),
        raw("u:5 a:6", user_id="u", conversation_id="c4", timestamp="2024-01-04"),
        raw("u:5 a:6 u:7", user_id="u", conversation_id="c4", timestamp="2024-01-05"),
        raw("u:1 a:2", conversation_id="c6", timestamp="2024-01-06"),
        raw("u:1 a:2", conversation_id="c7", timestamp="2024-01-07"),
        raw("u:9", user_id="u", conversation_id="c1", timestamp="2024-01-08"),
    ]
    kept, refused = _unique(logs)
    assert kept == {"2024-01-01", "2024-01-03", "2024-01-05", "2024-01-06", "2024-01-08"}
    assert refused == [(1, "duplicate"), (4, "duplicate_id"), (7, "duplicate")]
    for seed in range(5):
        shuffled = random.Random(seed).sample(logs, len(logs))
        assert _unique(shuffled)[0] == kept


@pytest.mark.parametrize(
    ("name", "code"),
    [("English", "en"), ("german", "de"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("eng", "en"), ("Nolang", None), ("", None),
     ("Chinese (Simplified)", "zh"), ("iw", "he"), (None, None)],
)  # fmt: skip
def test_names_of_languages(name: str | None, code: str | None) -> None:
    assert languages.code_of(name) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Could you please write a letter to my landlord about the heating?", "en"),
        ("Könntest du bitte einen Brief an meinen Vermieter schreiben?", "de"),
        ("¿Puedes escribir una carta a mi casero sobre la calefacción?", "es"),
        ("请帮我给房东写一封关于暖气的信", "zh"),
        ("hi", "und"),
        ("12 + 3 * 4 = ?", "und"),
        ("", "und"),
    ],
)
def test_language_of_a_text(text: str, code: str) -> None:
    assert languages.detect(text) == code
