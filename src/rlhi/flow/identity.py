"""What decides a stage's output: its inputs, settings, prompts, models and code."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rlhi.records import digest

Identity = dict[str, Any]


def file_digest(path: Path) -> str:
    """Digest of a file's content, 32 hex digits; `absent` where there is none."""
    if not path.is_file():
        return "absent"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:32]


@cache
def code_digest(*places: str) -> str:
    """Digest of the records, of some files, and of all files (source, prompts, small weights) of some folders.

    32 hex digits. Raises `FileNotFoundError` for a place that this package does not have.
    """
    root = Path(str(files("rlhi")))
    found = [root / "records.py"]
    for place in places:
        if not (root / place).exists():
            raise FileNotFoundError(f"rlhi has no {place}")
        found += [root / place, *sorted((root / place).rglob("*"))]
    return digest(
        {
            path.relative_to(root).as_posix(): file_digest(path)
            for path in found
            if path.is_file() and "__pycache__" not in path.parts
        }
    )


def fingerprint(identity: Identity) -> str:
    """Digest of an identity, 32 hex digits."""
    return digest(identity)


def changes(old: Identity, new: Identity, prefix: str = "") -> list[str]:
    """Which keys differ, written for a person: `settings.beta: 0.01 -> 0.1`."""
    found: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += changes(before, after, f"{prefix}{key}.")
        elif key in ("code", "prompts") or prefix == "inputs.":
            found.append(f"{prefix}{key} changed")
        else:
            found.append(f"{prefix}{key}: {before!r:.60} -> {after!r:.60}")
    return found
