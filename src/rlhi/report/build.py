"""The page: one HTML file that shows a run, opens anywhere and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rlhi import __version__
from rlhi.feedback.taxonomy import DEFINITIONS
from rlhi.report import arms, charts, text, views
from rlhi.report.data import ReportData
from rlhi.report.warnings import find_warnings

SCRIPTS = ("vega.min.js", "vega-lite.min.js", "vega-interpreter.min.js", "page.js")
SHOWN = ("percent", "number", "duration", "date", "plain", "short", "excerpt", "sentences", "with_code")
MAX_RECIPE_CHARS = 60_000


def build(data: ReportData) -> str:
    """Render the report of a run: a self-contained HTML page. The same data give the same page."""
    marks = arms.arms(data)
    judges = arms.judges(data.scores)
    specs, panels = _arm_charts(data, marks, judges)
    curves = {f"curve-{key}": spec for key in charts.CURVES if (spec := charts.curve_chart(data.curves, key))}
    specs |= curves
    scripts = [_asset(name) for name in SCRIPTS] if specs else []
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            data=data,
            version=__version__,
            policy=_policy(scripts),
            style=_asset("style.css"),
            scripts=scripts,
            specs=specs,
            panels=panels,
            curves=list(curves),
            marks=marks,
            judges=judges,
            headline=arms.headline(data),
            warnings=find_warnings(data),
            recipe=text.excerpt(_yaml(data), MAX_RECIPE_CHARS),
            seconds=sum(stage.seconds or 0 for stage in data.funnel) or None,
            roles=views.role_use(data),
        )
    )


def _arm_charts(
    data: ReportData, marks: list[arms.ArmMark], judges: list[str]
) -> tuple[dict[str, charts.Spec], dict[str, list[tuple[str, str]]]]:
    """The charts by their ids, and per judge the ids with their titles."""
    domain = charts.reach(data.scores)
    specs: dict[str, charts.Spec] = {}
    panels: dict[str, list[tuple[str, str]]] = {}
    for place, judge in enumerate(judges):
        for dimension, title in charts.DIMENSIONS.items():
            spec = charts.arms_chart(data.scores, marks, judge, dimension, domain)
            if spec:
                name = f"arms-{place}-{dimension}"
                specs[name] = spec
                panels.setdefault(judge, []).append((name, title))
    return specs, panels


def _yaml(data: ReportData) -> str:
    return yaml.safe_dump(dict(data.recipe), sort_keys=False, allow_unicode=True) if data.recipe else ""


def _policy(scripts: list[str]) -> str:
    """Content security policy: only the page's own scripts run, and nothing is fetched."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    """A file of ours for the page, without the address of its source map."""
    source = files("rlhi.report").joinpath("assets", name).read_text(encoding="utf-8")
    return "\n".join(line for line in source.splitlines() if not line.startswith("//# sourceMappingURL"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlhi.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown: dict[str, Any] = {name: getattr(text, name) for name in SHOWN}
    environment.filters.update(shown)
    environment.globals.update(
        views=views,
        label=charts.label,
        turns=charts.TURNS,
        dimensions=charts.DIMENSIONS,
        curve_titles=charts.CURVES,
        curve_arms=charts.curve_arms,
        definitions=DEFINITIONS,
    )
    return environment
