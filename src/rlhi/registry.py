"""Finds parts by name: those of this package, and those that another package adds through entry points."""

from __future__ import annotations

import difflib
import importlib
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

from rlhi.errors import UsageError


class Registry:
    """Parts of one kind, imported only when asked for.

    Another package adds a part with an entry point: the group is `group`, the entry's name is the part's name.
    """

    def __init__(self, kind: str, group: str, builtin: dict[str, str]) -> None:
        self.kind = kind
        """What the parts are, in words for messages: `back end`."""
        self.group = group
        """Entry point group: `rlhi.backends`."""
        self._builtin = builtin

    @cached_property
    def _targets(self) -> dict[str, str]:
        targets = dict(self._builtin)
        for entry in entry_points(group=self.group):
            if targets.get(entry.name, entry.value) != entry.value:
                origin = f" of package {entry.dist.name}" if entry.dist else ""
                raise UsageError(
                    f"two {self.kind}s are named {entry.name!r}: {targets[entry.name]} and {entry.value} (entry point"
                    f"{origin}, group {self.group}); rename or uninstall one of them"
                )
            targets[entry.name] = entry.value
        return targets

    def names(self) -> list[str]:
        """Names of all parts, sorted. Raises `UsageError` when two parts share a name."""
        return sorted(self._targets)

    def get(self, name: str) -> Any:
        """Import and return the part `name`. Raises `UsageError` when there is none or it cannot be imported."""
        target = self._targets.get(name)
        if target is None:
            close = difflib.get_close_matches(name, self._targets, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"no {self.kind} is named {name!r}{hint} (known: {', '.join(self.names())})")
        module, _, path = target.partition(":")
        try:
            part: Any = importlib.import_module(module)
            for attribute in path.split("."):
                part = getattr(part, attribute)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"the {self.kind} {name!r} cannot be loaded from {target}: {error}") from error
        return part
