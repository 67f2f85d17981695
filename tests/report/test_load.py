"""What the report reads of a run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rlhi.errors import UsageError
from rlhi.flow.table import write_rows
from rlhi.records import Conversation, TurnRef
from rlhi.report import views
from rlhi.report.load import load
from rlhi.world.wildchat import MODEL
from tests.report.sample import conversations, user, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "sample")


def test_sizes_and_stages_in_the_order_of_a_run(run: Path) -> None:
    data = load(run)
    assert (data.logs.conversations, data.logs.users, data.logs.messages, data.logs.user_messages) == (18, 6, 90, 54)
    assert data.logs.labels["reattempt_with_feedback"] == 18 and sum(data.logs.labels.values()) == 36
    assert not data.logs.from_world
    names = [stage.stage for stage in data.funnel]
    assert names[:5] == ["conversations", "labels", "personas", "pairs/ugr", "pairs/ubr"]
    assert data.pair_counts == {"ugr": 12, "ubr": 12}
    assert len(data.curves) == len(data.trainings) == 9 and len(data.curves["ugr+ubr/seed-2"]) == 60


def test_each_stage_accounts_for_its_rows_quarantine_included(run: Path) -> None:
    facts = {stage.stage: stage for stage in load(run).funnel}
    assert facts["conversations"].dropped == {"bad_json": 1, "unknown_role": 1}
    assert views.kept(facts["conversations"]) == facts["conversations"].rows_out == 18
    assert views.kept(facts["pairs/ugr"]) == facts["pairs/ugr"].rows_out == 12
    assert views.kept(facts["model/ugr/seed-0"]) == facts["model/ugr/seed-0"].rows_out == 18
    assert facts["pairs/ubr"].calls["reward"].completion_tokens == 288 * 52


def test_what_the_run_took_over_is_marked_and_nothing_else(run: Path) -> None:
    assert [stage.stage for stage in load(run, ["labels", "personas"]).funnel if stage.reused] == ["labels", "personas"]
    assert not any(stage.reused for stage in load(run).funnel)


def test_everything_lost_is_listed_with_examples(run: Path) -> None:
    data = load(run)
    tables = {table.stage: table.reasons for table in views.loss_tables(data)}
    assert {reason: (kind, count) for kind, reason, count, _ in tables["conversations"]} == {
        "bad_json": ("quarantined", 1),
        "unknown_role": ("quarantined", 1),
    }
    ugr = {(kind, reason): (count, examples) for kind, reason, count, examples in tables["pairs/ugr"]}
    assert ugr["dropped", "feedback_no_longer_applies"][0] == 4
    assert len(ugr["dropped", "feedback_no_longer_applies"][1]) == 3
    assert ugr["failed", ""][1][0].detail == "HTTP 503, 5 times"
    assert tables["model"][0][2] == 27


def test_evidence_is_shown_in_the_users_own_words_with_its_day(run: Path) -> None:
    data = load(run)
    card = next(card for card in data.personas if card.user_id == user(1))
    assert card.version == 3
    quote = views.card_view(card, data).lines[0].quotes[0]
    assert quote.words == "I don&#39;t have cups here, can you use grams and millilitres?"
    assert quote.day == "2025-03-07"


def test_cards_that_say_nothing_are_left_out_and_rich_ones_come_first(run: Path) -> None:
    sizes = [len(card.statements) for card in load(run).personas]
    assert sizes == [2, 2, 2, 1, 1, 1]


def test_pairs_are_drawn_from_as_many_users_as_there_are(run: Path) -> None:
    pairs = [pair for pair in load(run).pairs if pair.source == "ugr"]
    assert len(pairs) == 5 and len({pair.user_id for pair in pairs}) == 4
    assert [pair.pair_id for pair in load(run).pairs] == [pair.pair_id for pair in load(run).pairs]


def test_the_first_message_of_a_pair_is_found(run: Path) -> None:
    data, row = load(run), conversations()[0]
    said = data.words.get(TurnRef(conversation_id=row.conversation_id, turn=1))
    assert said and said.text == row.messages[2].content


@pytest.mark.parametrize(
    "absent",
    ["conversations", "labels", "personas", "pairs", "model", "quarantine", "dropped", "failed", "scores.json"],
)
def test_whatever_is_absent_is_left_empty(run: Path, tmp_path: Path, absent: str) -> None:
    copy = tmp_path / "sample"
    shutil.copytree(run, copy)
    gone = copy / absent
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    data = load(copy)
    assert data.name == "sample"
    views.loss_tables(data)


def test_logs_of_simulated_users_are_known_by_their_model(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sample"
    shutil.copytree(run, copy)
    rows = [row.model_copy(update={"model": MODEL}) for row in conversations()]
    write_rows(copy / "conversations" / "conversations.parquet", Conversation, rows)
    assert load(copy).logs.from_world
    mixed = [rows[0].model_copy(update={"model": "gpt-4"}), *rows[1:]]
    write_rows(copy / "conversations" / "conversations.parquet", Conversation, mixed)
    assert not load(copy).logs.from_world


def test_a_run_with_a_recipe_only(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: fresh\n")
    data = load(tmp_path)
    assert data.name == "fresh" and not data.funnel and not data.pairs and not data.scores


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("recipe.yaml", "a: [", "recipe.yaml is damaged"),
        ("recipe.yaml", "- a", "got list"),
        ("scores.json", "{", "scores.json is damaged"),
        ("scores.json", '{"scores": [{"arm": "x"}]}', "a row of `scores` is wrong"),
        ("model/ugr/seed-0/curve.jsonl", '{"step": 1}\n{"ste', "curve.jsonl is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: str, says: str) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    with pytest.raises(UsageError, match=says):
        load(tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no run"):
        load(tmp_path)
