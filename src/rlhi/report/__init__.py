"""The report: one HTML page that shows a run, from what `load` gathers to what `build` renders."""

from __future__ import annotations

from rlhi.report.build import build
from rlhi.report.data import ReportData
from rlhi.report.load import load

__all__ = ["ReportData", "build", "load"]
