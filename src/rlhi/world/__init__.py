"""Simulated users with hidden, known preferences: their logs, the truth behind them, and the embedded model."""

from __future__ import annotations
