"""Each format by its documented columns, and what is said of rows that are none."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from rlhi import registry
from rlhi.errors import UsageError
from rlhi.logs import readers
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage, Reader

WILDCHAT_1M: dict[str, Any] = {
    "conversation_hash": "c9ec5b440fbdadce5e2a2b0ac6a1ac6e",
    "model": "gpt-3.5-turbo",
    "timestamp": "2023-04-09T00:02:53+00:00",
    "conversation": [
        {
            "content": "Hallo",
            "country": "Germany",
            "hashed_ip": "22fd87ba",
            "header": {"accept-language": "de", "user-agent": "Mozilla"},
            "language": "German",
            "redacted": False,
            "role": "user",
            "state": "Bavaria",
            "timestamp": None,
            "toxic": False,
            "turn_identifier": 101001,
        },
        {
            "content": "Guten Tag!",
            "country": None,
            "hashed_ip": None,
            "header": None,
            "language": "German",
            "redacted": False,
            "role": "assistant",
            "state": None,
            "timestamp": "2023-04-09T00:02:50+00:00",
            "toxic": False,
            "turn_identifier": 101001,
        },
    ],
    "turn": 1,
    "language": "German",
    "openai_moderation": [{"flagged": False, "categories": {"hate": False}}],
    "detoxify_moderation": [{"toxicity": 0.001}],
    "toxic": False,
    "redacted": True,
    "state": "Bavaria",
    "country": "Germany",
    "hashed_ip": "22fd87ba",
    "header": {"accept-language": "de", "user-agent": "Mozilla"},
}
WILDCHAT_48M: dict[str, Any] = {
    "conversation_hash": "0f1e",
    "model": "gpt-4o-2024-08-06",
    "timestamp": "2024-09-01T10:00:30+00:00",
    "conversation": [
        {
            "content": "Hi",
            "created": None,
            "header": {"accept-language": "en", "user-agent": "x"},
            "hashed_ip": "ab12",
            "country": "France",
            "toxic": True,
            "redacted": False,
            "state": "",
            "language": "English",
            "openai_id": None,
            "role": "user",
            "temperature": None,
            "timestamp": None,
            "token_counter": None,
            "top_p": None,
            "turn_identifier": 5,
            "system_fingerprint": None,
            "usage": None,
        },
        {
            "content": "Hello",
            "created": 1725184800,
            "role": "assistant",
            "temperature": 1.0,
            "timestamp": None,
            "usage": {"completion_tokens": 3, "prompt_tokens": 8, "total_tokens": 11},
        },
    ],
    "turn": 1,
    "language": "English",
}


def read(row: dict[str, Any], format_name: str = "auto") -> RawConversation:
    """Read a row as `ingest` does."""
    return readers.detect(readers.choose(format_name), row).read(row)


def test_wildchat_1m() -> None:
    told = read(WILDCHAT_1M)
    assert told == RawConversation(
        messages=[
            RawMessage("user", "Hallo"),
            RawMessage("assistant", "Guten Tag!", "2023-04-09T00:02:50Z"),
        ],
        conversation_id="c9ec5b440fbdadce5e2a2b0ac6a1ac6e",
        user_id="22fd87ba",
        timestamp="2023-04-09T00:02:53Z",
        language="German",
        model="gpt-3.5-turbo",
        flags={"redacted"},
    )


def test_wildchat_48m_takes_user_and_flags_from_the_messages() -> None:
    told = read(WILDCHAT_48M)
    assert (told.user_id, told.flags) == ("ab12", {"toxic"})
    assert told.messages[1].timestamp == "2024-09-01T10:00:00Z"


@pytest.mark.parametrize(
    "where", [{"user": "u7"}, {"user_id": "u7"}, {"user": None, "user_id": "u7"}, {"metadata": {"user_id": "u7"}}]
)
def test_openai(where: dict[str, Any]) -> None:
    row = {
        **where,
        "id": 12,
        "created": 1_000_000_000,
        "model": "m",
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
            {"role": "tool", "content": "42", "tool_call_id": "1"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ],
    }
    told = read(row)
    assert (told.user_id, told.conversation_id, told.timestamp) == ("u7", "12", "2001-09-09T01:46:40Z")
    assert [(m.role, m.content) for m in told.messages] == [
        ("system", "Be kind."),
        ("user", "See"),
        ("assistant", ""),
        ("tool", "42"),
        ("assistant", "No."),
    ]
    assert told.flags == {"dropped_parts"}


def test_sharegpt() -> None:
    row = {
        "id": "QWJhYvA_0",
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
    }
    told = read(row)
    assert [(m.role, m.content) for m in told.messages] == [("system", "Be brief."), ("user", "a"), ("assistant", "b")]
    assert (told.conversation_id, told.user_id, told.timestamp) == ("QWJhYvA_0", None, None)


GOOD: dict[str, Any] = {"role": "user", "content": "a"}


@pytest.mark.parametrize(
    ("row", "reason", "place"),
    [
        ({}, "unknown_format", "no fields"),
        ({"question": 1}, "unknown_format", "question"),
        ({"conversation": None}, "empty_conversation", "null"),
        ({"messages": []}, "empty_conversation", "messages"),
        ({"conversations": "x"}, "wrong_type", "conversations"),
        ({"conversation": [GOOD, 3]}, "wrong_type", "conversation[1]"),
        ({"conversation": [{"content": "a"}]}, "missing_field", "conversation[0].role"),
        ({"conversation": [{"role": "user"}]}, "missing_field", "conversation[0].content"),
        ({"conversation": [GOOD, {"role": "narrator", "content": "a"}]}, "unknown_role", "narrator"),
        ({"conversation": [{"role": 5, "content": "a"}]}, "wrong_type", "conversation[0].role"),
        ({"conversation": [{"role": "user", "content": {"a": 1}}]}, "wrong_type", "conversation[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "wrong_type", "content[0].text"),
        ({"messages": [{"role": "user", "content": [7]}]}, "wrong_type", "content[0]"),
        ({"conversation": [{"role": "user", "content": "a\0b"}]}, "invalid_text", "character 1"),
        ({"conversation": [{"role": "user", "content": "ab\ud800"}]}, "invalid_text", "U+D800 at character 2"),
        ({"conversation": [GOOD], "hashed_ip": "\udfff"}, "invalid_text", "hashed_ip"),
        ({"conversation": [GOOD], "hashed_ip": ["a"]}, "wrong_type", "hashed_ip"),
        ({"conversation": [GOOD], "model": 4}, "wrong_type", "model"),
        ({"conversation": [GOOD], "toxic": "perhaps"}, "wrong_type", "toxic"),
        ({"conversation": [GOOD], "timestamp": "soon"}, "invalid_time", "timestamp"),
        ({"conversation": [{**GOOD, "timestamp": [1]}]}, "invalid_time", "conversation[0].timestamp"),
    ],
)
def test_a_bad_row_is_refused_with_its_place(row: dict[str, Any], reason: str, place: str) -> None:
    with pytest.raises(BadRecord) as caught:
        read(row)
    assert caught.value.reason == reason
    assert place in caught.value.detail


def test_a_named_format_is_not_guessed() -> None:
    with pytest.raises(BadRecord) as caught:
        read({"conversation": [GOOD]}, "openai")
    assert caught.value.reason == "missing_field"


def test_a_wrong_name_is_met_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'wildchat'.*openai, openwebui, sharegpt, wildchat"):
        readers.choose("wildcat")


class Slack:
    """A format of another package."""

    name = "slack"
    key = "thread"

    def matches(self, row: dict[str, Any]) -> bool:
        return "thread" in row

    def columns(self, present: Any) -> Any:
        return present

    def read(self, row: dict[str, Any]) -> RawConversation:
        return RawConversation([RawMessage("user", str(row["thread"]))])


NoReader = dict
"""Something that is no reader."""


def _with_plugins(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    points = [EntryPoint(name, target, "rlhi.readers") for name, target in targets.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "rlhi.readers" else [])
    monkeypatch.setattr(readers, "READERS", registry.Registry("log reader", "rlhi.readers", readers.BUILT_IN))


def test_another_package_adds_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    _with_plugins(monkeypatch, slack="tests.logs.test_readers:Slack")
    assert read({"thread": "hi"}).messages == [RawMessage("user", "hi")]
    assert isinstance(Slack(), Reader)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"openai": "tests.logs.test_readers:Slack"}, "two log readers are named 'openai'"),
        ({"slack": "tests.logs.nowhere:Slack"}, "cannot be loaded"),
        ({"slack": "tests.logs.test_readers:NoReader"}, "lacks one of"),
    ],
)
def test_a_plugin_that_cannot_work_is_named(
    monkeypatch: pytest.MonkeyPatch, targets: dict[str, str], message: str
) -> None:
    _with_plugins(monkeypatch, **targets)
    with pytest.raises(UsageError, match=message):
        readers.choose("auto")


def test_readers_ask_for_the_columns_they_read_and_no_more() -> None:
    columns = readers.choose("wildchat")[0].columns(list(WILDCHAT_1M))
    assert set(columns) == {
        "conversation_hash", "model", "timestamp", "conversation", "language", "toxic", "redacted", "hashed_ip",
    }  # fmt: skip
    assert "openai_moderation" in readers.choose("wildchat")[0].columns(["conversation", "openai_moderation"])
    assert set(readers.choose("openai")[0].columns(["messages", "metadata", "prompt"])) == {"messages", "metadata"}
