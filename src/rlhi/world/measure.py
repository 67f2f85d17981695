"""How well a run's labels and personas agree with the truth of the world that its logs came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from rlhi.flow.folder import RunFolder
from rlhi.flow.table import read_rows
from rlhi.records import Label, LabelledTurn, PersonaCard
from rlhi.world.preferences import Preference, condition_kind, dimensions, meaning
from rlhi.world.truth import Truth


@dataclass(frozen=True)
class LabelQuality:
    """Agreement of labels with the truth."""

    macro_f1: float
    """Mean of the F1 of the labels that occur in the truth, 0–1."""
    f1: Mapping[str, float]
    """F1 of each label that occurs in the truth, 0–1."""
    satisfaction_error: float
    """Mean absolute difference of satisfaction, in levels."""
    confusion: Mapping[tuple[str, str], int]
    """How often (true label, given label) occurs."""
    n: int
    """Labels compared."""


@dataclass(frozen=True)
class PersonaQuality:
    """Agreement of persona statements with the truth."""

    precision: float
    """Share of right statements among the right and the wrong, 0–1; 1 where there are none."""
    recall: float
    """Share of the preferences held that a card says, 0–1."""
    recall_voiced: float
    """The same of those preferences that the user had said before, 0–1."""
    unknown: int
    """Statements of which the world knows nothing."""
    statements: int
    """All statements."""
    cards: int
    """Cards compared."""


def label_quality(labels: Iterable[LabelledTurn], truth: Truth) -> LabelQuality:
    """Compare labels with the truth; turns that are not of this world are left out."""
    confusion: Counter[tuple[str, str]] = Counter()
    distance = 0
    for row in labels:
        true = truth.turns.get((row.conversation_id, row.turn))
        if true and row.turn:
            confusion[true.label, row.label] += 1
            distance += abs(true.satisfaction - row.satisfaction)
    f1 = {label: _f1(confusion, label) for label in get_args(Label) if any(true == label for true, _ in confusion)}
    n = confusion.total()
    return LabelQuality(
        macro_f1=sum(f1.values()) / len(f1) if f1 else 0.0,
        f1=f1,
        satisfaction_error=distance / n if n else 0.0,
        confusion=dict(confusion),
        n=n,
    )


def _f1(confusion: Counter[tuple[str, str]], label: str) -> float:
    hit = confusion[label, label]
    given = sum(count for (_, said), count in confusion.items() if said == label)
    true = sum(count for (said, _), count in confusion.items() if said == label)
    return 2 * hit / (given + true) if given + true else 0.0


def persona_quality(cards: Iterable[PersonaCard], truth: Truth) -> PersonaQuality:
    """Compare cards with what their users want at the card's moment; a card without one, with the end of the logs."""
    verdicts: Counter[str] = Counter()
    held = found = voiced = found_voiced = number = 0
    for card in cards:
        if card.user_id not in truth.users:
            continue
        number += 1
        at = datetime.fromisoformat(card.as_of) if card.as_of else max(t.at for t in truth.turns.values())
        verdicts.update(truth.matches(card.user_id, s.text, s.condition, at) for s in card.statements)
        said = [p for p in truth.preferences(card.user_id, at) if _says(card, p, truth, at)]
        spoken = truth.voiced(card.user_id, at)
        held += len(truth.preferences(card.user_id, at))
        found += len(said)
        voiced += len(spoken)
        found_voiced += sum(p in said for p in spoken)
    judged = verdicts["right"] + verdicts["wrong"]
    return PersonaQuality(
        precision=verdicts["right"] / judged if judged else 1.0,
        recall=found / held if held else 1.0,
        recall_voiced=found_voiced / voiced if voiced else 1.0,
        unknown=verdicts["unknown"],
        statements=verdicts.total(),
        cards=number,
    )


def _says(card: PersonaCard, preference: Preference, truth: Truth, at: datetime) -> bool:
    """Whether a right statement of the card says this preference."""
    for s in card.statements:
        if meaning(s.text) != (preference.dimension, preference.value):
            continue
        kind = condition_kind(s.condition) if s.condition else None
        only = len(dimensions()[preference.dimension].kinds) == 1
        if kind == preference.condition or only:
            return True
    return False


def measure_run(run: Path, truth: Path) -> dict[str, Any]:
    """Labels and personas of a run against the truth of its logs, as JSON-able figures. Raises `UsageError`.

    Of each user only the last card is compared: the one that all the user's conversations made.
    """
    folder, true = RunFolder.existing(run), Truth(truth)
    labels = label_quality(read_rows(folder.rows_path("labels"), LabelledTurn), true)
    cards = read_rows(folder.rows_path("personas"), PersonaCard)
    personas = persona_quality((card for card in cards if not card.before), true)
    told = {"/".join(pair): count for pair, count in sorted(labels.confusion.items())}
    return {"labels": {**asdict(labels), "confusion": told}, "personas": asdict(personas)}
