"""Your own columns through a mapping file: one row per conversation, one row per message, and what does not fit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.testing import CliRunner

from rlhi.cli.app import app
from rlhi.errors import UsageError
from rlhi.logs import Ingested, ingest
from rlhi.logs.readers import mapping
from rlhi.pipeline.run import run
from rlhi.recipe import Logs, from_data
from tests.logs.broken import lines
from tests.logs.test_any_input import anything, fields, scalars, text

NESTED = """
conversation_id: chat.id
user_id: customer
time: opened
language: lang
model: bot
flags: {toxic: bad}
messages: {column: chat.turns, role: who, content: said, time: at}
roles: {customer: user, 2: assistant, true: assistant}
"""
FLAT = """
conversation_id: chat
user_id: author
rows: {role: from, content: body, time: sent}
roles: {agent: assistant, client: user}
"""


def written(folder: Path, told: str, rows: list[Any]) -> Logs:
    folder.mkdir(exist_ok=True)
    (folder / "my.yaml").write_text(told)
    (folder / "log.jsonl").write_bytes(lines(rows))
    return Logs(paths=(str(folder / "log.jsonl"),), mapping=str(folder / "my.yaml"))


def read(folder: Path, told: str, rows: list[Any]) -> Ingested:
    return ingest(written(folder, told, rows), seed=0)


def said(result: Ingested) -> dict[str, list[tuple[str, str]]]:
    return {one.conversation_id: [(m.role, m.content) for m in one.messages] for one in result.conversations}


def refused(result: Ingested) -> list[tuple[int, str]]:
    return [(q.line, q.reason) for q in result.quarantined]


def nested(number: int, *turns: tuple[Any, Any], **fields: Any) -> dict[str, Any]:
    talk = [{"who": who, "said": what, "at": 1_700_000_000 + place} for place, (who, what) in enumerate(turns)]
    row = {
        "chat": {"id": number, "turns": talk},
        "customer": "c7",
        "opened": None,
        "lang": "German",
        "bot": "m",
        "bad": 0,
    }
    return {**row, **fields}


def test_one_row_per_conversation(tmp_path: Path) -> None:
    rows = [
        nested(1, ("customer", "Hallo"), (2, "Ja?")),
        nested(2, ("client", "x")),
        nested(3, ("customer", "x"), (True, "y"), ("assistant", "z"), bad="perhaps"),
        nested(4, ("customer", "x"), (3, "y")),
        nested(5, ("customer", "x"), bad=True),
        nested(6, ("customer", "x"), customer=None),
        {"chat": {"id": 7}, "customer": "c7"},
        [1],
    ]
    result = read(tmp_path, NESTED, rows)
    first, other = sorted(result.conversations, key=lambda one: one.conversation_id)
    assert [(m.role, m.content, m.timestamp) for m in first.messages] == [
        ("user", "Hallo", "2023-11-14T22:13:20Z"),
        ("assistant", "Ja?", "2023-11-14T22:13:21Z"),
    ]
    assert (first.user_id, first.language, first.model, first.flags) == ("c7", "de", "m", ())
    assert (other.conversation_id, other.flags) == ("6", ("no_user_id",))
    assert refused(result) == [
        (2, "unknown_role"),
        (3, "wrong_type"),
        (4, "unknown_role"),
        (5, "toxic"),
        (7, "missing_field"),
        (8, "not_an_object"),
    ]
    assert "'chat.turns'" in result.quarantined[4].detail


def flat(chat: Any, who: str, body: Any, sent: Any, author: Any = "c7", **more: Any) -> dict[str, Any]:
    return {"chat": chat, "from": who, "body": body, "sent": sent, "author": author, **more}


def test_one_row_per_message(tmp_path: Path) -> None:
    rows = [
        flat("A", "client", "first", "2025-01-01T10:00:00Z"),
        flat("B", "client", "hello", "2025-01-02T10:00:00Z"),
        flat("A", "agent", "third", "2025-01-01T10:00:09Z", author="agent-3"),
        flat("A", "agent", "fifth", "2025-01-01T10:00:10.5Z"),
        flat("A", "client", "fourth", "2025-01-01T10:00:10Z"),
        flat("A", "agent", "second", "2025-01-01T10:00:05+00:00", author="agent-1"),
        flat(None, "client", "lost", "2025-01-01T10:00:00Z"),
        flat("C", "client", "x", "2025-01-01T10:00:00Z"),
        flat("C", "robot", "y", "2025-01-01T10:00:01Z"),
        flat("D", "client", "x", "2025-01-01T10:00:00Z"),
        flat("D", "client", "y", "2025-01-01T10:00:01Z", author="c8"),
        flat("E", "client", "x", "2025-01-01T10:00:00Z"),
        flat("E", "agent", "y", None),
        flat("F", "client", "x", "soon"),
        flat("G", "client", "unsent", None),
        flat("G", "agent", "untimed", None),
        7,
    ]
    result = read(tmp_path, FLAT, rows)
    assert said(result) == {
        "A": [("user", "first"), ("assistant", "second\n\nthird"), ("user", "fourth"), ("assistant", "fifth")],
        "B": [("user", "hello")],
        "G": [("user", "unsent"), ("assistant", "untimed")],
    }
    assert {one.user_id for one in result.conversations} == {"c7"}
    assert refused(result) == [
        (7, "missing_field"),
        (8, "unknown_role"),
        (10, "several_users"),
        (12, "missing_field"),
        (14, "invalid_time"),
        (17, "not_an_object"),
    ]
    assert result.read == 9 == len(result.conversations) + len(result.quarantined)
    assert "log.jsonl:9 from: 'robot'" in result.quarantined[1].detail
    assert "log.jsonl:13 sent" in result.quarantined[3].detail


def test_messages_by_index_across_files(tmp_path: Path) -> None:
    told = FLAT.replace("time: sent", "index: n")
    parts = [
        flat("A", "client" if n % 2 == 0 else "agent", f"m{n}", None, n=n if n < 10 else str(n)) for n in range(12)
    ]
    rows = [*parts, flat("B", "client", "x", None, n="third"), flat("C", "client", "x", None, n=float("nan"))]
    random.Random(0).shuffle(rows)
    (tmp_path / "logs").mkdir()
    (tmp_path / "my.yaml").write_text(told)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows[:7]))
    (tmp_path / "logs" / "b.json").write_text(json.dumps(rows[7:]))
    result = ingest(Logs(paths=(str(tmp_path / "logs"),), mapping=str(tmp_path / "my.yaml")), seed=0)
    assert said(result) == {"A": [("assistant" if n % 2 else "user", f"m{n}") for n in range(12)]}
    assert result.reasons == {"wrong_type": 2}


def test_a_table_gives_only_the_columns_named(tmp_path: Path) -> None:
    rows = [flat("A", "client", "a", 1_700_000_000, large="x"), flat("A", "agent", "b", 1_700_000_009, large="y")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "my.yaml").write_text(FLAT)
    assert set(mapping.MappedReader(str(tmp_path / "my.yaml")).columns(list(rows[0]))) == {*rows[0]} - {"large"}
    result = ingest(Logs(paths=(str(tmp_path / "a.parquet"),), mapping=str(tmp_path / "my.yaml")), seed=0)
    assert said(result) == {"A": [("user", "a"), ("assistant", "b")]}
    (tmp_path / "my.yaml").write_text(FLAT.replace("author", "auther"))
    with pytest.raises(UsageError, match="user_id: no row has 'auther'; did you mean 'author'"):
        ingest(Logs(paths=(str(tmp_path / "a.parquet"),), mapping=str(tmp_path / "my.yaml")), seed=0)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("messages: {column: m, role: r}", ["messages.content", "Field required"]),
        ("messages: {column: m, role: r, content: c, rol: x}", ["messages.rol: unknown key", "column, content, role"]),
        ("mesages: {}", ["mesages: unknown key", "messages", "rows"]),
        ("user_id: u", ["either `messages`", "or `rows`"]),
        ("messages: {column: m, role: r, content: c}\nrows: {role: r, content: c}\nconversation_id: x", ["not both"]),
        ("rows: {role: r, content: c}", ["`rows` needs `conversation_id`"]),
        ("messages: {column: m, role: 1, content: c}", ["messages.role", "valid string", "got 1"]),
        ("messages: {column: '', role: r, content: c}", ["messages.column", "at least 1 character"]),
        (
            "messages: {column: m, role: r, content: c}\nroles: {bot: robot}",
            ["roles.bot", "'assistant'", "got 'robot'"],
        ),
        ("messages: {column: m, role: r, content: c}\nflags: {Is Bad: b}", ["flags.Is Bad", "pattern"]),
        ("[a]", ["my.yaml", "a mapping file is a mapping of keys, got list"]),
        ("a: [", ["my.yaml is not valid YAML"]),
        ("a: 2024-99-99", ["my.yaml is not valid YAML"]),
        ("user_id: a\ntime: b\nuser_id: c\n", ["line 3: the key 'user_id' stands in line 1 already"]),
        ("!!python/object:os.system {}", ["my.yaml is not valid YAML"]),
    ],
)
def test_a_wrong_mapping_is_explained(tmp_path: Path, told: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, told, [{}])
    assert caught.value.exit_code == 2
    assert str(tmp_path / "my.yaml") in str(caught.value)
    for part in words:
        assert part in str(caught.value)


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"no mapping file at .*nowhere.yaml; .*docs/logs.md"):
        ingest(Logs(paths=(str(tmp_path),), mapping=str(tmp_path / "nowhere.yaml")), seed=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"format": "mapping"}, "name the file in `mapping`"),
        ({"format": "openai", "mapping": "m.yaml"}, "leave `format` out"),
    ],
)
def test_one_way_to_read(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Logs(paths=("x",), **settings)


def test_a_column_that_no_row_has_is_an_error(tmp_path: Path) -> None:
    rows = [{"chat": "A", "from": "client", "body": "x", "sent": None, "autor": "c7"}, "no object"]
    with pytest.raises(UsageError) as caught:
        read(tmp_path, FLAT, rows)
    assert str(caught.value).splitlines() == [
        f"the mapping file {tmp_path / 'my.yaml'} does not fit the logs:",
        "  user_id: no row has 'author'; did you mean 'autor'? (there are 'chat', 'from', 'body', 'sent', 'autor')",
    ]
    with pytest.raises(UsageError, match=r"messages.content: no message has 'said'; did you mean 'sai'\?"):
        read(
            tmp_path,
            NESTED,
            [nested(1, ("client", "x")) | {"chat": {"id": 1, "turns": [{"who": "user", "sai": "x", "at": 1}]}}],
        )
    with pytest.raises(UsageError, match=r"messages.column: no row has 'chat.turns'") as caught:
        read(tmp_path, NESTED, [nested(1) | {"chat": {"id": 1}}])
    assert "messages.role" not in str(caught.value)


def test_a_column_that_some_rows_leave_out_is_none(tmp_path: Path) -> None:
    sparse = flat("B", "client", "y", None)
    del sparse["author"]
    result = read(tmp_path, FLAT, [flat("A", "client", "x", 1_700_000_000), sparse])
    assert sorted(one.flags for one in result.conversations) == [(), ("no_user_id",)]


def test_the_command_line_and_the_run_know_the_mapping(tmp_path: Path) -> None:
    logs = written(tmp_path, FLAT, [flat("A", "client", "x", 1), flat("A", "agent", "y", 2)])
    words = ["ingest", *logs.paths, "--out", str(tmp_path / "runs" / "r")]
    assert CliRunner().invoke(app, [*words, "--mapping", str(tmp_path / "my.yaml")]).exit_code == 0
    kept = (tmp_path / "runs" / "r" / "recipe.yaml").read_bytes()
    for more, told in (([], "run with another recipe"), (["--force"], "no mapping file")):
        failed = CliRunner().invoke(app, [*words, "--mapping", str(tmp_path / "no.yaml"), *more]).exception
        assert isinstance(failed, UsageError) and failed.exit_code == 2 and told in str(failed)
    assert (tmp_path / "runs" / "r" / "recipe.yaml").read_bytes() == kept


def test_a_run_notices_that_its_mapping_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    logs = written(tmp_path, FLAT, [flat("A", "client", "x", 1), flat("A", "agent", "y", 2)])
    logs = logs.model_copy(update={"mapping": "~/my.yaml"})
    recipe = from_data({"name": "r", "runs": str(tmp_path / "runs"), "logs": logs.model_dump()}, "a test")
    before = run(recipe, steps=["ingest"]).stages["conversations"]
    (tmp_path / "my.yaml").write_text(FLAT.replace("agent: assistant", "agent: user"))
    after = run(recipe, steps=["ingest"]).stages["conversations"]
    assert before["identity"] != after["identity"]


LOOSE = """
conversation_id: id
user_id: user
flags: {toxic: bad}
rows: {role: role, content: content, time: time, index: n}
"""
loose_row = fields(
    id=st.sampled_from(["a", "b"]),
    role=st.sampled_from(["user", "assistant", "tool"]),
    content=text,
    time=st.integers(),
    n=st.integers(0, 5),
    user=st.sampled_from(["u", "v"]),
    bad=st.booleans(),
)
FULL = {"id": "z", "role": "user", "content": "x", "time": None, "n": None, "user": None, "bad": None}


@settings(max_examples=200, deadline=None)
@given(st.lists(loose_row | scalars, max_size=8))
def test_any_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    result = read(tmp_path_factory.mktemp("any", numbered=True), LOOSE, [FULL, *rows])
    assert result.read == len(result.conversations) + len(result.quarantined) <= len(rows) + 1
    assert "reader_error" not in result.reasons
    groups = {str(row["id"]) for row in rows if isinstance(row, dict) and type(row.get("id")) in (str, int)}
    assert {one.conversation_id for one in result.conversations} <= groups | {"z"}


@settings(max_examples=100, deadline=None)
@given(st.lists(fields(turns=st.lists(fields(role=text, content=anything), max_size=3), user=anything), max_size=4))
def test_any_nested_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    whole = {"turns": [{"role": "user", "content": "x"}], "user": None}
    told = "user_id: user\nmessages: {column: turns, role: role, content: content}"
    result = read(tmp_path_factory.mktemp("any", numbered=True), told, [whole, *rows])
    assert result.read == len(rows) + 1 == len(result.conversations) + len(result.quarantined)
    assert "reader_error" not in result.reasons
