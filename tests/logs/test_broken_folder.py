"""The folder of the acceptance list: each record is in the data or in quarantine, and the counts add up."""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from pathlib import Path

from rlhi.logs import ingest
from rlhi.recipe import Logs
from rlhi.records import Conversation
from tests.logs.broken import write_folder


def test_each_record_is_in_the_data_or_in_quarantine(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    expected = write_folder(folder, good=10_000, broken=2_000)
    heard: list[int] = []
    result = ingest(Logs(paths=(str(folder),)), seed=0, on_progress=heard.append)

    assert {one.conversation_id for one in result.conversations} == expected.good
    refused = {(Path(q.file).name, q.line): q.reason for q in result.quarantined}
    assert refused == expected.refused
    assert result.read == expected.read == 12_000
    assert result.read == len(result.conversations) + sum(q.line > 0 for q in result.quarantined)
    assert result.reasons == dict(expected.reasons())
    assert sum(heard) == result.read and len(heard) == 12 and gc.isenabled()
    assert all(len(q.excerpt) <= 200 and q.detail for q in result.quarantined)


def test_records_built_without_validation_are_valid(tmp_path: Path) -> None:
    write_folder(tmp_path / "logs", good=300, broken=100)
    result = ingest(Logs(paths=(str(tmp_path / "logs"),), min_conversations=1), seed=3)
    for one in result.conversations:
        assert Conversation.model_validate(one.model_dump()) == one
        Conversation.model_validate_json(one.model_dump_json())
        roles = [message.role for message in one.messages]
        assert all(a != b for a, b in itertools.pairwise(roles))
    assert Counter(one.split for one in result.conversations)["apart"] == 0
