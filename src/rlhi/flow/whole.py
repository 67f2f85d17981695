"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path to write to in the block; what was written is on the disk before it takes the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    with partial.open("rb+") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file."""
    with replacing(path) as partial:
        partial.write_bytes(data)
