"""Read a run folder into `ReportData`. Whatever a run does not have yet is left empty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
import polars as pl
import yaml
from pydantic import ValidationError

from rlhi.errors import UsageError
from rlhi.evaluation.control import Difference
from rlhi.flow.folder import RunFolder
from rlhi.records import Conversation, PersonaCard, PreferencePair, Record, Score, TurnRef
from rlhi.report.data import LogCounts, Loss, ReportData, RoleUse, Said, StageFacts
from rlhi.settings import PAIR_SOURCES, pair_stage
from rlhi.world.wildchat import MODEL as WORLD_MODEL

PERSONAS = 8
PAIRS_PER_SOURCE = 5
EXAMPLES_PER_REASON = 3
ORDER = (
    *("conversations", "labels", "personas", *map(pair_stage, PAIR_SOURCES), "pairs"),
    *("model", "turns", "replies", "verdicts", "scores"),
)

R = TypeVar("R", bound=Record)


def load(run_dir: Path, reused: Collection[str] = ()) -> ReportData:
    """Gather what the report shows of the run in `run_dir`; `reused` names the stages that were taken over as they
    were. Raises `UsageError` for a folder that is no run, or a damaged file in it."""
    run = RunFolder.existing(run_dir)
    recipe = _recipe(run_dir / "recipe.yaml")
    scores = _json(run_dir / "scores.json")
    personas = _personas(run.rows_path("personas"))
    pairs = _pairs(run)
    quarantine = run_dir / "quarantine" / "quarantine.parquet"
    trained = _trained(run_dir / "model", recipe)
    cited = [ref for card in personas for statement in card.statements for ref in statement.evidence]
    cited += [TurnRef(conversation_id=pair.conversation_id, turn=pair.turn) for pair in pairs]
    return ReportData(
        name=str(recipe.get("name") or run_dir.name),
        recipe=recipe,
        funnel=_funnel(run, quarantine, reused),
        logs=_log_counts(run.rows_path("conversations"), run.rows_path("labels")),
        quarantined=_counts(quarantine, "reason"),
        scores=_records(Score, scores, "scores", run_dir / "scores.json"),
        differences=_records(Difference, scores, "differences", run_dir / "scores.json"),
        arms=_table(scores.get("arms")),
        verdict=scores.get("verdict") or {},
        personas=personas,
        words=_words(run.rows_path("conversations"), cited),
        pairs=pairs,
        pair_counts={name: count for name in PAIR_SOURCES if (count := _count(run.rows_path(pair_stage(name))))},
        curves=_curves(trained),
        trainings={name: found for name, folder in trained.items() if (found := _json(folder / "training.json"))},
        losses=[*_quarantined(quarantine), *_losses(run_dir / "dropped"), *_losses(run_dir / "failed")],
    )


def _recipe(path: Path) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged ({error}); run the recipe again") from None
    if not isinstance(recipe, dict):
        raise UsageError(f"{path}: a recipe is a mapping of keys, got {type(recipe).__name__}")
    return recipe


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{path} is damaged ({error}); make this step again") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a mapping, got {type(value).__name__}")
    return value


def _records(record: type[R], data: Mapping[str, Any], key: str, path: Path) -> list[R]:
    try:
        return [record.model_validate(row) for row in data.get(key, ())]
    except ValidationError as error:
        raise UsageError(f"{path}: a row of `{key}` is wrong: {error}") from None


def _table(rows: Any) -> list[dict[str, Any]]:
    """Rows of a table, whether it was written as a list or as a mapping from the arm's name."""
    if isinstance(rows, Mapping):
        return [{"arm": arm, **row} for arm, row in rows.items()]
    return list(rows or ())


def _funnel(run: RunFolder, quarantine: Path, reused: Collection[str]) -> list[StageFacts]:
    """The stages in the order of a run. Records in quarantine are what the first stage dropped."""
    stages = dict(run.manifest.get("stages", {}))
    read = stages.get("conversations")
    if read and not read.get("dropped"):
        stages["conversations"] = read | {"dropped": _counts(quarantine, "reason", pl.col("line") > 0)}

    def place(name: str) -> tuple[int, str]:
        found = [at for at, stage in enumerate(ORDER) if name == stage or name.startswith(f"{stage}/")]
        return (found[0] if found else len(ORDER), name)

    return [_stage(name, stages[name], name in reused) for name in sorted(stages, key=place)]


def _stage(name: str, entry: Mapping[str, Any], reused: bool) -> StageFacts:
    known = RoleUse.__dataclass_fields__
    calls = {
        role: RoleUse(**{key: value for key, value in use.items() if key in known})
        for role, use in (entry.get("calls") or {}).items()
    }
    return StageFacts(
        stage=name,
        rows_in=entry.get("rows_in", 0),
        rows_out=entry.get("rows_out", 0),
        dropped=entry.get("dropped") or {},
        failed=entry.get("failed", 0),
        held_out=entry.get("held_out", 0),
        seconds=entry.get("seconds"),
        reused=reused,
        calls=calls,
    )


def _count(path: Path) -> int:
    return int(pl.scan_parquet(path).select(pl.len()).collect().item()) if path.exists() else 0


def _counts(path: Path, column: str, where: pl.Expr | None = None) -> dict[str, int]:
    """How often each value of a column occurs, most frequent first."""
    if not path.exists():
        return {}
    found = (
        pl.scan_parquet(path)
        .filter(pl.lit(True) if where is None else where)
        .group_by(column)
        .len()
        .sort(["len", column], descending=[True, False])
    )
    return {row[column]: row["len"] for row in found.collect().to_dicts()}


def _log_counts(conversations: Path, labels: Path) -> LogCounts:
    if not conversations.exists():
        return LogCounts()
    role = pl.col("messages").list.eval(pl.element().struct.field("role") == "user")
    facts = (
        pl.scan_parquet(conversations)
        .select(
            conversations=pl.len(),
            users=pl.col("user_id").n_unique(),
            messages=pl.col("messages").list.len().sum(),
            user_messages=role.list.sum().sum(),
            from_world=(pl.col("model") == WORLD_MODEL).all() & (pl.len() > 0),
        )
        .collect()
        .to_dicts()[0]
    )
    return LogCounts(**facts, labels=_counts(labels, "label"))


def _rows(frame: pl.DataFrame, record: type[R]) -> list[R]:
    return [record.model_validate(row) for row in frame.select(list(record.model_fields)).to_dicts()]


def _personas(path: Path) -> list[PersonaCard]:
    """The last card of the users of whom most is known."""
    if not path.exists():
        return []
    known = pl.col("statements").list.len()
    frame = (
        pl.scan_parquet(path)
        .filter(known > 0)
        .sort(["user_id", "version"], descending=[False, True])
        .unique("user_id", keep="first", maintain_order=True)
        .sort([known, pl.col("user_id")], descending=[True, False])
        .head(PERSONAS)
        .collect()
    )
    return _rows(frame, PersonaCard)


def _pairs(run: RunFolder) -> list[PreferencePair]:
    """Some pairs of each source, from as many users as there are; which ones follows from their ids alone."""
    sample: list[PreferencePair] = []
    for source in PAIR_SOURCES:
        path = run.rows_path(pair_stage(source))
        if path.exists():
            nth = pl.col("pair_id").cum_count().over("user_id")
            frame = pl.scan_parquet(path).sort("pair_id").with_columns(nth=nth).sort(["nth", "pair_id"])
            sample += _rows(frame.head(PAIRS_PER_SOURCE).collect(), PreferencePair)
    return sample


def _words(path: Path, refs: Sequence[TurnRef]) -> dict[TurnRef, Said]:
    if not path.exists() or not refs:
        return {}
    ids = sorted({ref.conversation_id for ref in refs})
    frame = pl.scan_parquet(path).filter(pl.col("conversation_id").is_in(ids)).collect()
    found = {row.conversation_id: row for row in _rows(frame, Conversation)}
    words: dict[TurnRef, Said] = {}
    for ref in refs:
        conversation = found.get(ref.conversation_id)
        turns = conversation.user_turns() if conversation else []
        if conversation and ref.turn < len(turns):
            message = conversation.messages[turns[ref.turn]]
            words[ref] = Said(message.content, message.timestamp or conversation.started_at)
    return words


def _trained(folder: Path, recipe: Mapping[str, Any]) -> dict[str, Path]:
    """Folders of the trained policies by `TRAINING/seed-N`, in the order in which the recipe's arms name them."""
    declared = [arm.get("train") for arm in (recipe.get("evaluation") or {}).get("arms") or ()]

    def place(path: Path) -> tuple[int, str, str]:
        training = path.parent.name
        return (declared.index(training) if training in declared else len(declared), training, path.name)

    return {f"{path.parent.name}/{path.name}": path for path in sorted(folder.glob("*/seed-*"), key=place)}


def _curves(trained: Mapping[str, Path]) -> dict[str, list[dict[str, Any]]]:
    curves = {}
    for name, folder in trained.items():
        path = folder / "curve.jsonl"
        if not path.exists():
            continue
        try:
            curves[name] = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{path} is damaged ({error}); train again") from None
    return curves


def _some(path: Path, column: str) -> Iterable[dict[str, Any]]:
    """The first rows of each reason, the frequent reasons first."""
    frame = pl.scan_parquet(path).with_columns(often=pl.len().over(column), nth=pl.int_range(pl.len()).over(column))
    frame = frame.filter(pl.col("nth") < EXAMPLES_PER_REASON)
    return frame.sort(["often", column, "nth"], descending=[True, False, False]).collect().to_dicts()


def _quarantined(path: Path) -> list[Loss]:
    if not path.exists():
        return []
    return [
        Loss(
            stage="conversations",
            kind="quarantined",
            reason=row["reason"],
            about=f"{row['file']}:{row['line']}" if row["line"] else row["file"],
            detail=f"{row['detail']}\n{row['excerpt']}".strip(),
        )
        for row in _some(path, "reason")
    ]


def _losses(folder: Path) -> list[Loss]:
    """Examples of one kind: the folder's name is the kind, a file's name the stage."""
    column = {"dropped": "reason", "failed": "cause"}[folder.name]
    return [
        Loss(path.stem, folder.name, row[column], row["about"], row["detail"])
        for path in sorted(folder.glob("*.parquet"))
        for row in _some(path, column)
    ]
