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
MAX_POINTS = 300
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


def arms_chart(
    scores: Sequence[Score], marks: Sequence[ArmMark], judge: str, dimension: Dimension, domain: tuple[float, float]
) -> Spec | None:
    """Dot and whisker per arm around 50 %: all, initial and follow-up turns. None where nothing was scored."""
    named = {mark.name: mark for mark in marks}
    rows = [s for s in scores if s.judge == judge and s.dimension == dimension]
    shown = [mark.name for mark in marks if any(s.arm == mark.name for s in rows)]
    if not shown:
        return None
    values = [
        {
            "arm": s.arm,
            "slot": TURNS[s.turns],
            "rate": 100 * s.win_rate,
            "low": 100 * s.low,
            "high": 100 * s.high,
            "control": named[s.arm].kind == "control",
            "says": f"{s.arm}, {TURNS[s.turns].lower()}: {100 * s.win_rate:.1f} % "
            f"({100 * s.low:.1f}–{100 * s.high:.1f}), {s.n} verdicts, {s.users} users",
        }
        for s in rows
    ]
    names = [{"arm": name, "slot": "", "name": label(named[name])} for name in shown]
    slots = ["", *TURNS.values()]
    y = {"field": "arm", "type": "nominal", "axis": None, "scale": {"domain": shown, "paddingInner": 0.18}}
    offset = {"field": "slot", "type": "nominal", "scale": {"domain": slots}}
    colour = {
        "field": "slot",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": slots, "range": [INK, INK, COLOURS[0], COLOURS[1]]},
    }
    x = {
        "field": "rate",
        "type": "quantitative",
        "scale": {"domain": list(domain), "nice": False},
        "axis": {"title": "win rate, %", "values": list(range(int(domain[0]), int(domain[1]) + 1, 10))},
    }
    shape = {"field": "slot", "type": "nominal", "legend": None, "scale": {"domain": slots, "range": SHAPES}}
    hollow = {"condition": {"test": {"field": "control", "equal": True}, "value": "var(--paper)"}, "field": "slot"}
    tooltip = {"field": "says", "type": "nominal"}
    place = {"y": y, "yOffset": offset}
    return _chart(
        int(len(shown) * SLOT * len(slots) * 1.2),
        values,
        f"{DIMENSIONS[dimension]}: win rates with 95 % intervals, judged by {judge}",
        layer=[
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "strokeDash": [3, 3], "stroke": MUTED, "clip": True},
                "encoding": {"x": {"datum": 50, "type": "quantitative"}},
            },
            {
                "data": {"values": names},
                "mark": {"type": "text", "align": "left", "fontSize": 12, "fontWeight": 600, "fill": INK, "limit": 300},
                "encoding": {**place, "x": {"value": 0}, "text": {"field": "name"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.75, "strokeCap": "round"},
                "encoding": {**place, "x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour,
                             "tooltip": tooltip},
            },
            {
                "mark": {"type": "point", "size": 46, "strokeWidth": 1.75, "opacity": 1},
                "encoding": {**place, "x": x, "shape": shape, "stroke": colour, "tooltip": tooltip,
                             "fill": {**colour, **hollow}},
            },
        ],
    )


SHAPES = ["circle", "circle", "square", "diamond"]


def thinned(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most `MAX_POINTS` rows, evenly taken, the last one among them."""
    stride = -(-len(rows) // MAX_POINTS) or 1
    return [row for place, row in enumerate(rows) if place % stride == 0 or place == len(rows) - 1]


def curve_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> Spec | None:
    """One figure over the optimizer steps: a line per seed, a colour per arm. None where no curve has it."""
    arms = curve_arms(curves)
    values = [
        {"arm": name.rpartition("/")[0], "run": name, "step": row["step"], "value": row[key]}
        for name, rows in curves.items()
        for row in thinned([row for row in rows if isinstance(row.get(key), int | float)])
    ]
    if not values:
        return None
    scale = {"domain": arms, "range": [COLOURS[i % len(COLOURS)] for i in range(len(arms))]}
    return _chart(
        190,
        values,
        f"{CURVES[key]} over optimizer steps",
        mark={"type": "line", "strokeWidth": 1.6, "interpolate": "monotone", "opacity": 0.9},
        encoding={
            "x": {"field": "step", "type": "quantitative",
                  "axis": {"title": "optimizer step", "grid": False, "tickCount": 5, "tickMinStep": 1}},
            "y": {"field": "value", "type": "quantitative", "scale": {"zero": False},
                  "axis": {"title": None, "tickCount": 5}},
            "color": {"field": "arm", "type": "nominal", "legend": None, "scale": scale},
            "detail": {"field": "run", "type": "nominal"},
            "tooltip": {"field": "run", "type": "nominal"},
        },
    )


def curve_arms(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Arms that have curves, in the order of their colours."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in curves))
