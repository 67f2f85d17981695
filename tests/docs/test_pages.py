"""What the pages point to exists: links, anchors, files of the repository, commands and their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from rlhi.cli.app import app
from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES, prose, shell_commands

MADE_LATER = {REPOSITORY / "docs" / "report.png"}
"""Pictures of a run, put beside the pages when there is one."""
WRONG: type[Exception] = typer.BadParameter.__mro__[1]
"""The parser's class of all wrong usage; typer brings its own copy of click's."""
PLACES = r"`((?:src|docs|scripts|recipes|tests)/[\w./-]+\.\w+)`"


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        wrong_anchor = anchor and path.suffix == ".md" and path.exists() and anchor not in anchors(path)
        if wrong_anchor or (not path.exists() and path not in MADE_LATER):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(PLACES, prose(page))
    assert [place for place in named if not (REPOSITORY / place).exists()] == []


def parse(line: str) -> None:
    """Parse a command line of rlhi as its own parser does, without carrying it out. Raises `WRONG`."""
    group: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and words[0] in ("--json", "--version"):
        words.pop(0)
    if words in ([], ["COMMAND"]):
        return
    command = group.commands.get(words[0])
    if command is None:
        raise WRONG(f"no command {words[0]!r} in {line!r}")
    command.make_context(words[0], words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    wrong = {}
    for line in shell_commands(page):
        bare = len(line.split()) == 2  # a mere name, as in "`rlhi run` makes one"
        try:
            parse(line)
        except WRONG as error:
            if not (bare and type(error).__name__ == "MissingParameter"):
                wrong[line] = repr(error)
    assert wrong == {}


@pytest.mark.parametrize("line", ["rlhi runn x.yaml", "rlhi run x.yaml --sett a=1", "rlhi ingest logs/"])
def test_the_parser_refuses_wrong_commands(line: str) -> None:
    with pytest.raises(WRONG):
        parse(line)


def test_pages_are_no_diary() -> None:
    """A page says what is, without marketing words or dates."""
    for page in PAGES:
        text = prose(page).lower()
        assert not re.search(r"\b(state-of-the-art|blazing|cutting-edge|revolutionary|seamless)\b", text), page.name
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text), page.name
