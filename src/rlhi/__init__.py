"""rlhi: Reinforcement Learning from Human Interaction (arXiv 2509.25137), from chat logs to an evaluated model."""

from __future__ import annotations

__version__ = "0.1.0"
