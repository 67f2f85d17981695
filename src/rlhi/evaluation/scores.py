"""From verdicts to the table of results: win rates with intervals clustered by user, and lengths beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import orjson

from rlhi.evaluation.intervals import by_user, win_rate_interval
from rlhi.evaluation.judges import DIMENSIONS
from rlhi.evaluation.turns import EvalTurn
from rlhi.flow.whole import write_atomic
from rlhi.records import Dimension, Record, Reply, Score, TurnKind, Verdict, digest
from rlhi.settings import Evaluation

KINDS: tuple[TurnKind, ...] = get_args(TurnKind)
_Row = tuple[str, str, str, Dimension, TurnKind]
_Place = tuple[str, int, str, int]


def words(text: str) -> int:
    """Length of a reply: its parts between white space."""
    return len(text.split())


def scores(
    verdicts: Iterable[Verdict], replies: Iterable[Reply], turns: Iterable[EvalTurn], settings: Evaluation, seed: int
) -> list[Score]:
    """A row per arm, judge, dimension and kind of turn that has verdicts, in the order of the recipe.

    The seeds of an arm are pooled: all verdicts on one user's turns, whatever the seed, are one cluster, so the
    interval says how far other users may differ, not other trainings. Neither the order of the rows nor other arms
    change a figure.
    """
    kinds = {(turn.conversation_id, turn.turn): turn.kind for turn in turns}
    lengths: dict[_Place, int] = {(r.arm, r.seed, r.conversation_id, r.turn): words(r.text) for r in replies}
    groups: dict[_Row, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        kind = kinds[verdict.conversation_id, verdict.turn]
        for turn_kind in (kind, "all"):
            groups[verdict.arm, verdict.against, verdict.judge, verdict.dimension, turn_kind].append(verdict)
    arms, judges = [arm.name for arm in settings.arms], list(settings.judges)
    order = sorted(
        groups,
        key=lambda row: (_place(judges, row[2]), _place(arms, row[0]), DIMENSIONS.index(row[3]), KINDS.index(row[4])),
    )
    return [_score(row, groups[row], lengths, settings.bootstrap, seed) for row in order]


def _place(names: Sequence[str], name: str) -> tuple[int, str]:
    return (names.index(name) if name in names else len(names), name)


def _score(row: _Row, verdicts: list[Verdict], lengths: Mapping[_Place, int], resamples: int, seed: int) -> Score:
    arm, against, judge, dimension, kind = row
    verdicts = sorted(verdicts, key=lambda v: (v.user_id, v.conversation_id, v.turn, v.seed))
    sums, counts = by_user([v.user_id for v in verdicts], [v.win for v in verdicts])
    rng = np.random.default_rng(int(digest([seed, *row])[:16], 16))
    low, high = win_rate_interval(sums, counts, resamples, rng)
    return Score(
        arm=arm,
        against=against,
        judge=judge,
        dimension=dimension,
        turns=kind,
        win_rate=float(sums.sum() / counts.sum()),
        low=low,
        high=high,
        n=len(verdicts),
        users=len(counts),
        length=_mean_length(arm, verdicts, lengths),
        length_against=_mean_length(against, verdicts, lengths),
        seeds=tuple(sorted({v.seed for v in verdicts})),
    )


def _mean_length(arm: str, verdicts: Sequence[Verdict], lengths: Mapping[_Place, int]) -> float:
    return sum(lengths[arm, v.seed, v.conversation_id, v.turn] for v in verdicts) / len(verdicts)


def write_scores(path: Path, rows: Sequence[Score], verdict: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
    """Write `scores.json`: the rows under `scores`, `verdict`, and what `extra` adds; it appears whole or not at all.

    Equal results give equal bytes. Raises `ValueError` where `extra` would hide `scores` or `verdict`.
    """
    if taken := {"scores", "verdict"} & set(extra):
        raise ValueError(f"extra may not hold {sorted(taken)}: scores.json has these of its own")
    content = {"scores": list(rows), "verdict": dict(verdict), **extra}
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    write_atomic(path, orjson.dumps(content, default=_plain, option=options))


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    raise TypeError(f"scores.json cannot hold a {type(value).__name__}")
