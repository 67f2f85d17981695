"""Log formats, found by name: the three that ship with rlhi, and those of other packages.

To add one, write a class with the four members of `Reader` and name it in the entry points of your package:

    [project.entry-points."rlhi.readers"]
    slack = "my_package.slack:Slack"

A format that keeps its messages in one column needs no more than the names of its columns: see `ColumnReader`.
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rlhi.errors import UsageError
from rlhi.logs.readers.base import BadRecord, RawConversation, RawMessage, Reader
from rlhi.logs.readers.columns import ColumnReader

__all__ = ["BadRecord", "ColumnReader", "RawConversation", "RawMessage", "Reader", "choose", "detect", "names"]

GROUP = "rlhi.readers"
AUTO = "auto"
BUILT_IN = {
    "wildchat": "rlhi.logs.readers.wildchat:WildChat",
    "openai": "rlhi.logs.readers.openai:OpenAI",
    "sharegpt": "rlhi.logs.readers.sharegpt:ShareGPT",
}


@cache
def _targets() -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, target, GROUP) for name, target in BUILT_IN.items()}
    for point in entry_points(group=GROUP):
        if point.name == AUTO or (point.name in found and found[point.name].value != point.value):
            taken = found[point.name].value if point.name in found else "the word for finding the format"
            raise UsageError(
                f"two log readers are named {point.name!r}: {taken} and {point.value}; uninstall or rename one"
            )
        found[point.name] = point
    return found


def names() -> tuple[str, ...]:
    """Names of all readers, those that ship with rlhi first."""
    return tuple(_targets())


@cache
def _load(name: str) -> Reader:
    target = _targets()[name]
    try:
        reader = target.load()()
    except Exception as error:
        raise UsageError(f"the log reader {name!r} ({target.value}) cannot be loaded: {error}") from error
    if not isinstance(reader, Reader):
        raise UsageError(f"the log reader {name!r} ({target.value}) lacks one of: name, key, matches, columns, read")
    return reader


def choose(name: str) -> tuple[Reader, ...]:
    """The reader called `name`, or all of them for `auto`. Raises `UsageError` with the nearest name."""
    if name == AUTO:
        return tuple(_load(known) for known in names())
    if name not in _targets():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"logs.format: no reader is named {name!r}{hint}; there are {', '.join(names())} and auto")
    return (_load(name),)


def detect(readers: tuple[Reader, ...], row: dict[str, Any]) -> Reader:
    """The reader for a row: the first that it matches, else the first whose column it has.

    Raises `BadRecord` (`unknown_format`) where there is none.
    """
    if len(readers) == 1:
        return readers[0]
    for reader in readers:
        if reader.matches(row):
            return reader
    for reader in readers:
        if reader.key in row:
            return reader
    keys = ", ".join(repr(str(key)[:40]) for key in list(row)[:12]) or "no fields"
    wanted = ", ".join(f"{reader.key!r} ({reader.name})" for reader in readers)
    raise BadRecord("unknown_format", f"none of {wanted} is among its fields: {keys}")
