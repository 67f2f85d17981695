"""YAML in which no key stands twice: plain YAML keeps the last of them and says nothing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which makes plain data only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == _MERGE or not isinstance(key_node, yaml.ScalarNode):
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in first:
                raise yaml.YAMLError(f"line {line}: the key {key_node.value!r} stands in line {first[key]} already")
            first[key] = line
        return super().construct_mapping(node, deep)


def parse(text: str) -> Any:
    """The data in a YAML text. Raises `yaml.YAMLError`, also where a key of a mapping is repeated."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
