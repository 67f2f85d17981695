"""The commented recipe of `rlhi init`, made from the settings' own documentation."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlhi.recipe import Recipe

EXAMPLE_MODEL = """\
# models:                 # back ends that roles can be bound to, besides `local` and `embedded`
#   server:
#     backend: openai     # any server that speaks OpenAI's wire format: vLLM, SGLang, Ollama, llama.cpp, a vendor
#     model: meta-llama/Llama-3.1-8B-Instruct
#     base_url: http://localhost:8000/v1
#     api_key_env: OPENAI_API_KEY   # name of an environment variable; never the key itself
"""


def commented(name: str, logs: str) -> str:
    """YAML of a recipe with every default and what it means; only `name` and `logs.paths` are in force.

    What no run can be called in `name` becomes a hyphen; `logs` is one path.
    """
    fitting = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-") or "run"
    head = "# A recipe of rlhi. Lines behind `#` show the defaults; take the mark away to change one.\n"
    force = f"name: {_yaml(fitting)}\nlogs:\n  paths: {_yaml([logs])}\n"
    return head + force + _section(Recipe, 0, {"name", "logs", "models"}) + EXAMPLE_MODEL


def _section(section: type[BaseModel], depth: int, leave_out: set[str]) -> str:
    lines = []
    for key, field in section.model_fields.items():
        if key in leave_out:
            continue
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            lines.append(f"# {'  ' * depth}{key}:  # {_doc(field)}\n" + _section(inner, depth + 1, set()))
        else:
            lines.append(_line(key, field, depth))
    return "".join(lines)


def _line(key: str, field: FieldInfo, depth: int) -> str:
    value = _yaml(_plain(field.get_default(call_default_factory=True)))
    indent = "  " * depth
    doc = "".join(f"# {indent}# {part}\n" for part in textwrap.wrap(_doc(field), 110 - 2 * depth))
    return f"{doc}# {indent}{key}: {value}\n"


def _yaml(value: Any) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _doc(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def settings_table(section: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Key, default and meaning of each setting of a section, for the documentation."""
    rows = []
    for key, field in section.model_fields.items():
        default = "required" if field.is_required() else str(_plain(field.get_default(call_default_factory=True)))
        rows.append((key, default, _doc(field)))
    return rows
