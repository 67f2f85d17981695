"""Records survive Parquet, and equal rows give equal bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.errors import UsageError
from rlhi.flow.table import arrow_schema, count_rows, read_rows, write_rows
from rlhi.records import (
    ChatMessage,
    Conversation,
    GateResult,
    LabelledTurn,
    Message,
    PersonaCard,
    PreferencePair,
    Provenance,
    Quarantined,
    Score,
    Statement,
    TurnRef,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)

CONVERSATIONS = st.builds(
    Conversation,
    conversation_id=TEXT,
    user_id=TEXT,
    started_at=st.none() | TEXT,
    language=st.just("en"),
    model=TEXT,
    source=TEXT,
    split=st.sampled_from(["train", "later", "history", "heldout", "apart"]),
    messages=st.lists(
        st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=TEXT, timestamp=st.none() | TEXT),
        max_size=3,
    ).map(tuple),
    flags=st.lists(TEXT, max_size=2).map(tuple),
)
CARDS = st.builds(
    PersonaCard,
    user_id=TEXT,
    version=st.integers(0, 5),
    as_of=st.none() | TEXT,
    before=TEXT,
    statements=st.lists(
        st.builds(
            Statement,
            text=TEXT,
            condition=TEXT,
            confidence=st.floats(0, 1),
            evidence=st.lists(
                st.builds(TurnRef, conversation_id=TEXT, turn=st.integers(0, 9)), min_size=1, max_size=2
            ).map(tuple),
            learnt_at=st.none() | TEXT,
        ),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(CONVERSATIONS, max_size=4), cards=st.lists(CARDS, max_size=4))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Conversation], cards: list[PersonaCard]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    write_rows(folder / "c.parquet", Conversation, rows)
    write_rows(folder / "p.parquet", PersonaCard, cards)
    assert read_rows(folder / "c.parquet", Conversation) == rows
    assert read_rows(folder / "p.parquet", PersonaCard) == cards
    assert count_rows(folder / "c.parquet") == len(rows)


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    rows = [Quarantined(file="a", line=n, reason="r", detail="d", excerpt="é") for n in range(3)]
    write_rows(tmp_path / "1.parquet", Quarantined, rows)
    write_rows(tmp_path / "2.parquet", Quarantined, iter(rows))
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_another_records_file_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "q.parquet", Quarantined, [])
    with pytest.raises(UsageError, match="not the fields of LabelledTurn"):
        read_rows(tmp_path / "q.parquet", LabelledTurn)
    with pytest.raises(UsageError, match="run the stage"):
        read_rows(tmp_path / "none.parquet", LabelledTurn)


@pytest.mark.parametrize("record", [Conversation, LabelledTurn, PersonaCard, PreferencePair, Score, Quarantined])
def test_schema_documents_each_field(record: type[Conversation], tmp_path: Path) -> None:
    schema = arrow_schema(record)
    assert schema.names == list(record.model_fields)
    assert all(field.metadata[b"description"] for field in schema)


def test_pairs_are_in_trls_conversational_format(tmp_path: Path) -> None:
    why = Provenance(
        label="new_request", span="", feedback="", logged_reply="", persona_version=0, prompts="", models="",
        chosen_score=1, rejected_score=0, candidates=2,
        gates=(GateResult(gate="margin", passed=True, value=1, threshold=0),),
    )  # fmt: skip
    user = ChatMessage(role="user", content="q")
    good, bad = (ChatMessage(role="assistant", content=text) for text in "ab")
    pair = PreferencePair(
        pair_id="1", prompt=(user,), chosen=(good,), rejected=(bad,), user_id="u", conversation_id="c", turn=0,
        source="ubr", weight=1, provenance=why,
    )  # fmt: skip
    write_rows(tmp_path / "pairs.parquet", PreferencePair, [pair])
    row = pq.read_table(tmp_path / "pairs.parquet").to_pylist()[0]
    assert row["prompt"] == [{"role": "user", "content": "q"}]
    assert row["chosen"] == [{"role": "assistant", "content": "a"}]
    assert row["rejected"] == [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"x" * len(data)])
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "q.parquet"
    write_rows(path, Quarantined, [Quarantined(file="a", line=1, reason="r", detail="d", excerpt="e")])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"q\.parquet is damaged.*delete it"):
        read_rows(path, Quarantined)


def test_rows_are_on_the_disk_before_they_take_the_place_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(number: int) -> None:
        order.append("sync")
        sync(number)

    def move(path: Path, target: Path) -> Path:
        order.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", move)
    write_rows(tmp_path / "q.parquet", Quarantined, [])
    assert order == ["sync", "replace"]
