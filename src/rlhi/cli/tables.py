"""Tables for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from rlhi.cli.console import stderr
from rlhi.pipeline.run import Outcome


def funnel(outcome: Outcome) -> None:
    """Rows in, out, dropped (for the logs: quarantined) and failed of each stage."""
    table = Table("stage", box=None, header_style="bold")
    for column in ("in", "out", "dropped", "failed", "seconds"):
        table.add_column(column, justify="right")
    table.add_column("why dropped")
    for name, entry in outcome.stages.items():
        held_out = [f"{held} held out" for held in [entry.get("held_out", 0)] if held]
        dropped = {**entry.get("quarantined", {}), **entry.get("dropped", {})}
        table.add_row(
            name,
            *(str(entry.get(key, "")) for key in ("rows_in", "rows_out")),
            str(sum(dropped.values())),
            str(entry.get("failed", 0)),
            f"{entry.get('seconds', 0):.1f}",
            ", ".join([*(f"{count} {reason}" for reason, count in dropped.items()), *held_out]),
        )
    stderr.print(table)


def results(outcome: Outcome) -> None:
    """Win rates of the arms, and the verdict."""
    scores: list[dict[str, Any]] = outcome.scores.get("scores", [])
    rows = [score for score in scores if score["dimension"] == "overall"]
    if rows:
        table = Table("arm", "judge", "turns", box=None, header_style="bold", title="overall, ties half")
        for column in ("win %", "95 % interval", "n", "users", "words"):
            table.add_column(column, justify="right")
        for score in rows:
            table.add_row(
                score["arm"],
                score["judge"],
                score["turns"],
                f"{100 * score['win_rate']:.1f}",
                f"{100 * score['low']:.1f}–{100 * score['high']:.1f}",
                str(score["n"]),
                str(score["users"]),
                f"{score['length']:.0f} vs {score['length_against']:.0f}",
            )
        stderr.print(table)
    if sentence := outcome.scores.get("verdict", {}).get("sentence"):
        stderr.print(sentence, markup=False, style="bold")
    report = outcome.folder / "report.html"
    stderr.print(f"run: {outcome.folder}" + (f"   report: {report}" if report.exists() else ""), markup=False)


def figures(found: dict[str, Any], prefix: str = "") -> None:
    """Named figures, one a line."""
    for name, value in found.items():
        if isinstance(value, dict):
            figures(value, f"{prefix}{name}.")
        else:
            shown = f"{value:.3f}" if isinstance(value, float) else str(value)
            stderr.print(f"{prefix}{name:<40} {shown}", markup=False)
