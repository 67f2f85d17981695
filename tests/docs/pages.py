"""The code blocks, links and commands of the pages.

The words behind a block's language say what is done with it: `run` = carried out, in the order of the page and in one
folder; `embedded` = only where the embedded model is there; `file=PATH` = written into that folder, `executable` = with
the right to be started; `apply` = a patch of this repository. Blocks without such words are only read.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    """Of its first line of code, 1-based."""
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def file(self) -> str | None:
        """Where it is to be written."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text.count("\n", 0, found.start(3)) + 1, found[1], tuple(found[2].split()), found[3])
        for found in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def shell_commands(page: Path) -> list[str]:
    """Every command line that begins with `rlhi`, in blocks and between backticks."""
    lines = [
        line.split(" #")[0].strip()
        for block in blocks(page)
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").split("\n")
    ]
    lines += [" ".join(span.split()) for span in re.findall(r"`(rlhi [^`]+)`", prose(page))]
    return [line for line in lines if line.startswith("rlhi ")]


def write_files(found: list[Block], folder: Path) -> None:
    """Write the files of a page; its `pyproject.toml` is installed by metadata, as `pip` would leave it."""
    for block in found:
        if block.file is None:
            continue
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if "executable" in block.words:
            path.chmod(0o755)
        if block.file == "pyproject.toml":
            install(tomllib.loads(block.text)["project"], folder)


def install(project: dict[str, object], folder: Path) -> None:
    """Write the `dist-info` of a project into `folder`."""
    info = folder / f"{str(project['name']).replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"]
    assert isinstance(groups, dict)
    text = "".join(
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in parts.items()) for group, parts in groups.items()
    )
    (info / "entry_points.txt").write_text(text)


def environment(folder: Path) -> dict[str, str]:
    """Variables under which a page's code runs: `folder` holds its packages, and `rlhi` is this very checkout."""
    bin_dir = folder / ".bin"
    bin_dir.mkdir(exist_ok=True)
    command = bin_dir / "rlhi"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rlhi "$@"\n')
    command.chmod(0o755)
    paths = os.pathsep.join([str(folder), str(REPOSITORY / "src")])
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(bin_dir), os.environ["PATH"]]),
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
    }
