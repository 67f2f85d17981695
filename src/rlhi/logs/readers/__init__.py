"""Log formats, found by name: those that ship with rlhi, and those of other packages; or one's own columns.

To add one, write a class with the four members of `Reader` and name it in the entry points of your package:

    [project.entry-points."rlhi.readers"]
    slack = "my_package.slack:Slack"

A format that keeps its messages in one column needs no more than the names of its columns: see `ColumnReader`.
"""

from __future__ import annotations

from typing import Any

from rlhi.errors import UsageError
from rlhi.logs.readers import fields
from rlhi.logs.readers.base import BadRecord, OwnedReader, RawConversation, RawMessage, Reader
from rlhi.logs.readers.columns import ColumnReader
from rlhi.logs.readers.mapping import MappedReader
from rlhi.registry import Registry
from rlhi.settings import Logs

__all__ = [
    "BadRecord",
    "ColumnReader",
    "MappedReader",
    "OwnedReader",
    "RawConversation",
    "RawMessage",
    "Reader",
    "choose",
    "chosen",
    "detect",
    "names",
]

AUTO = "auto"
BUILT_IN = {
    "lmsys": "rlhi.logs.readers.lmsys:LMSYS",
    "wildchat": "rlhi.logs.readers.wildchat:WildChat",
    "chatgpt": "rlhi.logs.readers.chatgpt:ChatGPT",
    "openwebui": "rlhi.logs.readers.openwebui:OpenWebUI",
    "openai": "rlhi.logs.readers.openai:OpenAI",
    "sharegpt": "rlhi.logs.readers.sharegpt:ShareGPT",
}
READERS = Registry("log reader", "rlhi.readers", BUILT_IN)


def names() -> tuple[str, ...]:
    """Names of all readers, those that ship with rlhi first."""
    return (*BUILT_IN, *(name for name in READERS.names() if name not in BUILT_IN))


def _load(name: str) -> Reader:
    made = READERS.get(name)
    try:
        reader = made()
    except Exception as error:  # a plugin's constructor may raise anything
        raise UsageError(f"the log reader {name!r} cannot be loaded: {error}") from error
    if not isinstance(reader, Reader):
        raise UsageError(f"the log reader {name!r} lacks one of: name, key, matches, columns, read")
    return reader


def choose(name: str) -> tuple[Reader, ...]:
    """The reader called `name`, or all of them for `auto`. Raises `UsageError` with the nearest name."""
    return tuple(_load(known) for known in (names() if name == AUTO else (name,)))


def chosen(logs: Logs) -> tuple[Reader, ...]:
    """The readers of a recipe's logs. Raises `UsageError`."""
    return (MappedReader(logs.mapping),) if logs.mapping is not None else choose(logs.format)


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
    wanted = ", ".join(f"{reader.key!r} ({reader.name})" for reader in readers)
    raise BadRecord("unknown_format", f"none of {wanted} is among its fields: {fields.keys_of(row)}")
