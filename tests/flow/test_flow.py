"""Stages account for every row; outputs appear atomically; what changed is named."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhi.errors import UsageError
from rlhi.flow.executors.local import LocalExecutor
from rlhi.flow.folder import RunFolder
from rlhi.flow.identity import changes
from rlhi.flow.lock import alone
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


class Clock(Stage[Number, Number]):
    """A part of another package that waits on something of its own."""

    name = "clock"
    error: str

    def about(self, row: Number) -> str:
        return f"number {row.value}"

    async def run(self, row: Number, ctx: Context) -> Sequence[Number] | Drop:
        raise TimeoutError("too slow") if self.error == "time" else OSError(28, "No space left on device")


def test_a_time_out_fails_its_row_and_a_full_disk_ends_the_stage() -> None:
    rows = [Number(value=1), Number(value=2)]
    results = LocalExecutor().execute(Clock(error="time"), rows, Context, lambda _: None)
    assert [result.failed.cause for result in results if result.failed] == ["TimeoutError"] * 2
    with pytest.raises(OSError, match="No space"):
        LocalExecutor().execute(Clock(error="disk"), rows, Context, lambda _: None)


def test_a_damaged_file_of_a_stage_is_made_anew(tmp_path: Path) -> None:
    folder, identity = RunFolder(tmp_path), {"a": 1}
    folder.write_stage("halve", identity, Number, [Number(value=1)], rows_in=1)
    path = folder.rows_path("halve")
    path.write_bytes(path.read_bytes()[:-7])
    state, why = RunFolder(tmp_path).state("halve", identity)
    assert state == "changed" and "halve/halve.parquet is damaged" in why[0]


def test_a_file_beside_the_rows_belongs_to_its_stage(tmp_path: Path) -> None:
    folder, identity, extra = RunFolder(tmp_path), {"a": 1}, tmp_path / "extra.json"

    def beside() -> Path:
        assert not RunFolder(tmp_path).stage("halve"), "the entry goes before any file changes"
        extra.write_text("{}")
        return extra

    for _ in range(2):
        folder.write_stage("halve", identity, Number, [], rows_in=0, beside=beside)
    assert RunFolder(tmp_path).state("halve", identity) == ("done", [])
    extra.unlink()
    assert RunFolder(tmp_path).state("halve", identity) == ("absent", [])


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("call", range(12))
def test_a_kill_while_a_policy_is_published_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    identity = {"a": 1}
    old = RunFolder(tmp_path).work_dir("model/ugr", {"a": 0}) / "policy"
    old.mkdir()
    (old / "model.safetensors").write_text("old")
    RunFolder(tmp_path).publish("model/ugr", old, {"a": 0}, {"failed": 0})
    made = RunFolder(tmp_path).work_dir("model/ugr", identity) / "policy"
    made.mkdir()
    (made / "model.safetensors").write_text("weights")
    left = [call]

    def mortal(function: Any) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **options)

        return called

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "mkdir"), (shutil, "rmtree")):
            patch.setattr(owner, name, mortal(getattr(owner, name)))
        with contextlib.suppress(Killed):
            RunFolder(tmp_path).publish("model/ugr", made, identity, {"failed": 0})
    again = RunFolder(tmp_path)
    if again.state("model/ugr", identity)[0] != "done":
        assert again.work_dir("model/ugr", identity) == made.parent and made.exists()
        again.publish("model/ugr", made, identity, {"failed": 0})
    assert again.state("model/ugr", identity) == ("done", [])
    assert (tmp_path / "model/ugr/model.safetensors").read_text() == "weights"


def test_cut_weights_are_made_anew_and_an_edited_card_is_not(tmp_path: Path) -> None:
    folder, identity = RunFolder(tmp_path), {"a": 1}
    made = folder.work_dir("model/ugr", identity) / "policy"
    made.mkdir()
    (made / "model.safetensors").write_text("weights")
    (made / "README.md").write_text("card")
    folder.publish("model/ugr", made, identity, {"failed": 0})
    (tmp_path / "model/ugr/README.md").write_text("a better card")
    assert folder.state("model/ugr", identity) == ("done", [])
    (tmp_path / "model/ugr/model.safetensors").write_text("wei")
    assert folder.state("model/ugr", identity)[0] == "changed"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    notes: list[str] = []
    with alone(tmp_path, notes.append):
        with pytest.raises(UsageError, match="another process works on"), alone(tmp_path, notes.append):
            raise AssertionError
        with alone(tmp_path / "other", notes.append):
            pass
    with alone(tmp_path, notes.append):
        assert not notes


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from rlhi.flow.lock import alone\n"
        "with alone(Path(sys.argv[1]), print):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    with pytest.raises(UsageError), alone(tmp_path, print):
        raise AssertionError
    process.kill()
    process.wait()
    process.stdout.close()
    with alone(tmp_path, print):
        assert (tmp_path / ".lock").stat().st_size == 0


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    notes: list[str] = []
    with alone(tmp_path, notes.append):
        assert len(notes) == 1 and "cannot be locked" in notes[0]
