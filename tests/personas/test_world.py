"""Labels and cards of simulated users who speak in phrasings that nothing was trained on."""

from __future__ import annotations

import asyncio
import gzip
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from rlhi.feedback.label import LabelStage
from rlhi.flow.stage import Context, run_row
from rlhi.personas.stage import PersonaStage, UserHistory
from rlhi.records import Conversation, LabelledTurn, Message, PersonaCard
from rlhi.world.measure import label_quality, persona_quality
from rlhi.world.simulate import write_world
from rlhi.world.truth import Truth

USERS, SEED = 40, 11


def conversations(logs: Path) -> list[Conversation]:
    found = []
    for path in sorted(logs.iterdir()):
        for number, line in enumerate(gzip.decompress(path.read_bytes()).splitlines(), start=1):
            row = orjson.loads(line)
            said = tuple(
                Message(role=told["role"], content=told["content"], timestamp=told["timestamp"])
                for told in row["conversation"]
            )
            found.append(
                Conversation(
                    conversation_id=row["conversation_hash"],
                    user_id=row["hashed_ip"],
                    started_at=min(message.timestamp for message in said if message.timestamp),
                    language="en",
                    model=row["model"],
                    source=f"{path.name}:{number}",
                    split="train",
                    messages=said,
                )
            )
    return found


Made = tuple[Truth, list[LabelledTurn], list[PersonaCard]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("world")
    write_world(out, users=USERS, seed=SEED, phrasings="test")
    return Truth(out / "truth"), *asyncio.run(_label_and_gather(conversations(out / "logs")))


async def _label_and_gather(rows: list[Conversation]) -> tuple[list[LabelledTurn], list[PersonaCard]]:
    labels: dict[str, list[LabelledTurn]] = defaultdict(list)
    users: dict[str, list[Conversation]] = defaultdict(list)
    for row in rows:
        users[row.user_id].append(row)
        result = await run_row(LabelStage(), row, Context())
        assert result.failed is None, result.failed
        labels[row.user_id] += [label for label in result.outputs if isinstance(label, LabelledTurn)]
    cards: list[PersonaCard] = []
    for user, own in users.items():
        history = UserHistory(user_id=user, conversations=tuple(own), labels=tuple(labels[user]))
        result = await run_row(PersonaStage(), history, Context())
        assert result.failed is None, result.failed
        cards += [card for card in result.outputs if isinstance(card, PersonaCard)]
    return [label for own_labels in labels.values() for label in own_labels], cards


def test_macro_f1_of_the_local_labeler(made: Made) -> None:
    truth, labels, _ = made
    quality = label_quality(labels, truth)
    assert quality.n == sum(turn > 0 for _, turn in truth.turns)
    assert quality.macro_f1 >= 0.85, quality.f1


def test_precision_and_recall_of_the_last_cards(made: Made) -> None:
    truth, _, cards = made
    quality = persona_quality([card for card in cards if not card.before], truth)
    assert quality.cards == USERS
    assert quality.precision >= 0.90, quality
    assert quality.recall_voiced >= 0.70, quality


def test_precision_of_all_cards(made: Made) -> None:
    truth, _, cards = made
    assert persona_quality(cards, truth).precision >= 0.88
