"""Settings from a YAML file, or an error that names the file, each wrong key, its value, and what would be right.

A key may stand once in a mapping: plain YAML keeps the last of them and says nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from rlhi.errors import UsageError

M = TypeVar("M", bound=BaseModel)

WRONG = (yaml.YAMLError, ValueError, RecursionError)
"""What `parse` raises for text that is not valid."""
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which makes plain data only."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE or not isinstance(key_node, yaml.ScalarNode):
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in first:
                raise yaml.YAMLError(f"line {line}: the key {key_node.value!r} stands in line {first[key]} already")
            first[key] = line
        return node


def parse(text: str) -> Any:
    """The data in a YAML text. Raises one of `WRONG`, also where a key of a mapping is repeated."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader


def read_yaml(path: str | Path, what: str, hint: str) -> dict[str, Any]:
    """The keys of a YAML file. Raises `UsageError` that calls it `what`, with `hint` where there is no such file."""
    path = Path(path).expanduser()
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no {what} at {path}; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the {what} {path}: {error}") from None
    except WRONG as error:
        raise UsageError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: a {what} is a mapping of keys, got {type(data).__name__}")
    return data


def validate(model: type[M], data: dict[str, Any], called: str, whole: str) -> M:
    """Data as a model. Raises `UsageError`: the `called` is wrong, and where; `whole` stands for the data as such."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"the {called} is wrong:\n{_explain(error, model, whole)}") from None


def _explain(error: ValidationError, model: type[BaseModel], whole: str) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or whole
        value = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r:.80}"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message, value = f"unknown key; {_keys_at(model, problem['loc'][:-1])}", ""
        lines.append(f"  {where}: {message}{value}")
    return "\n".join(lines)


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> str:
    section: Any = model
    for part in path:
        field = getattr(section, "model_fields", {}).get(part)
        kind = field.annotation if field else section
        inner = [a for a in getattr(kind, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        section = inner[0] if inner else kind
    fields = getattr(section, "model_fields", {})
    return "known here: " + ", ".join(sorted(fields)) if fields else "no keys are known here"
