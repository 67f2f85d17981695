"""The commands. Each is a few lines around the library; what they print for people goes to stderr."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rlhi import __version__
from rlhi.cli.console import Bars, emit, progress, stderr
from rlhi.errors import UsageError
from rlhi.flow import processes

app = typer.Typer(
    name="rlhi",
    help="Turn chat logs into a model that knows its users, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Settings = Annotated[list[str] | None, typer.Option("--set", help="Override a key of the recipe, as a.b=value.")]
Phrasings = Literal["train", "test", "all"]
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
_state = {"json": False}


def complain(message: str) -> None:
    """An error for a person, on stderr."""
    stderr.print(f"rlhi: {message}", markup=False, style="red")


@app.callback(invoke_without_command=True)
def options(
    json: Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Options that stand before a command."""
    _state["json"] = json
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _end(outcome: Any) -> None:
    from rlhi.cli.tables import results

    if _state["json"]:
        emit({"folder": str(outcome.folder), "failed": outcome.failed, "stages": outcome.stages, **outcome.scores})
    else:
        results(outcome)
    if outcome.failed:
        complain(f"{outcome.failed} rows failed (see {outcome.folder}/failed); running again tries just those")
        raise typer.Exit(1)


@app.command()
def run(recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")], settings: Settings = None) -> None:
    """Carry out a recipe: from logs to an evaluated model and its report. Again: what is done is reused."""
    from rlhi.pipeline.run import run as carry_out
    from rlhi.recipe import load

    loaded = load(recipe, settings or [])
    with Bars() as bars:
        outcome = carry_out(loaded, bars)
    _end(outcome)


@app.command()
def ingest(
    logs: Annotated[list[str], typer.Argument(help="Files, folders, globs, or hub:owner/dataset.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run to make.")],
    *,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="lmsys, wildchat, chatgpt, openwebui, openai, sharegpt, or a reader of a plugin; auto finds it.",
        ),
    ] = "auto",
    mapping: Annotated[str | None, typer.Option("--mapping", help="YAML file that names your own columns.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the recipe of a run that is there.")] = False,
    settings: Settings = None,
) -> None:
    """Read, clean and split logs into a new run."""
    from rlhi.pipeline.run import run as carry_out
    from rlhi.recipe import from_data, load, override

    data: dict[str, Any] = {
        "name": out.name,
        "runs": str(out.parent),
        "logs": {"paths": logs, "format": format_, "mapping": mapping},
    }
    override(data, settings or [])
    recipe = from_data(data, "the command line")
    there = recipe.run_dir() / "recipe.yaml"
    place = {"runs": recipe.runs, "name": recipe.name}
    if not force and there.exists() and load(there).model_copy(update=place) != recipe:
        raise UsageError(
            f"{out} is a run with another recipe, which this would replace: name another --out, run that recipe with "
            f"`rlhi run {shlex.quote(str(there))}`, or replace it with --force"
        )
    with Bars() as bars:
        outcome = carry_out(recipe, bars, ["ingest"])
    _end(outcome)


def _step(run_dir: Path, name: str, settings: list[str] | None) -> None:
    from rlhi.pipeline.run import step

    with progress() as bars:
        outcome = step(run_dir, name, settings or [], bars)
    if processes.is_main():
        _end(outcome)


@app.command()
def label(
    run_dir: RunDir,
    labeler: Annotated[str | None, typer.Option("--labeler", help="`local`, or a model of the recipe.")] = None,
    settings: Settings = None,
) -> None:
    """Label the user messages of a run."""
    _step(run_dir, "label", [*(settings or []), *([f"roles.labeler={labeler}"] if labeler else [])])


@app.command()
def personas(run_dir: RunDir, settings: Settings = None) -> None:
    """Write the persona cards of a run."""
    _step(run_dir, "personas", settings)


@app.command()
def pairs(run_dir: RunDir, settings: Settings = None) -> None:
    """Make the preference pairs of a run."""
    _step(run_dir, "pairs", settings)


@app.command()
def train(run_dir: RunDir, settings: Settings = None) -> None:
    """Train the policies of a run."""
    _step(run_dir, "train", settings)


@app.command()
def evaluate(run_dir: RunDir, settings: Settings = None) -> None:
    """Evaluate the arms of a run."""
    _step(run_dir, "evaluate", settings)


@app.command()
def report(run_dir: RunDir) -> None:
    """Write the report of a run."""
    _step(run_dir, "report", None)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    logs: Annotated[str, typer.Option("--logs", help="What to read.")] = "my_logs/",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a recipe in which every key is explained."""
    from rlhi.cli.template import commented

    if path.exists() and not force:
        raise UsageError(f"{path} is there already; --force replaces it")
    path.write_text(commented(path.stem, logs), encoding="utf-8")
    stderr.print(f"wrote {path}; next: rlhi run {shlex.quote(str(path))}", markup=False)


@app.command()
def show(run_dir: RunDir) -> None:
    """Print the funnel and the scores of a run."""
    from rlhi.cli.tables import funnel, results
    from rlhi.pipeline.run import outcome

    found = outcome(run_dir)
    if _state["json"]:
        emit({"folder": str(found.folder), "stages": found.stages, **found.scores})
        return
    funnel(found)
    results(found)


@app.command()
def pair(
    run_dir: RunDir, pair_id: Annotated[str, typer.Argument(metavar="ID", help="A pair id, or its beginning.")]
) -> None:
    """Tell why one pair exists: conversation, user's words, persona, gates and scores."""
    from rlhi.cli.story import find, tell

    found = find(run_dir, pair_id)
    if _state["json"]:
        emit(found.model_dump(mode="json"))
    else:
        tell(run_dir, found)


@app.command()
def world(
    out: Annotated[Path, typer.Option("--out", help="Folder for `logs/` and `truth/`.")],
    users: Annotated[int, typer.Option("--users", min=2, help="How many simulated users.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="Seed: equal seeds give equal bytes.")] = 0,
    phrasings: Annotated[
        Phrasings, typer.Option("--phrasings", help="`train`, `test` (unseen by every shipped model) or `all`.")
    ] = "test",
) -> None:
    """Make simulated users with known preferences and write their logs, the truth apart."""
    from rlhi.world.simulate import write_world

    summary = write_world(out, users=users, seed=seed, phrasings=phrasings)
    if _state["json"]:
        emit(summary.as_dict())
    else:
        stderr.print(f"{out}: {summary}", markup=False)


@app.command(name="measure")
def measure(
    run_dir: RunDir,
    truth: Annotated[Path, typer.Option("--truth", help="Folder `truth` that `rlhi world` wrote.")],
) -> None:
    """Hold a run's labels and personas against the world's truth: macro-F1, precision, recall."""
    from rlhi.cli.tables import figures
    from rlhi.world.measure import measure_run

    found = measure_run(run_dir, truth)
    if _state["json"]:
        emit(found)
    else:
        figures(found)
