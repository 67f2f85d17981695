"""The files behind a recipe's `logs.paths`, in an order that does not depend on how they were named."""

from __future__ import annotations

import glob
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhi.errors import StageError, UsageError
from rlhi.logs.readers.chatgpt import ACCOUNT
from rlhi.logs.rows import Row, file_rows
from rlhi.logs.tables import Columns
from rlhi.records import Quarantined
from rlhi.settings import Logs

HUB = "hub:"


@dataclass(slots=True, frozen=True)
class Hub:
    """A dataset of a hub."""

    dataset: str
    """`owner/dataset`."""
    split: str
    """Split of it."""

    def __str__(self) -> str:
        return f"{HUB}{self.dataset}:{self.split}"


def rows(paths: tuple[str, ...], columns: Columns) -> Iterator[Row | Quarantined]:
    """All rows of all files, in order of path. Raises `UsageError` at once for a path that is not there."""
    files, hubs = expand(paths)
    streams = [_hub_rows(hub) for hub in hubs]
    for file in files:
        yield from file_rows(file, columns)
    for stream in streams:
        yield from stream


def expand(paths: tuple[str, ...]) -> tuple[list[Path], list[Hub]]:
    """The files and hub datasets that `paths` name, sorted, each once. Raises `UsageError` naming what is not there."""
    found: dict[str, Path] = {}
    hubs: set[tuple[str, str]] = set()
    for path in paths:
        if path.startswith(HUB):
            hubs.add(_hub(path))
            continue
        for file in _local(path):
            real = os.path.realpath(file)
            found[real] = min(file, found.get(real, file), key=lambda name: (len(name.parts), name))
    return [file for _, file in sorted(found.items())], [Hub(*hub) for hub in sorted(hubs)]


def beside(files: list[Path], logs: Logs) -> list[Path]:
    """What is read with the files but is no log: the mapping file, and the accounts of exports."""
    accounts = sorted({file.parent / ACCOUNT for file in files} - set(files))
    mapping = [Path(logs.mapping).expanduser()] if logs.mapping is not None else []
    return mapping + [account for account in accounts if account.is_file()]


def _local(path: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        files = list(_walk(place))
        if not files:
            raise UsageError(f"logs.paths: the folder {path} holds no files")
        return files
    if place.exists():
        return [place]
    if not glob.has_magic(path):
        raise UsageError(f"logs.paths: there is no {path}; name a file, a folder, a glob or hub:owner/dataset")
    matches = [Path(match) for match in glob.glob(str(place), recursive=True)]  # noqa: PTH207 (absolute patterns)
    if not matches:
        raise UsageError(f"logs.paths: no file matches {path}")
    return [file for match in matches for file in (_walk(match) if match.is_dir() else (match,))]


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder. Names that begin with a dot are the system's (`.git`, `.DS_Store`) and left out."""
    visited: set[str] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(at, name) for name in sorted(files) if not name.startswith("."))


def _hub(path: str) -> tuple[str, str]:
    dataset, _, split = path.removeprefix(HUB).partition(":")
    owner, _, name = dataset.partition("/")
    if not owner or not name or "/" in name:
        raise UsageError(f"logs.paths: {path}: write it as hub:owner/dataset or hub:owner/dataset:split")
    return dataset, split or "train"


def _hub_rows(hub: Hub) -> Iterator[Row]:
    """Stream a dataset. Raises `UsageError` at once where it cannot be had."""
    try:
        load: Any = importlib.import_module("datasets").load_dataset
    except ImportError:
        raise UsageError(f"logs.paths: {hub} needs the extra `hub`: pip install 'rlhi[hub]'") from None
    try:
        stream = load(hub.dataset, split=hub.split, streaming=True)
    except Exception as error:
        raise UsageError(f"logs.paths: cannot get {hub} ({type(error).__name__}: {error})") from error
    return _numbered(hub, stream)


def _numbered(hub: Hub, stream: Any) -> Iterator[Row]:
    line = 0
    try:
        for line, data in enumerate(stream, start=1):
            yield Row(str(hub), line, data)
    except Exception as error:
        raise StageError(
            f"{hub}: the hub stopped answering after {line} rows ({type(error).__name__}: {error}); run it again"
        ) from error
