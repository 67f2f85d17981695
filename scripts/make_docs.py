"""Write the reference pages that follow from the code: docs/recipe.md and docs/commands.md.

python scripts/make_docs.py           # write
python scripts/make_docs.py --check   # exit 1 where a page is not what the code says
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel
from typer.testing import CliRunner

from rlhi.cli.app import app
from rlhi.cli.template import settings_table
from rlhi.recipe import Arm, Model, Recipe

DOCS = Path(__file__).resolve().parents[1] / "docs"

RECIPE_HEAD = """\
# The recipe

A recipe is the only configuration of a run: one YAML file. `rlhi init my.yaml` writes one in which every key stands
with its default and meaning; `--set a.b=value` on the command line overrides a key (the value is YAML). An unknown key
or a wrong value ends the run at once with exit code 2 and names what would be right. The resolved recipe is written
into the run, and a run can be carried out again from it.

Only `name` and `logs.paths` are required. This page is made from the code by `scripts/make_docs.py`.
"""

COMMANDS_HEAD = """\
# Commands

Human text goes to stderr. `rlhi --json COMMAND` gives machine-readable results on stdout. Exit codes: 0 done (what was
quarantined or dropped is counted, not a failure), 1 some rows or a stage failed, 2 wrong usage, 3 a back end of yours
raised `BudgetError`. This page is made from the code by `scripts/make_docs.py`.

What `--set` overrides is written into the run's `recipe.yaml`. On a step (`rlhi label` to `rlhi evaluate`) it therefore
holds for all later steps too, until another `--set` changes it or `rlhi run` brings a recipe of its own.
"""


def _sections(section: type[BaseModel], title: str) -> str:
    rows, inner = [], ""
    for key, value, meaning in settings_table(section):
        kind, default = section.model_fields[key].annotation, f"`{value}`"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner += _sections(kind, f"{title}.{key}" if title else key)
            default = f"section [`{key}`](#{f'{title}.{key}'.strip('.').replace('.', '')})"
        elif key == "arms":
            default = "the six arms of the method's table"
        rows.append(f"| `{key}` | {default} | {meaning} |".replace("\n", " "))
    table = "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])
    return f"\n## {title or 'Top level'}\n\n{section.__doc__ or ''}\n\n{table}\n" + inner


def recipe_page() -> str:
    """docs/recipe.md."""
    arms = _sections(Arm, "evaluation.arms[ ]")
    return RECIPE_HEAD + _sections(Recipe, "") + _sections(Model, "models.NAME") + arms


def commands_page() -> str:
    """docs/commands.md."""
    runner, parts = CliRunner(), [COMMANDS_HEAD]
    for command in app.registered_commands:
        name = str(command.name or getattr(command.callback, "__name__", ""))
        shown = runner.invoke(app, [name, "--help"], prog_name="rlhi", env={"COLUMNS": "100"}).output
        parts.append(f"\n## rlhi {name}\n\n```text\n{shown.strip()}\n```\n")
    return "".join(parts)


def main() -> int:
    """Write the pages, or compare them."""
    pages = {"recipe.md": recipe_page(), "commands.md": commands_page()}
    stale = [name for name, text in pages.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != text]
    if "--check" in sys.argv:
        if stale:
            print(f"stale: {', '.join(stale)}; run scripts/make_docs.py", file=sys.stderr)
        return bool(stale)
    for name in stale:
        (DOCS / name).write_text(pages[name])
    return 0


if __name__ == "__main__":
    sys.exit(main())
