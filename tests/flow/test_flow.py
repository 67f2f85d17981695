"""Stages account for every row; outputs appear atomically; what changed is named."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlhi.errors import UsageError
from rlhi.flow.executors.local import LocalExecutor
from rlhi.flow.folder import RunFolder
from rlhi.flow.identity import changes
from rlhi.flow.stage import Context, Drop, Stage
from rlhi.flow.table import read_rows
from rlhi.models.base import Unreachable
from rlhi.records import Dropped, Record


class Number(Record):
    value: int
    """A number."""


class Halve(Stage[Number, Number]):
    """Even numbers are halved, odd ones dropped, negative ones fail, 99 finds no server."""

    name = "halve"
    delay: float = 0.0

    def about(self, row: Number) -> str:
        return f"number {row.value}"

    async def run(self, row: Number, ctx: Context) -> Sequence[Number] | Drop:
        await asyncio.sleep(self.delay * (row.value % 7))
        if row.value == 99:
            raise Unreachable("no server")
        if row.value < 0:
            raise ValueError("negative")
        return [Number(value=row.value // 2)] if row.value % 2 == 0 else Drop("odd", str(row.value))


def _run(values: list[int], stage: Halve | None = None) -> list[object]:
    seen: list[object] = []
    stage = stage or Halve()
    results = LocalExecutor(concurrency=8).execute(stage, [Number(value=v) for v in values], Context, seen.append)
    assert len(seen) == len(values)
    return list(results)


def test_every_row_is_accounted_for_in_input_order() -> None:
    values = [8, 3, -1, 12, 7, -2, 2]
    results = _run(values, Halve(delay=0.002))
    for value, result in zip(values, results, strict=True):
        outputs, dropped, failed = result.outputs, result.dropped, result.failed  # type: ignore[attr-defined]
        assert bool(outputs) + bool(dropped) + bool(failed) == 1
        if outputs:
            assert outputs[0].value * 2 == value
        elif dropped:
            assert (dropped.reason, dropped.about) == ("odd", f"number {value}")
        else:
            assert (failed.cause, failed.detail) == ("ValueError", "negative")


def test_a_server_that_is_gone_ends_the_stage() -> None:
    with pytest.raises(Unreachable, match="no server"):
        _run([2, 99, 4])


def test_stage_is_settings() -> None:
    stage = Halve(delay=0.5)
    assert pickle.loads(pickle.dumps(stage)) == stage
    assert (Halve.reads, Halve.writes) == (Number, Number)


def test_folder_reuses_redoes_and_says_why(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    identity = {"stage": "halve", "settings": {"delay": 0.0}}
    assert folder.state("halve", identity) == ("absent", [])
    dropped = [Dropped(row="r", about="a", reason="odd")]
    folder.write_stage("halve", identity, Number, [Number(value=1)], rows_in=2, dropped=dropped)
    again = RunFolder(tmp_path)
    assert again.state("halve", identity) == ("done", [])
    assert again.stage("halve")["dropped"] == {"odd": 1}
    assert read_rows(again.rows_path("halve"), Number) == [Number(value=1)]
    changed = {"stage": "halve", "settings": {"delay": 1.0}}
    assert again.state("halve", changed) == ("changed", ["settings.delay: 0.0 -> 1.0"])
    again.rows_path("halve").unlink()
    assert again.state("halve", identity) == ("absent", [])


def test_failed_rows_are_tried_again(tmp_path: Path) -> None:
    from rlhi.records import Failed

    folder = RunFolder(tmp_path)
    folder.write_stage(
        "halve", {"a": 1}, Number, [], rows_in=1, failed=[Failed(row="r", about="a", cause="E", detail="")]
    )
    assert folder.state("halve", {"a": 1}) == ("changed", ["1 rows failed last time"])


def test_work_folder_is_kept_for_the_same_identity_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    work = folder.work_dir("model/ugr", {"a": 1})
    (work / "half").write_text("done")
    assert (folder.work_dir("model/ugr", {"a": 1}) / "half").exists()
    assert not (folder.work_dir("model/ugr", {"a": 2}) / "half").exists()


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match=r"manifest\.json is damaged"):
        RunFolder(tmp_path)


def test_changes_names_nested_keys() -> None:
    assert changes({"s": {"a": 1, "b": 2}, "code": "x"}, {"s": {"a": 1, "b": 3}, "code": "y"}) == [
        "code changed",
        "s.b: 2 -> 3",
    ]
