"""The shape of the code: small files, short functions, documented records, a light import."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

import rlhi
from rlhi import records, settings

ROOT = Path(rlhi.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is longer than 60 lines"


def _models(module: object) -> list[type[BaseModel]]:
    return [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, BaseModel)]


@pytest.mark.parametrize("model", _models(records) + _models(settings), ids=lambda model: model.__name__)
def test_records_and_settings_are_frozen_strict_and_documented(model: type[BaseModel]) -> None:
    if model is BaseModel:
        return
    assert model.model_config["frozen"] and model.model_config["extra"] == "forbid"
    undocumented = [name for name, field in model.model_fields.items() if not field.description]
    assert not undocumented


def test_every_module_imports() -> None:
    names = [module.name for module in pkgutil.walk_packages([str(ROOT)], "rlhi.") if "__main__" not in module.name]
    assert len(names) > 30
    for name in names:
        import_module(name)


def test_import_is_light() -> None:
    code = "import rlhi, sys; print([m for m in ('torch', 'transformers', 'ray', 'aiohttp') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_setting_is_read_somewhere() -> None:
    """A key that nothing reads would be a promise not kept."""
    code = "\n".join(path.read_text() for path in SOURCES if path.parent.name != "settings")
    for section in _models(settings):
        for name in section.model_fields:
            assert f".{name}" in code or f'"{name}"' in code, f"{section.__name__}.{name} is read nowhere"
