"""A run on disk: stage outputs that appear atomically, and the manifest that says what they were made from."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson
import yaml

from rlhi import __version__
from rlhi.errors import UsageError
from rlhi.flow.identity import Identity, changes, fingerprint
from rlhi.flow.table import count_rows, write_rows
from rlhi.flow.whole import write_atomic
from rlhi.records import Dropped, Failed, Quarantined, Record

State = Literal["done", "changed", "absent"]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _sizes(folder: Path) -> dict[Path, int]:
    """A folder itself and the weights in it: the rest of a policy may be edited without it counting as damage."""
    return {Path(): 0} | {path.relative_to(folder): _size(path) for path in sorted(folder.glob("*.safetensors"))}


class RunFolder:
    """Paths, manifest and outputs of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = {"rlhi": __version__, "stages": {}}
        if (path / "manifest.json").exists():
            try:
                self.manifest = orjson.loads((path / "manifest.json").read_bytes())
            except orjson.JSONDecodeError as error:
                raise UsageError(f"{path}/manifest.json is damaged ({error}); delete it to redo the run") from None

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """Open a run that must be there. Raises `UsageError`."""
        if not (path / "recipe.yaml").exists():
            raise UsageError(f"{path} is no run: it has no recipe.yaml (`rlhi run` or `rlhi ingest` makes one)")
        return cls(path)

    def save_recipe(self, recipe: dict[str, Any]) -> None:
        """Write the resolved recipe into the run."""
        text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
        write_atomic(self.path / "recipe.yaml", text.encode())

    def stage(self, name: str) -> dict[str, Any]:
        """Manifest entry of a stage; empty where it never finished."""
        entry: dict[str, Any] = self.manifest["stages"].get(name, {})
        return entry

    def rows_path(self, name: str) -> Path:
        """Where a stage's rows lie: `labels` in labels/labels.parquet, `pairs/ugr` in pairs/ugr.parquet."""
        return self.path / f"{name}.parquet" if "/" in name else self.path / name / f"{name}.parquet"

    def state(self, name: str, identity: Identity) -> tuple[State, list[str]]:
        """Whether a stage's output stands for `identity`, and else which keys changed.

        A stage some of whose rows failed counts as changed, so that they are tried again; so does one whose files are
        not of the size that was written.
        """
        entry = self.stage(name)
        if not entry or not all((self.path / file).exists() for file in entry["files"]):
            return "absent", []
        for file, size in entry["files"].items():
            if (found := _size(self.path / file)) != size:
                return "changed", [f"{file} is damaged: {found} bytes, not {size}"]
        if entry["fingerprint"] != fingerprint(identity):
            return "changed", changes(entry["identity"], identity)
        if entry["failed"]:
            return "changed", [f"{entry['failed']} rows failed last time"]
        return "done", []

    def begin(self, name: str) -> None:
        """Take a stage's entry away, before any of its files changes."""
        if self.manifest["stages"].pop(name, None) is not None:
            self._save()

    def finish(self, name: str, identity: Identity, files: Sequence[Path], facts: dict[str, Any]) -> None:
        """Enter a stage as done; its files must lie in place."""
        self._enter(name, identity, {path: _size(path) for path in files}, facts)

    def _enter(self, name: str, identity: Identity, files: Mapping[Path, int], facts: dict[str, Any]) -> None:
        """Enter a stage with its files and their sizes in bytes: it counts as done while they lie there."""
        self.manifest["rlhi"] = __version__
        self.manifest["stages"][name] = {
            "fingerprint": fingerprint(identity),
            **facts,
            "files": {path.relative_to(self.path).as_posix(): size for path, size in files.items()},
            "identity": identity,
        }
        self._save()

    def write_stage(  # one call per stage, so that no caller can forget a part
        self,
        name: str,
        identity: Identity,
        record: type[Record],
        rows: Iterable[Record],
        *,
        rows_in: int,
        dropped: Sequence[Dropped] = (),
        failed: Sequence[Failed] = (),
        facts: dict[str, Any] | None = None,
        quarantined: Sequence[Quarantined] | None = None,
        beside: Callable[[], Path] | None = None,
    ) -> None:
        """Write rows, drops, failures and what could not be read, then the stage's manifest entry.

        `beside` writes one more file of the stage and returns its path.
        """
        self.begin(name)
        path = self.rows_path(name)
        write_rows(path, record, rows)
        files = [path, *self._write_lost(name, "dropped", dropped), *self._write_lost(name, "failed", failed)]
        if quarantined is not None:
            files.append(self.rows_path("quarantine"))
            write_rows(files[-1], Quarantined, quarantined)
        if beside is not None:
            files.append(beside())
        counts = {
            "rows_in": rows_in,
            "rows_out": count_rows(path),
            "dropped": dict(sorted(Counter(row.reason for row in dropped).items())),
            "failed": len(failed),
        }
        if quarantined is not None:
            counts["quarantined"] = dict(sorted(Counter(row.reason for row in quarantined).items()))
        self.finish(name, identity, files, counts | (facts or {}))

    def _write_lost(self, name: str, kind: str, lost: Sequence[Dropped] | Sequence[Failed]) -> list[Path]:
        file = self.path / kind / f"{name.replace('/', '-')}.parquet"
        file.unlink(missing_ok=True)
        if not lost:
            return []
        write_rows(file, type(lost[0]), lost)
        return [file]

    def work_dir(self, name: str, identity: Identity) -> Path:
        """Folder for a long piece of work that resumes by itself; emptied if it was begun for another identity."""
        folder = self.path / ".work" / name.replace("/", "-")
        mark, expected = folder / "identity", fingerprint(identity)
        if folder.exists() and (not mark.exists() or mark.read_text() != expected):
            shutil.rmtree(folder)
        if not folder.exists():
            folder.mkdir(parents=True)
            write_atomic(mark, expected.encode())
        return folder

    def publish(
        self, name: str, made: Path, identity: Identity, facts: dict[str, Any], dropped: Sequence[Dropped] = ()
    ) -> None:
        """Move a finished folder from the work folder to its place in the run and enter it in the manifest.

        The entry comes before the move and does not count until the folder is there: at no moment is finished work
        neither in the work folder nor entered.
        """
        self.begin(name)
        place = self.path / name
        if place.exists():
            shutil.rmtree(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        files = {path: _size(path) for path in self._write_lost(name, "dropped", dropped)}
        self._enter(name, identity, files | {place / inner: size for inner, size in _sizes(made).items()}, facts)
        made.rename(place)
        shutil.rmtree(made.parent)

    def _save(self) -> None:
        order = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS
        write_atomic(self.path / "manifest.json", orjson.dumps(self.manifest, option=order))
