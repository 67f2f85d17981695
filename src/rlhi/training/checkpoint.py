"""Checkpoints that are whole or ignored: written aside, sealed with a digest of every file, then renamed."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson

from rlhi.flow.identity import file_digest

SEAL = "seal.json"
KEPT = 2
"""Newest checkpoints kept: should the last be damaged, the one before is used."""


def seal(folder: Path, identity: str) -> None:
    """Write down which training a checkpoint belongs to, and the digest of each of its files."""
    files = {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    (folder / SEAL).write_bytes(orjson.dumps({"identity": identity, "files": files}, option=orjson.OPT_INDENT_2))


def whole(folder: Path, identity: str) -> bool:
    """Whether a checkpoint is complete, undamaged, and of this training."""
    try:
        sealed = orjson.loads((folder / SEAL).read_bytes())
        return bool(sealed["identity"] == identity) and all(
            file_digest(folder / name) == value for name, value in sealed["files"].items()
        )
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return False  # torn or foreign: the caller falls back on the one before


def _step(folder: Path) -> int:
    number = folder.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _ordered(root: Path) -> list[Path]:
    return sorted((p for p in root.glob("checkpoint-*") if _step(p) >= 0), key=_step)


def publish(partial: Path, root: Path, identity: str) -> Path:
    """Seal a written checkpoint, move it to its place, and remove all but the newest ones."""
    seal(partial, identity)
    place = root / partial.name
    if place.exists():
        shutil.rmtree(place)
    partial.rename(place)
    for old in _ordered(root)[:-KEPT]:
        shutil.rmtree(old)
    return place


def latest(root: Path, identity: str) -> Path | None:
    """The newest whole checkpoint of this training, or None; torn and foreign ones are removed."""
    found: Path | None = None
    for folder in reversed(_ordered(root)):
        if found is None and whole(folder, identity):
            found = folder
        elif found is None:
            shutil.rmtree(folder)
    return found
