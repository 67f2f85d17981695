"""The whole story of one pair, for a person."""

from __future__ import annotations

from pathlib import Path

from rlhi.cli.console import stdout
from rlhi.errors import UsageError
from rlhi.flow.folder import RunFolder
from rlhi.flow.table import read_rows
from rlhi.records import Conversation, PreferencePair
from rlhi.settings import PAIR_SOURCES, pair_stage


def find(run_dir: Path, pair_id: str) -> PreferencePair:
    """The pair whose id begins with `pair_id`. Raises `UsageError` where there is none, or more than one."""
    folder = RunFolder.existing(run_dir)
    pairs = [
        pair
        for path in (folder.rows_path(pair_stage(source)) for source in PAIR_SOURCES)
        if path.exists()
        for pair in read_rows(path, PreferencePair)
    ]
    found = [pair for pair in pairs if pair.pair_id.startswith(pair_id)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(pair.pair_id for pair in (found or pairs)[:5]) or "none"
    what = f"{len(found)} pairs of {run_dir} begin with {pair_id!r}" if found else f"no pair {pair_id!r} in {run_dir}"
    raise UsageError(f"{what}; for example there are: {some}")


def tell(run_dir: Path, pair: PreferencePair) -> None:
    """Print where a pair comes from, what the user said, both sides, scores and gates."""
    why = pair.provenance
    _part("pair", f"{pair.pair_id}  ({'user-guided rewrite' if pair.source == 'ugr' else 'user-based reward'})")
    _part(
        "where", f"conversation {pair.conversation_id}, turn {pair.turn}, user {pair.user_id}, {_source(run_dir, pair)}"
    )
    for message in pair.prompt:
        _part(message.role if message.role != "system" else f"persona v{why.persona_version}", message.content)
    if why.feedback:
        _part("reply in the log", why.logged_reply)
        _part("the user then said", why.feedback)
        _part("read as", f"{why.label}, shown by {why.span!r}")
    _part(f"rejected ({why.rejected_score:.3f})", pair.rejected[0].content)
    _part(f"chosen ({why.chosen_score:.3f})", pair.chosen[0].content)
    for gate in why.gates:
        sign = "passed" if gate.passed else "failed"
        _part(f"gate {gate.gate}", f"{sign}: {gate.value:.3f} against {gate.threshold:.3f} {gate.detail}")
    _part("compared", f"{why.candidates} replies; models: {why.models}; prompts {why.prompts}")
    _part("weight", f"{pair.weight:g}")


def _part(title: str, text: str) -> None:
    stdout.print(title, style="bold", markup=False)
    stdout.print("  " + text.replace("\n", "\n  "), markup=False)


def _source(run_dir: Path, pair: PreferencePair) -> str:
    rows = read_rows(RunFolder(run_dir).rows_path("conversations"), Conversation)
    return next((f"read from {row.source}" for row in rows if row.conversation_id == pair.conversation_id), "")
