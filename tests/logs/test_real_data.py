"""Real logs of several origins, where they are at hand: nothing is lost, and what is told of them holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhi.logs import Ingested, ingest
from rlhi.recipe import Logs
from rlhi.records import Conversation


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        pytest.skip(f"no real data at {path}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read(path: Path) -> tuple[list[dict[str, Any]], Ingested]:
    rows = _rows(path)
    result = ingest(Logs(paths=(str(path),), keep_toxic=True), seed=0)
    assert result.read == len(rows) == len(result.conversations) + len(result.quarantined)
    places = [int(one.source.rpartition(":")[2]) for one in result.conversations] + [q.line for q in result.quarantined]
    assert sorted(places) == list(range(1, len(rows) + 1))
    return rows, result


@pytest.mark.parametrize(
    "name",
    [
        "ifllm/conversations",
        "realhumaneval/conversations",
        "wildfeedback/conversations",
        "ikat/conversations",
        "petrak/annotations",
    ],
)
def test_each_conversation_is_in_the_data_or_in_quarantine(real_data: Path, name: str) -> None:
    rows, result = _read(real_data / f"{name}.jsonl")
    assert set(result.reasons) <= {"empty_conversation", "duplicate"}
    assert result.reasons.get("empty_conversation", 0) == sum(not row["conversation"] for row in rows)
    for one in result.conversations:
        row = rows[int(one.source.rpartition(":")[2]) - 1]
        Conversation.model_validate_json(one.model_dump_json())
        assert one.conversation_id == str(row.get("conversation_hash") or row.get("conversation_id") or row["id"])
        user = row.get("hashed_ip") or row.get("user_id")
        assert one.user_id == user if user else "no_user_id" in one.flags
        if "merged_roles" not in one.flags:
            told = [(m.role, m.content) for m in one.messages]
            assert told == [(m["role"], m["content"]) for m in row["conversation"]]


def test_a_session_counted_in_seconds_keeps_its_order(real_data: Path) -> None:
    rows, result = _read(real_data / "realhumaneval/conversations.jsonl")
    seconds = {row["conversation_hash"]: row["timestamp"] for row in rows}
    for one, following in zip(result.conversations, result.conversations[1:], strict=False):
        if one.user_id == following.user_id:
            assert seconds[one.conversation_id] <= seconds[following.conversation_id]
    assert all("relative_time" in one.flags for one in result.conversations)


@pytest.mark.parametrize(
    "name", ["ifllm/pairwise", "wildfeedback/followup_tiers", "gsm8k/test", "math500/test", "process_labels/mr_gsm8k"]
)
def test_what_holds_no_conversations_is_of_unknown_format(real_data: Path, name: str) -> None:
    rows, result = _read(real_data / f"{name}.jsonl")
    assert result.reasons == {"unknown_format": len(rows)}


def test_a_whole_folder_of_all_kinds(real_data: Path) -> None:
    result = ingest(Logs(paths=(str(real_data),)), seed=0)
    assert result.read == len(result.conversations) + sum(q.line > 0 for q in result.quarantined)
    whole = {Path(q.file).suffix for q in result.quarantined if q.line == 0}
    assert whole <= {".csv", ".md"}
