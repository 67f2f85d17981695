"""Whose code decides what a stage writes: a stage is made anew when any of it changes."""

from __future__ import annotations

_ASKING = ("prompts", "models/structured.py")
_GATHERING = ("feedback", "logs/times.py", "personas")
_PROMPTS = "personas/render.py"

CODE: dict[str, tuple[str, ...]] = {
    "conversations": ("logs",),
    "labels": ("feedback", *_ASKING),
    "personas": (*_GATHERING, *_ASKING),
    "pairs": ("pairs", "rewards", *_GATHERING, *_ASKING),
    "model": ("training",),
    "turns": ("evaluation", _PROMPTS),
    "replies": ("evaluation", _PROMPTS),
    "verdicts": ("evaluation", "rewards", _PROMPTS, *_ASKING),
    "scores": ("evaluation", _PROMPTS),
}
"""Kind of stage -> folders and files of this package."""

TRUTH = ("world",)
"""What the truth of a world adds to verdicts and scores."""
