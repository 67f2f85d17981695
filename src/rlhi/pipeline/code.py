"""Whose code decides what a stage writes: a stage is made anew when any of it changes."""

from __future__ import annotations

_WORDS = "errors.py"
_TOKENS = "models/tokenizer.py"
_MODELS = ("models/placement.py", _TOKENS)
_ASKING = ("prompts", "models/structured.py", *_MODELS)
_GATHERING = ("feedback", "logs/times.py", "personas")
_PROMPTS = "personas/render.py"

CODE: dict[str, tuple[str, ...]] = {
    "conversations": ("logs", "yamlfile.py", _WORDS),
    "labels": ("feedback", *_ASKING, _WORDS),
    "personas": (*_GATHERING, *_ASKING, _WORDS),
    "pairs": ("pairs", "rewards", *_GATHERING, *_ASKING, _WORDS),
    "model": ("training", _TOKENS, _WORDS),
    "turns": ("evaluation", _PROMPTS, _TOKENS, _WORDS),
    "replies": ("evaluation", _PROMPTS, *_MODELS, _WORDS),
    "verdicts": ("evaluation", "rewards", _PROMPTS, *_ASKING, _WORDS),
    "scores": ("evaluation", _PROMPTS, _WORDS),
}
"""Kind of stage -> folders and files of this package."""

TRUTH = ("world",)
"""What the truth of a world adds to verdicts and scores."""
