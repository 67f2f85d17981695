"""Simulated users with hidden, known preferences: their logs, the truth behind them, and the embedded model."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_PATH = Path(__file__).parent / "embedded"
"""Folder of the embedded model, in the layout that `transformers` loads."""
