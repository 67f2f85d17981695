"""The charts as Vega-Lite specifications. Log text enters them as data only, never as an expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlhi.records import Dimension, Score
from rlhi.report.arms import ArmMark

Spec = dict[str, Any]

TURNS = {"all": "All turns", "initial": "Initial turns", "follow_up": "Follow-up turns"}
DIMENSIONS: dict[Dimension, str] = {
    "overall": "Overall",
    "personalization": "Personalization",
    "instruction_following": "Instruction following",
}
CURVES = {"loss": "Loss", "accuracy": "Accuracy", "margin": "Reward margin"}
COLOURS = tuple(f"var(--series-{i})" for i in range(1, 7))
MAX_POINTS = 2400
"""Points of one chart of curves, over all its lines: they bound the size of the page."""
SLOT = 15
INK, MUTED, LINE = "var(--ink)", "var(--muted)", "var(--line)"

CONFIG: Spec = {
    "background": None,
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "titleFontSize": 11,
        "labelFontSize": 11,
        "domain": False,
        "ticks": False,
        "gridColor": LINE,
        "labelPadding": 6,
        "titlePadding": 8,
    },
}


def _chart(height: int, values: Sequence[Mapping[str, Any]], description: str, **rest: Any) -> Spec:
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 0, "right": 8, "top": 2, "bottom": 0},
        "background": None,
        "description": description,
        "data": {"values": list(values)},
        "config": CONFIG,
        **rest,
    }


def label(mark: ArmMark) -> str:
    """An arm's name with the word that marks it as a control."""
    return f"{mark.name} · control" if mark.kind == "control" else mark.name


def reach(scores: Sequence[Score]) -> tuple[float, float]:
    """Ends of the axis in percent, around 50, that hold every interval."""
    far = max((max(50 - 100 * s.low, 100 * s.high - 50) for s in scores), default=50)
    half = min(50, max(10, 10 * -(-far // 10)))
    return 50 - half, 50 + half


SLOTS = ["", *TURNS.values()]
"""Lines of an arm's row: its name, then a whisker per kind of turn."""
SHAPES = ["circle", "circle", "square", "diamond"]
STROKES = [INK, INK, *COLOURS[:2]]


def arms_chart(
    scores: Sequence[Score], marks: Sequence[ArmMark], judge: str, dimension: Dimension, domain: tuple[float, float]
) -> Spec | None:
    """Dot and whisker per arm around 50 %: all, initial and follow-up turns. None where nothing was scored."""
    rows = [s for s in scores if s.judge == judge and s.dimension == dimension]
    shown = [mark for mark in marks if any(s.arm == mark.name for s in rows)]
    if not shown:
        return None
    controls = {mark.name for mark in shown if mark.kind == "control"}
    arms = {"domain": [mark.name for mark in shown], "paddingInner": 0.18}
    place = {
        "y": {"field": "arm", "type": "nominal", "axis": None, "scale": arms},
        "yOffset": {"field": "slot", "type": "nominal", "scale": {"domain": SLOTS}},
    }
    names = [{"arm": mark.name, "slot": "", "name": label(mark)} for mark in shown]
    no_difference = {
        "data": {"values": [{}]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "stroke": MUTED},
        "encoding": {"x": {"datum": 50, "type": "quantitative"}},
    }
    titles = {
        "data": {"values": names},
        "mark": {"type": "text", "align": "left", "fontSize": 12, "fontWeight": 600, "fill": INK, "limit": 300},
        "encoding": {**place, "x": {"value": 0}, "text": {"field": "name"}},
    }
    return _chart(
        int(len(shown) * SLOT * len(SLOTS) * 1.2),
        [_interval(score, score.arm in controls) for score in rows],
        f"{DIMENSIONS[dimension]}: win rates with 95 % intervals, judged by {judge}",
        layer=[no_difference, titles, *_whiskers(place, domain)],
    )


def _interval(score: Score, control: bool) -> dict[str, Any]:
    rate, low, high = (100 * share for share in (score.win_rate, score.low, score.high))
    turns = TURNS[score.turns]
    says = f"{score.arm}, {turns.lower()}: {rate:.1f} % ({low:.1f}–{high:.1f}), {score.n} verdicts, {score.users} users"
    return {"arm": score.arm, "slot": turns, "rate": rate, "low": low, "high": high, "control": control, "says": says}


def _whiskers(place: Spec, domain: tuple[float, float]) -> list[Spec]:
    kind = {"field": "slot", "type": "nominal", "legend": None}
    colour = {**kind, "scale": {"domain": SLOTS, "range": STROKES}}
    shape = {**kind, "scale": {"domain": SLOTS, "range": SHAPES}}
    hollow = {"condition": {"test": {"field": "control", "equal": True}, "value": "var(--paper)"}}
    tooltip = {"field": "says", "type": "nominal"}
    x = {
        "field": "rate",
        "type": "quantitative",
        "scale": {"domain": list(domain), "nice": False},
        "axis": {"title": "win rate, %", "values": list(range(int(domain[0]), int(domain[1]) + 1, 10))},
    }
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 1.75, "strokeCap": "round"},
            "encoding": {**place, **ends, "color": colour, "tooltip": tooltip},
        },
        {
            "mark": {"type": "point", "size": 46, "strokeWidth": 1.75, "opacity": 1},
            "encoding": {
                **place,
                "x": x,
                "shape": shape,
                "stroke": colour,
                "fill": {**colour, **hollow},
                "tooltip": tooltip,
            },
        },
    ]


def thinned(rows: Sequence[Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    """At most about `limit` rows, evenly taken, the last one among them."""
    stride = -(-len(rows) // limit) or 1
    return [row for place, row in enumerate(rows) if place % stride == 0 or place == len(rows) - 1]


def curve_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> Spec | None:
    """One figure over the optimizer steps: a line per seed, a colour per arm. None where no curve has it."""
    arms, share = curve_arms(curves), max(40, MAX_POINTS // max(1, len(curves)))
    values = [
        {"arm": name.rpartition("/")[0], "run": name, "step": row["step"], "value": round(row[key], 5)}
        for name, rows in curves.items()
        for row in thinned([row for row in rows if isinstance(row.get(key), int | float)], share)
    ]
    if not values:
        return None
    scale = {"domain": arms, "range": [COLOURS[i % len(COLOURS)] for i in range(len(arms))]}
    return _chart(
        190,
        values,
        f"{CURVES[key]} over optimizer steps",
        mark={"type": "line", "strokeWidth": 1.6, "opacity": 0.9},
        encoding={
            "x": {
                "field": "step",
                "type": "quantitative",
                "axis": {"title": "optimizer step", "grid": False, "tickCount": 5, "tickMinStep": 1},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "scale": {"zero": False},
                "axis": {"title": None, "tickCount": 5},
            },
            "color": {"field": "arm", "type": "nominal", "legend": None, "scale": scale},
            "detail": {"field": "run", "type": "nominal"},
            "tooltip": {"field": "run", "type": "nominal"},
        },
    )


def curve_arms(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Arms that have curves, in the order of their colours."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in curves))
