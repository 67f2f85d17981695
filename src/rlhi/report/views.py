"""What the sections of the page show, computed from `ReportData`; the templates only lay it out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlhi.feedback.taxonomy import LABELS
from rlhi.records import ChatMessage, Dimension, PersonaCard, PreferencePair, Score, Statement, TurnRef
from rlhi.report.arms import ArmMark, arms
from rlhi.report.data import Loss, ReportData, RoleUse, StageFacts
from rlhi.report.text import date, excerpt, highlighted
from rlhi.settings import PAIR_SOURCES, PairSource, pair_stage

SOURCES: dict[PairSource, str] = {"ugr": "User-guided rewrite", "ubr": "User-based reward"}
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


TOGETHER = ("model", "replies", "verdicts")


def grouped(stages: Sequence[StageFacts]) -> list[StageFacts]:
    """The stages with the parts of one step (a training or an arm's replies per seed) added up."""
    groups: dict[str, list[StageFacts]] = {}
    for stage in stages:
        groups.setdefault(group(stage.stage), []).append(stage)
    return [parts[0] if len(parts) == 1 else _together(name, parts) for name, parts in groups.items()]


def group(stage: str) -> str:
    """The step that a stage is part of: `replies` for `replies/base-seed-0`, else the stage itself."""
    head = stage.partition("/")[0]
    return head if head in TOGETHER else stage


def _together(name: str, parts: Sequence[StageFacts]) -> StageFacts:
    dropped: dict[str, int] = {}
    calls: dict[str, RoleUse] = {}
    for part in parts:
        for reason, count in part.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        for role, use in part.calls.items():
            calls[role] = add_use(calls.get(role, RoleUse()), use)
    times = [part.seconds for part in parts if part.seconds is not None]
    return StageFacts(
        f"{name} ({len(parts)} parts)",
        rows_in=sum(part.rows_in for part in parts),
        rows_out=sum(part.rows_out for part in parts),
        dropped=dropped,
        failed=sum(part.failed for part in parts),
        held_out=sum(part.held_out for part in parts),
        seconds=sum(times) if times else None,
        reused=all(part.reused for part in parts),
        calls=calls,
    )


def funnel_bars(data: ReportData) -> list[Bar]:
    """From messages to pairs, all bars on one scale; only steps that the run has reached."""
    logs, entered = data.logs, {stage.stage: stage.rows_in for stage in data.funnel}
    labelled = sum(logs.labels.values())
    feedback = logs.labels.get("reattempt_with_feedback", 0)
    requests = entered.get(pair_stage("ubr"), 0)
    ugr, ubr = (data.pair_counts.get(source, 0) for source in PAIR_SOURCES)
    steps = [
        ("Messages read", logs.messages, f"{logs.conversations} conversations, {logs.users} users", "trunk"),
        ("by users", logs.user_messages, "", "trunk"),
        ("that answer a reply, labelled", labelled, "", "trunk"),
        ("Feedback that says what to change", feedback, "", "ugr"),
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
    """Rows of a stage that were neither dropped nor held out, and did not fail."""
    return stage.rows_in - sum(stage.dropped.values()) - stage.failed - stage.held_out


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
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    counts["conversations"].update({("quarantined", reason): count for reason, count in data.quarantined.items()})
    for stage in data.funnel:
        lost = counts[group(stage.stage)]
        for reason, count in stage.dropped.items():
            if ("quarantined", reason) not in lost:
                lost["dropped", reason] += count
        if stage.failed:
            lost["failed", ""] += stage.failed
    tables = []
    for name, lost in counts.items():
        if not lost:
            continue
        ranked = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        rows = [(kind, reason, count, _examples(data, name, kind, reason)) for (kind, reason), count in ranked]
        tables.append(LossTable(name, rows))
    return tables


def _examples(data: ReportData, stage: str, kind: str, reason: str) -> list[Loss]:
    flat = stage.replace("/", "-")
    found = [loss for loss in data.losses if loss.kind == kind and reason in ("", loss.reason)]
    return [loss for loss in found if loss.stage == flat or (flat in TOGETHER and loss.stage.startswith(f"{flat}-"))]


def role_use(data: ReportData) -> dict[str, RoleUse]:
    """What each role asked of its model, over all stages."""
    total: dict[str, RoleUse] = {}
    for stage in data.funnel:
        for role, use in stage.calls.items():
            total[role] = add_use(total.get(role, RoleUse()), use)
    return total


def add_use(a: RoleUse, b: RoleUse) -> RoleUse:
    """Two uses as one."""
    return RoleUse(
        a.sent + b.sent,
        a.cached + b.cached,
        a.prompt_tokens + b.prompt_tokens,
        a.completion_tokens + b.completion_tokens,
    )


@dataclass(frozen=True)
class TrainingLine:
    """What one training came to."""

    run: str
    summary: Mapping[str, Any]
    figures: Mapping[str, tuple[float, float]]
    """On pairs of users that nothing was learnt from: before and after, by name."""


def trainings(data: ReportData) -> list[TrainingLine]:
    """The trainings with their figures on held-out users' pairs."""
    found = []
    for run, summary in data.trainings.items():
        metrics = summary.get("metrics") or {}
        names = [key.removesuffix("_before") for key in metrics if key.endswith("_before")]
        figures = {
            name.removeprefix("validation_"): (metrics[f"{name}_before"], metrics[f"{name}_after"])
            for name in names
            if f"{name}_after" in metrics
        }
        found.append(TrainingLine(run, summary, figures))
    return found


def figure_names(runs: Sequence[TrainingLine]) -> list[str]:
    """The figures that any training has, in their first order."""
    return list(dict.fromkeys(name for run in runs for name in run.figures))


def absolute_rows(data: ReportData) -> list[Mapping[str, Any]]:
    """Absolute figures over all turns, in the recipe's order of arms; empty where no truth is known."""
    rows = {row["arm"]: row for row in data.arms}
    known = [rows[mark.name] for mark in arms(data) if mark.name in rows]
    return known if any(row.get("personalization") is not None for row in known) else []


def bound_to(data: ReportData, role: str) -> str:
    """The model behind a role."""
    name = (data.recipe.get("roles") or {}).get(role)
    if name == "local" and role in ("policy", "rewriter"):
        return f"{(data.recipe.get('training') or {}).get('model', 'embedded')}, in process"
    return str(name or "–")
