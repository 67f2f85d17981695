"""What a reader must know before believing the page, as far as it follows from the data."""

from __future__ import annotations

from collections.abc import Iterator

from rlhi.evaluation.control import CHANCE, fate
from rlhi.evaluation.intervals import FEW_USERS
from rlhi.report.arms import LIKELIHOOD, TRUTH, headline
from rlhi.report.data import ReportData
from rlhi.report.text import percent

LENGTH_RATIO = 1.2
MANY_QUARANTINED = 0.1


def find_warnings(data: ReportData) -> list[str]:
    """Warnings, the gravest first."""
    return [*_embedded(data), *_judges(data), *_controls(data), *_strength(data), *_length(data), *_losses(data)]


def _embedded(data: ReportData) -> Iterator[str]:
    policy = (data.recipe.get("roles") or {}).get("policy", "local")
    local = {"model": (data.recipe.get("training") or {}).get("model", "embedded")}
    named = (data.recipe.get("models") or {}).get(policy) or (local if policy == "local" else {"model": policy})
    has_answered = bool(data.pair_counts or data.scores)
    if named.get("model") == "embedded" and has_answered and not _from_world(data):
        yield (
            "The policy is the small embedded model, which knows only the simulated world, and these logs are not from "
            "there. Its prose is of no use here: the replies, the pairs and the win rates below show that every stage "
            "works on these logs, and nothing about quality. Name a hub model or a server in the recipe for that."
        )


def _from_world(data: ReportData) -> bool:
    """Whether simulated users wrote the logs: only they leave a truth to judge by."""
    return data.logs.from_world or TRUTH in ((data.recipe.get("evaluation") or {}).get("judges") or ())


def _judges(data: ReportData) -> Iterator[str]:
    judges = {score.judge for score in data.scores}
    if judges == {LIKELIHOOD}:
        yield (
            "The only judge is `likelihood`: statistics of the base model, no reader. It is a weak judge, and it "
            "favours policies that were trained on such a reward. Take these win rates as a check of the machinery; a "
            "claim needs the truth of a simulated world, a judge model, or people."
        )
    elif LIKELIHOOD in judges:
        yield "`likelihood` is a weak judge, by statistics of the base model: read it only beside the others."


def _controls(data: ReportData) -> Iterator[str]:
    gains = {(s.arm, s.judge) for s in data.scores if (s.dimension, s.turns) == ("overall", "all") and s.low > CHANCE}
    for row in data.differences:
        if (row.arm, row.judge) in gains and fate(row) in ("not_personal", "partly"):
            yield (
                f"The control “{row.control}” wins {percent(row.control_win_rate)} where “{row.arm}” wins "
                f"{percent(row.win_rate)}, judged by {row.judge}: what is won under another user's persona too is not "
                "personalization."
            )


def _strength(data: ReportData) -> Iterator[str]:
    score = headline(data)
    if score is None:
        return
    if score.users < FEW_USERS:
        yield f"Only {score.users} users were evaluated: the intervals are wide, and rough at so few."
    if len(score.seeds) == 1:
        yield "One seed only: how much the result varies between trainings is not known. A claim needs at least three."


def _length(data: ReportData) -> Iterator[str]:
    score = headline(data)
    if score is None or not score.length_against or not score.length:
        return
    ratio = score.length / score.length_against
    if not 1 / LENGTH_RATIO <= ratio <= LENGTH_RATIO:
        word = "longer" if ratio > 1 else "shorter"
        yield (
            f"Replies of “{score.arm}” are {percent(abs(ratio - 1), 0)} {word} than those of “{score.against}”: length "
            "alone can move a judge."
        )


def _losses(data: ReportData) -> Iterator[str]:
    for stage in data.funnel:
        if stage.failed:
            yield (
                f"{stage.failed} of {stage.rows_in} rows failed in stage `{stage.stage}`; run the recipe again to "
                "retry them."
            )
    lost = sum(data.quarantined.values())
    total = lost + data.logs.conversations
    if total and lost / total > MANY_QUARANTINED:
        yield f"{percent(lost / total, 0)} of the records in the logs ({lost} of {total}) could not be used."
