"""What the sections of the page show, computed from `ReportData`; the templates only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlhi.feedback.taxonomy import LABELS
from rlhi.records import ChatMessage, Dimension, PersonaCard, PreferencePair, Score, Statement, TurnRef
from rlhi.report.arms import ArmMark, arms
from rlhi.report.data import Loss, ReportData, RoleUse, StageFacts
from rlhi.report.text import date, excerpt, highlighted

SOURCES = {"ugr": "User-guided rewrite", "ubr": "User-based reward"}
QUOTE_CHARS = 280
REPLY_CHARS = 1800


@dataclass(frozen=True)
class Bar:
    """One bar of the funnel."""

    name: str
    count: int
    share: float
    """Length of the bar, 0–1 of the longest."""
    note: str
    kind: str = "trunk"


def funnel_bars(data: ReportData) -> list[Bar]:
    """From messages to pairs, all bars on one scale; only steps that the run has reached."""
    logs, entered = data.logs, {stage.stage: stage.rows_in for stage in data.funnel}
    labelled = sum(logs.labels.values())
    feedback = logs.labels.get("reattempt_with_feedback", 0)
    requests = entered.get("pairs/ubr", 0)
    ugr, ubr = (data.pair_counts.get(source, 0) for source in ("ugr", "ubr"))
    steps = [
        ("Messages read", logs.messages, f"{logs.conversations} conversations, {logs.users} users", "trunk"),
        ("by users", logs.user_messages, "", "trunk"),
        ("that answer a reply, labelled", labelled, "", "trunk"),
        ("Feedback that says what to change", feedback, "of the labelled messages", "ugr"),
        ("User-guided rewrite pairs", ugr, "after validity gate, rewrite and filter", "ugr"),
        ("Requests to sample replies for", requests, "", "ubr"),
        ("User-based reward pairs", ubr, "best against worst reply, by the user's persona", "ubr"),
    ]
    longest = max((count for _, count, _, _ in steps), default=0)
    return [Bar(name, count, count / longest, note, kind) for name, count, note, kind in steps if count]


def label_bars(data: ReportData) -> list[Bar]:
    """The labels in the taxonomy's order, as shares of all labelled messages."""
    total = sum(data.logs.labels.values())
    counts = [(label, data.logs.labels.get(label, 0)) for label in LABELS]
    return [Bar(label, count, count / total, "") for label, count in counts if count]


def kept(stage: StageFacts) -> int:
    """Rows of a stage that were neither dropped nor failed."""
    return stage.rows_in - sum(stage.dropped.values()) - stage.failed


@dataclass(frozen=True)
class ScoreLine:
    """One arm in the table of results."""

    mark: ArmMark
    cells: Mapping[str, Score]
    """Scores by turns: `all`, `initial`, `follow_up`."""

    @property
    def widest(self) -> Score:
        """The score over most verdicts."""
        return max(self.cells.values(), key=lambda score: score.n)


def score_lines(data: ReportData, judge: str, dimension: Dimension) -> list[ScoreLine]:
    """The arms that a judge scored in a dimension, in the recipe's order."""
    lines = []
    for mark in arms(data):
        rows = [s for s in data.scores if (s.arm, s.judge, s.dimension) == (mark.name, judge, dimension)]
        if rows:
            lines.append(ScoreLine(mark, {score.turns: score for score in rows}))
    return lines


@dataclass(frozen=True)
class Quote:
    """A piece of evidence: the user's own words."""

    words: Markup
    day: str
    place: str
    """The turn's address, for `rlhi pair` and the logs."""


@dataclass(frozen=True)
class CardLine:
    """A statement with the words that it was drawn from."""

    statement: Statement
    quotes: list[Quote]


@dataclass(frozen=True)
class CardView:
    """A persona card with its evidence."""

    card: PersonaCard
    lines: list[CardLine]


def card_view(card: PersonaCard, data: ReportData) -> CardView:
    """A card with the words behind each line; evidence whose words are not in the logs keeps its address."""
    return CardView(card, [CardLine(s, [_quote(ref, data) for ref in s.evidence]) for s in card.statements])


def _quote(ref: TurnRef, data: ReportData) -> Quote:
    said = data.words.get(ref)
    words = excerpt(said.text, QUOTE_CHARS) if said else Markup("<i>not in these logs</i>")
    return Quote(words, date(said.at if said else None), f"{ref.conversation_id} · turn {ref.turn}")


@dataclass(frozen=True)
class PairView:
    """A pair as it is shown, its texts escaped and bounded."""

    pair: PreferencePair
    source: str
    day: str
    persona: Markup | None
    history: list[tuple[str, Markup]]
    request: Markup
    feedback: Markup | None
    rejected: Markup
    chosen: Markup
    logged: Markup | None
    """The logged reply, where the policy's own took its place."""


def pair_view(pair: PreferencePair, data: ReportData) -> PairView:
    """A pair with the user's words and the span that shows the feedback."""
    said = data.words.get(TurnRef(conversation_id=pair.conversation_id, turn=pair.turn))
    why = pair.provenance
    system = [message.content for message in pair.prompt if message.role == "system"]
    chat = [message for message in pair.prompt if message.role != "system"]
    rejected = text_of(pair.rejected)
    return PairView(
        pair=pair,
        source=SOURCES[pair.source],
        day=date(said.at if said else None),
        persona=excerpt("\n".join(system)) if system else None,
        history=[(message.role, excerpt(message.content, QUOTE_CHARS * 3)) for message in chat[:-1]],
        request=excerpt(chat[-1].content if chat else "", REPLY_CHARS),
        feedback=highlighted(why.feedback, why.span, REPLY_CHARS) if why.feedback else None,
        rejected=excerpt(rejected, REPLY_CHARS),
        chosen=excerpt(text_of(pair.chosen), REPLY_CHARS),
        logged=excerpt(why.logged_reply, REPLY_CHARS) if why.logged_reply not in ("", rejected) else None,
    )


def text_of(messages: Sequence[ChatMessage]) -> str:
    """The text of a side of a pair."""
    return "\n\n".join(message.content for message in messages)


@dataclass(frozen=True)
class LossTable:
    """What one stage lost, by reason."""

    stage: str
    reasons: list[tuple[str, str, int, list[Loss]]]
    """Kind, reason, count and examples, frequent ones first."""


def loss_tables(data: ReportData) -> list[LossTable]:
    """Everything that did not go on, with its examples, in the order of the run."""
    counts: dict[str, dict[tuple[str, str], int]] = {}
    if data.quarantined:
        counts["logs"] = {("quarantined", reason): count for reason, count in data.quarantined.items()}
    for stage in data.funnel:
        lost = {("dropped", reason): count for reason, count in stage.dropped.items()}
        if stage.failed:
            lost["failed", ""] = stage.failed
        if lost:
            counts[stage.stage] = lost
    tables = []
    for name, lost in counts.items():
        ranked = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        rows = [(kind, reason, count, _examples(data, name, kind, reason)) for (kind, reason), count in ranked]
        tables.append(LossTable(name, rows))
    return tables


def _examples(data: ReportData, stage: str, kind: str, reason: str) -> list[Loss]:
    flat = stage.replace("/", "-")
    found = [loss for loss in data.losses if loss.kind == kind and loss.stage in (stage, flat)]
    return [loss for loss in found if reason in ("", loss.reason)]


def role_use(data: ReportData) -> dict[str, RoleUse]:
    """What each role asked of its model, over all stages."""
    total: dict[str, RoleUse] = {}
    for stage in data.funnel:
        for role, use in stage.calls.items():
            total[role] = add_use(total.get(role, RoleUse()), use)
    return total


def add_use(a: RoleUse, b: RoleUse) -> RoleUse:
    """Two uses as one; the cost is unknown only where both are."""
    costs = [use.cost for use in (a, b) if use.cost is not None]
    return RoleUse(
        a.sent + b.sent,
        a.cached + b.cached,
        a.prompt_tokens + b.prompt_tokens,
        a.completion_tokens + b.completion_tokens,
        sum(costs) if costs else None,
    )


@dataclass(frozen=True)
class Validation:
    """Figures on the pairs of users that nothing was learnt from, before and after training."""

    run: str
    figures: list[tuple[str, float, float]]
    """Name, first and last value."""


def validations(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Validation]:
    """First and last value of each figure that a curve calls `validation…`."""
    found = []
    for run, rows in curves.items():
        values: dict[str, list[float]] = {}
        for row in rows:
            for key, value in row.items():
                if key.startswith("validation") and isinstance(value, int | float):
                    values.setdefault(key.removeprefix("validation").strip("_"), []).append(value)
        if values:
            found.append(Validation(run, [(key, seen[0], seen[-1]) for key, seen in values.items()]))
    return found
