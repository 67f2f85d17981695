"""LMSYS-Chat-1M and the exports of ChatGPT and Open WebUI, as they are written, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhi.flow.table import read_rows
from rlhi.logs import Ingested, ingest, readers
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage
from rlhi.pipeline.run import run
from rlhi.recipe import Logs, from_data
from rlhi.records import Conversation
from tests.logs.exports import LMSYS, chatgpt, chatgpt_message, webui, webui_message
from tests.logs.test_readers import WILDCHAT_1M, WILDCHAT_48M

ROOT: tuple[str | None, None] = (None, None)
START = {
    "root": ROOT,
    "sys": ("root", chatgpt_message("system", "", metadata={"is_visually_hidden_from_conversation": True})),
}
"""How every conversation of ChatGPT begins."""


def detected(row: dict[str, Any]) -> str:
    return readers.detect(readers.choose("auto"), row).name


def read(row: dict[str, Any]) -> RawConversation:
    return readers.detect(readers.choose("auto"), row).read(row)


def said(told: RawConversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in told.messages]


def export(folder: Path, rows: list[dict[str, Any]], name: str = "conversations.json", **settings: Any) -> Ingested:
    """Ingest rows as the one line of JSON that both programs write."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(rows))
    return ingest(Logs(paths=(str(folder / name),), **settings), seed=0)


MESSAGES = [{"role": "user", "content": "a"}]
TALK = chatgpt("u", **START, u=("sys", chatgpt_message("user", "Hello")))
CHAT = webui("u", u=webui_message(None, "user", "Hello"))


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (LMSYS, "lmsys"),
        ({**LMSYS, "user_id": "u1"}, "lmsys"),
        (WILDCHAT_1M, "wildchat"),
        (WILDCHAT_48M, "wildchat"),
        ({"conversation": MESSAGES}, "wildchat"),
        ({"conversation_id": "c", "conversation": MESSAGES}, "wildchat"),
        ({**LMSYS, "hashed_ip": "h"}, "wildchat"),
        (TALK, "chatgpt"),
        (CHAT, "openwebui"),
        (CHAT["chat"], "openwebui"),
        ({"chat": {"title": "t", "messages": MESSAGES}}, "openwebui"),
        ({"messages": MESSAGES}, "openai"),
        ({"messages": MESSAGES, "mapping": {"a": 1}, "chat": "c7"}, "openai"),
        ({"messages": MESSAGES, "mapping": {"a": {"b": 1}}, "chat": {"id": 1}, "history": []}, "openai"),
        ({"conversations": [{"from": "human", "value": "a"}], "chat": {}}, "sharegpt"),
        ({"mapping": {}}, "chatgpt"),
        ({"chat": None}, "openwebui"),
    ],
)
def test_each_format_is_found_by_its_own_fields(row: dict[str, Any], name: str) -> None:
    assert detected(row) == name


def test_lmsys_has_no_user_and_no_time(tmp_path: Path) -> None:
    flagged = {**LMSYS, "conversation_id": "b", "openai_moderation": [{"flagged": False}, {"flagged": True}]}
    again = {**LMSYS, "conversation_id": "c", "conversation": [*LMSYS["conversation"], *MESSAGES]}
    pq.write_table(pa.Table.from_pylist([LMSYS, flagged, again]), tmp_path / "lmsys.parquet")
    result = ingest(Logs(paths=(str(tmp_path),)), seed=0)
    assert {(one.conversation_id, one.started_at, one.model) for one in result.conversations} == {
        ("33f5c9a1b2", None, "vicuna-13b"),
        ("c", None, "vicuna-13b"),
    }
    assert result.users == 2 and {one.split for one in result.conversations} == {"apart"}
    assert all(one.flags == ("no_user_id", "redacted") for one in result.conversations)
    assert result.reasons == {"toxic": 1}


def test_chatgpt_follows_the_current_branch() -> None:
    row = chatgpt(
        "a2",
        **START,
        u1=("sys", chatgpt_message("user", "Write a poem")),
        a1=("u1", chatgpt_message("assistant", "Roses", metadata={"model_slug": "gpt-4"})),
        a2=("u1", chatgpt_message("assistant", "Violets", metadata={"model_slug": "gpt-4o-mini"})),
        u2=("sys", chatgpt_message("user", "Write a song")),
    )
    told = read(row)
    assert told.messages == [
        RawMessage("user", "Write a poem", "2023-11-14T22:13:20.500000Z"),
        RawMessage("assistant", "Violets", "2023-11-14T22:13:20.500000Z"),
    ]
    assert (told.conversation_id, told.timestamp, told.model) == ("6550-c1", "2023-11-14T22:13:20Z", "gpt-4o-mini")
    assert told.flags == {"branches", "other_reply", "edited_prompt"}
    assert [aside.reason for aside in told.asides] == ["other_reply", "edited_prompt"]


def test_chatgpt_messages_of_all_kinds() -> None:
    hidden = {"is_visually_hidden_from_conversation": True}
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-1", "width": 8, "height": 8}
    spoken = {"content_type": "audio_transcription", "text": "Louder", "direction": "in"}
    parts = [
        chatgpt_message(
            "user",
            content={
                "content_type": "user_editable_context",
                "user_profile": "I teach.",
                "user_instructions": "Be brief.",
            },
            metadata={**hidden, "is_user_system_message": True},
            create_time=None,
        ),
        chatgpt_message(
            "user", image, "What is it?", content={"content_type": "multimodal_text", "parts": [image, "What is it?"]}
        ),
        chatgpt_message("user", content={"content_type": "multimodal_text", "parts": [spoken, None]}),
        chatgpt_message("user", "Rebased context", metadata=hidden),
        chatgpt_message(
            "assistant", content={"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}
        ),
        chatgpt_message("assistant", content={"content_type": "reasoning_recap", "content": "Thought for 2 seconds"}),
        chatgpt_message(
            "assistant", content={"content_type": "code", "language": "unknown", "text": "1+1"}, recipient="python"
        ),
        chatgpt_message("tool", content={"content_type": "execution_output", "text": "2"}),
        chatgpt_message("tool", content={"content_type": "tether_browsing_display", "result": "x", "summary": None}),
        chatgpt_message("assistant", "A secret", weight=0.0),
        chatgpt_message("assistant", "An analysis", channel="analysis"),
        chatgpt_message(
            "assistant", content={"content_type": "model_editable_context", "model_set_context": "Likes tea"}
        ),
        chatgpt_message("assistant", "It is ", "two."),
        chatgpt_message("user", "Read this", metadata={"attachments": [{"id": "file-2", "name": "a.pdf"}]}),
        chatgpt_message("assistant", content=None),
    ]
    nodes = {f"n{n}": (f"n{n - 1}" if n else "sys", part) for n, part in enumerate(parts)}
    told = read(chatgpt(f"n{len(parts) - 1}", **START, **nodes))
    assert said(told) == [
        ("system", "I teach.\nBe brief."),
        ("user", "What is it?"),
        ("user", "Louder"),
        ("tool", "1+1"),
        ("tool", "2"),
        ("tool", "x"),
        ("assistant", "It is \ntwo."),
        ("user", "Read this"),
        ("assistant", ""),
    ]
    assert told.flags == {"custom_instructions", "dropped_parts", "dropped_hidden", "dropped_thoughts"}
    assert told.model == "gpt-4o"


def test_chatgpt_branches_are_counted_as_records(tmp_path: Path) -> None:
    other = chatgpt_message("assistant", "Roses\nare red")
    broken = chatgpt_message("assistant", "a\0b")
    row = chatgpt(
        "a3",
        **START,
        u=("sys", chatgpt_message("user", "Write a poem")),
        a1=("u", other),
        a2=("u", broken),
        a3=("u", chatgpt_message("assistant", "Violets")),
    )
    lost = {**chatgpt("x", x=("y", other)), "id": "lost", "conversation_id": "lost"}
    result = export(tmp_path, [row, lost])
    (one,) = result.conversations
    assert [message.content for message in one.messages] == ["Write a poem", "Violets"]
    assert one.flags == ("branches", "other_reply", "unknown_owner")
    assert result.read == 4 == len(result.conversations) + len(result.quarantined)
    assert [(q.line, q.reason) for q in result.quarantined] == [
        (1, "other_reply"),
        (1, "invalid_text"),
        (2, "broken_tree"),
    ]
    assert result.quarantined[0].detail == "branch at 'a1': 1 messages, the first (assistant): 'Roses are red'"


@pytest.mark.parametrize(
    ("account", "user", "flags"),
    [
        (b'{"id": "user-AbC", "email": "a@b.c", "chatgpt_plus_user": true}', "user-AbC", ()),
        (b'{"email": "a@b.c"}', "chatgpt-account", ("unknown_owner",)),
        (b'{"id": ["x"]}', "chatgpt-account", ("unknown_owner",)),
        (b"[1]", "chatgpt-account", ("unknown_owner",)),
        (b"no JSON", "chatgpt-account", ("unknown_owner",)),
        (None, "chatgpt-account", ("unknown_owner",)),
    ],
)
def test_chatgpt_is_the_accounts_own(tmp_path: Path, account: bytes | None, user: str, flags: tuple[str, ...]) -> None:
    if account is not None:
        (tmp_path / "user.json").write_bytes(account)
    second = chatgpt("u", **START, u=("sys", chatgpt_message("user", "Bye")))
    second |= {"id": "c2", "conversation_id": "c2", "create_time": 1_800_000_000}
    result = export(tmp_path, [TALK, second])
    assert [(one.user_id, one.flags) for one in result.conversations] == [(user, flags)] * 2


@pytest.mark.parametrize(
    ("change", "reason", "place"),
    [
        ({"mapping": []}, "wrong_type", "mapping: expected an object"),
        ({"mapping": {}}, "empty_conversation", "mapping"),
        ({"current_node": 4}, "wrong_type", "current node"),
        ({"create_time": "soon"}, "invalid_time", "create_time"),
        ({"conversation_id": 1.5}, "wrong_type", "conversation_id"),
        ({"author": None}, "missing_field", "mapping['u'].message.author.role"),
        ({"author": {"role": "narrator"}}, "unknown_role", "narrator"),
        ({"content": "x"}, "wrong_type", "mapping['u'].message.content"),
        ({"content": {"parts": "x"}}, "wrong_type", "content.parts"),
        ({"content": {"parts": [7]}}, "wrong_type", "content.parts[0]"),
        ({"metadata": 3}, "wrong_type", "message.metadata"),
    ],
)
def test_a_broken_conversation_of_chatgpt_is_told(change: dict[str, Any], reason: str, place: str) -> None:
    row = chatgpt("u", **START, u=("sys", chatgpt_message("user", "Hello")))
    target = row if set(change) <= set(row) else row["mapping"]["u"]["message"]
    target.update(change)
    with pytest.raises(BadRecord) as caught:
        readers.choose("chatgpt")[0].read(row)
    assert (caught.value.reason, place in caught.value.detail) == (reason, True), caught.value.detail


def test_openwebui_follows_the_current_branch() -> None:
    row = webui(
        "a3",
        u1=webui_message(None, "user", "Write a poem", files=[{"type": "image", "url": "data:image/png;base64,x"}]),
        a1=webui_message("u1", "assistant", "Roses", annotation={"rating": -1}),
        a2=webui_message("u1", "assistant", "Lilies", model="qwen3:4b"),
        u2=webui_message("a2", "user", "Shorter", timestamp=1_700_000_060),
        a3=webui_message("u2", "assistant", "L.", model="qwen3:4b", timestamp=1_700_000_090),
        u3=webui_message("a2", "user", "Longer"),
    )
    row["chat"]["params"] = {"system": "Be kind."}
    told = read(row)
    assert told == RawConversation(
        messages=[
            RawMessage("system", "Be kind."),
            RawMessage("user", "Write a poem", "2023-11-14T22:13:20Z"),
            RawMessage("assistant", "Lilies", "2023-11-14T22:13:20Z"),
            RawMessage("user", "Shorter", "2023-11-14T22:14:20Z"),
            RawMessage("assistant", "L.", "2023-11-14T22:14:50Z"),
        ],
        conversation_id="9b1d-chat",
        user_id="u-42",
        timestamp="2023-11-14T22:13:20Z",
        model="qwen3:4b",
        flags={"branches", "other_reply", "edited_prompt", "dropped_parts"},
        asides=told.asides,
    )
    assert [aside.reason for aside in told.asides] == ["other_reply", "edited_prompt"]


def test_openwebui_downloads_of_one_chat(tmp_path: Path) -> None:
    saved = webui("u", u=webui_message(None, "user", "Hello"))
    never = {"id": "local", "chat": {"title": "t", "models": [""], "history": None, "messages": MESSAGES}}
    again = {"id": "local", "chat": {"title": "t", "models": [""], "messages": [{"role": "user", "content": "b"}]}}
    result = export(tmp_path, [saved, never, again], "chat-export-1700000000000.json")
    assert result.quarantined == []
    assert [one.user_id for one in result.conversations if one.conversation_id == "9b1d-chat"] == ["u-42"]
    assert sum("no_user_id" in one.flags for one in result.conversations) == 2
    (tmp_path / "bare.json").write_text(json.dumps(saved["chat"], indent=2))
    assert said(read(json.loads((tmp_path / "bare.json").read_text()))) == [("user", "Hello")]


@pytest.mark.parametrize(
    ("written", "kept", "flags"),
    [
        (
            '<details type="reasoning" done="true" duration="3">\n<summary>T</summary>\n> hm\n</details>\nHi',
            "Hi",
            {"dropped_thoughts"},
        ),
        (
            'A<details done="true" type="tool_calls" name="f" result="&quot;2&quot;">x</details>\nB',
            "AB",
            {"dropped_tool"},
        ),
        ('<details type="code_interpreter">a<details>b</details>c</details>D', "D", {"dropped_tool"}),
        ('<details type="reasoning">a</details>B<details type="reasoning">c</details>', "B", {"dropped_thoughts"}),
        ("<details><summary>More</summary>x</details>", "<details><summary>More</summary>x</details>", set()),
        ('<details type="reasoning">never ends', '<details type="reasoning">never ends', set()),
        ("a </details> b <details", "a </details> b <details", set()),
    ],
)
def test_openwebui_cuts_what_is_no_answer(written: str, kept: str, flags: set[str]) -> None:
    told = read(webui("a", u=webui_message(None, "user", written), a=webui_message("u", "assistant", written)))
    assert said(told) == [("user", written), ("assistant", kept)]
    assert told.flags == flags


def test_openwebui_cuts_in_linear_time() -> None:
    long = '<details type="reasoning">' * 100_000
    told = read(webui("a", u=webui_message(None, "user", "x"), a=webui_message("u", "assistant", long)))
    assert told.messages[1].content == long


@pytest.mark.parametrize(
    ("row", "reason", "place"),
    [
        ({"chat": None}, "wrong_type", "chat: expected an object"),
        ({"chat": {}}, "missing_field", "chat.history"),
        ({"chat": {"history": {}}}, "empty_conversation", "chat.history.messages"),
        (
            {"chat": {"history": {"messages": {"a": {"role": "user"}}}}},
            "missing_field",
            "chat.history.messages['a'].content",
        ),
        ({"chat": {"title": "t", "messages": []}}, "empty_conversation", "messages"),
        (
            {"chat": {"history": {"messages": {"a": {"parentId": "z", "role": "user", "content": "a"}}}}},
            "broken_tree",
            "'z'",
        ),
    ],
)
def test_a_broken_chat_of_openwebui_is_told(row: dict[str, Any], reason: str, place: str) -> None:
    with pytest.raises(BadRecord) as caught:
        read(row)
    assert (caught.value.reason, place in caught.value.detail) == (reason, True), caught.value.detail


def test_a_tree_in_a_table_has_the_nodes_of_all_its_rows(tmp_path: Path) -> None:
    one = chatgpt("u", **START, u=("sys", chatgpt_message("user", "Hello")))
    other = chatgpt("v", **START, v=("sys", chatgpt_message("user", "Bye")))
    rows = [
        {"id": str(n), "mapping": row["mapping"], "current_node": row["current_node"]}
        for n, row in enumerate([one, other])
    ]
    for row in rows:
        for node in row["mapping"].values():
            if node["message"]:
                node["message"] = {key: node["message"][key] for key in ("author", "content", "create_time")}
                node["message"]["author"] = {"role": node["message"]["author"]["role"]}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    result = ingest(Logs(paths=(str(tmp_path),)), seed=0)
    assert sorted(one.messages[-1].content for one in result.conversations) == ["Bye", "Hello"]


def test_a_branch_that_says_nothing_is_flagged_by_what_was_left_out() -> None:
    hidden = chatgpt_message("assistant", "A secret", weight=0)
    told = read(chatgpt("u", **START, u=("sys", chatgpt_message("user", "Hello")), x=("sys", hidden)))
    assert (told.flags, told.asides) == ({"dropped_hidden"}, [])


def test_an_account_that_comes_later_makes_the_stage_anew(tmp_path: Path) -> None:
    (tmp_path / "conversations.json").write_text(json.dumps([TALK]))
    logs = {"paths": [str(tmp_path / "conversations.json")]}
    recipe = from_data({"name": "r", "runs": str(tmp_path / "runs"), "logs": logs}, "a test")
    run(recipe, steps=["ingest"])
    (tmp_path / "user.json").write_text('{"id": "user-AbC"}')
    folder = run(recipe, steps=["ingest"]).folder
    (one,) = read_rows(folder / "conversations" / "conversations.parquet", Conversation)
    assert one.user_id == "user-AbC"
