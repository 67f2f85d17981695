"""Prompts of the LLM roles: one Markdown file each, with a `# system` and a `# user` part.

Values are put in by a single pass over the template, so a value can never introduce another placeholder, and each value
from a log stands in a fence that is longer than any run of backticks in it, so it cannot close its fence.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from rlhi.records import ChatMessage, digest

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_PART = re.compile(r"^# (system|user)\n", re.MULTILINE)


@cache
def template(name: str) -> str:
    """Text of the prompt file `name`. Raises `FileNotFoundError` where there is none."""
    return (files(__package__) / f"{name}.md").read_text(encoding="utf-8")


def fingerprint(*names: str) -> str:
    """Digest of the named prompt files, 32 hex digits: part of a stage's identity and of a pair's provenance."""
    return digest({name: template(name) for name in names})


def fence(text: str) -> str:
    """Put a text from a log between backticks, one more than its longest run of them (three at least)."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}\n{text}\n{ticks}"


def clip(text: str, characters: int) -> str:
    """Shorten a text to about `characters`, keeping its beginning and its end."""
    if len(text) <= characters:
        return text
    half = max(1, (characters - 5) // 2)
    return f"{text[:half]}\n[…]\n{text[-half:]}"


def render(name: str, *, trusted: dict[str, str] | None = None, **data: str) -> tuple[ChatMessage, ...]:
    """Chat messages of prompt `name`; values in `data` are fenced, those in `trusted` are put in as they are.

    Raises `KeyError` where the template names a value that was not given.
    """
    values = {key: fence(value) for key, value in data.items()} | (trusted or {})
    parts = _PART.split(template(name))[1:]
    return tuple(
        ChatMessage(role=role, content=_PLACEHOLDER.sub(lambda found: values[found.group(1)], text).strip())
        for role, text in zip(parts[::2], parts[1::2], strict=True)
    )
