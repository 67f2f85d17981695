"""What the report shows, gathered and bounded: the page is a function of this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlhi.evaluation.control import Difference
from rlhi.records import PersonaCard, PreferencePair, Score, TurnRef


@dataclass(frozen=True)
class RoleUse:
    """What one role asked of its model."""

    sent: int = 0
    """Requests that reached the model."""
    cached: int = 0
    """Requests answered from the completion store."""
    prompt_tokens: int = 0
    """Tokens read by the model."""
    completion_tokens: int = 0
    """Tokens written by the model."""


@dataclass(frozen=True)
class StageFacts:
    """One line of the manifest: what went into a stage and what became of it."""

    stage: str
    """Name of the stage."""
    rows_in: int = 0
    """Rows that it was given."""
    rows_out: int = 0
    """Rows that it wrote; a row may give several."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows left out on purpose, by reason."""
    failed: int = 0
    """Rows that it could not finish."""
    held_out: int = 0
    """Pairs on which a training only measured."""
    seconds: float | None = None
    """Wall-clock time of the work; None where the manifest does not tell."""
    reused: bool = False
    """Whether the run that wrote this page took the output over from an earlier one."""
    calls: Mapping[str, RoleUse] = field(default_factory=dict)
    """What each role asked of its model, by role."""


@dataclass(frozen=True)
class LogCounts:
    """Size of the logs that could be read."""

    conversations: int = 0
    """Conversations kept."""
    users: int = 0
    """Users among them."""
    messages: int = 0
    """Messages in them, of all roles."""
    user_messages: int = 0
    """Messages by users."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Labelled follow-ups, by label."""
    from_world: bool = False
    """Whether rlhi's simulated users wrote these logs."""


@dataclass(frozen=True)
class Said:
    """A user's own message."""

    text: str
    """Its words."""
    at: str | None
    """When it was said, ISO 8601; None where the log does not tell."""


@dataclass(frozen=True)
class Loss:
    """An example of a row that did not go on, and why."""

    stage: str
    """Where it was lost; `logs` for what could not be read."""
    kind: str
    """`dropped`, `failed` or `quarantined`."""
    reason: str
    """Short name of the reason, or the class of the error."""
    about: str
    """What the row was about, or the place in the logs."""
    detail: str
    """The figures or the words behind it."""


@dataclass(frozen=True)
class ReportData:
    """A run as the report shows it. Every part may be empty: the page then says so."""

    name: str
    """Name of the run."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The resolved recipe."""
    funnel: Sequence[StageFacts] = ()
    """The stages, in the order of the run."""
    logs: LogCounts = LogCounts()
    """Size of the logs."""
    quarantined: Mapping[str, int] = field(default_factory=dict)
    """Records of the logs that could not be used, by reason."""
    scores: Sequence[Score] = ()
    """The table of results."""
    differences: Sequence[Difference] = ()
    """Arms against their controls."""
    arms: Sequence[Mapping[str, Any]] = ()
    """Absolute figures per arm and kind of turn, as `rlhi.evaluation.figures.ArmFigures` writes them."""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    """The verdict of the evaluation; `sentence` holds its words."""
    personas: Sequence[PersonaCard] = ()
    """A sample of persona cards."""
    words: Mapping[TurnRef, Said] = field(default_factory=dict)
    """What users said at the turns that personas and pairs cite."""
    pairs: Sequence[PreferencePair] = ()
    """A sample of preference pairs."""
    pair_counts: Mapping[str, int] = field(default_factory=dict)
    """All pairs of the run, by source."""
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Training curves, by `TRAINING/seed-N`: one mapping of figures per optimizer step."""
    trainings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What each training came to, by `TRAINING/seed-N`: `steps`, `pairs`, `held_out`, `metrics`, `validation`."""
    losses: Sequence[Loss] = ()
    """Examples of what was dropped, failed or quarantined."""
