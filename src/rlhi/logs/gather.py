"""Rows of a mapping file: its columns are looked for, and where each row is a message, conversations are gathered.

A record is then a conversation: it stands at the place of its first row in the logs, and a row that cannot be used
costs it as a whole, as a broken message costs its row elsewhere. A row without a conversation's id costs itself alone.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import Any

from rlhi.errors import UsageError
from rlhi.logs import times
from rlhi.logs.readers import fields
from rlhi.logs.readers.base import BadRecord
from rlhi.logs.readers.mapping import ROWS, ColumnMap, Flat, MappedReader
from rlhi.logs.rows import Row
from rlhi.records import Quarantined

Rows = Iterator[Row | Quarantined]
_NAMES = 200
"""Names of columns remembered, to tell the nearest."""


def mapped(rows: Rows, reader: MappedReader) -> Rows:
    """The rows as `reader` takes them. Raises `UsageError` at the end for a column that no row has."""
    found = _checked(rows, reader)
    columns = reader.map
    return _gathered(found, columns, columns.rows) if columns.rows else found


class _Missing:
    """The columns that were not met yet."""

    def __init__(self, wanted: Iterator[tuple[str, str]]) -> None:
        self.wanted = dict(wanted)
        self.names: dict[str, None] = {}
        """Names that were met, in order."""

    def look(self, row: Any) -> None:
        """Strike off what a row has."""
        if not self.wanted or not isinstance(row, dict):
            return
        self.wanted = {key: column for key, column in self.wanted.items() if not fields.find(row, column)[0]}
        if len(self.names) < _NAMES:
            self.names.update(dict.fromkeys(str(name) for name in row))

    def told(self, what: str) -> list[str]:
        """A line for each column that is missing."""
        known = ", ".join(repr(name[:40]) for name in list(self.names)[:12]) or "no fields"
        lines = []
        for key, column in self.wanted.items():
            close = difflib.get_close_matches(column, self.names, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            lines.append(f"  {key}: no {what} has {column!r}{hint} (there are {known})")
        return lines


def _checked(rows: Rows, reader: MappedReader) -> Rows:
    columns, read = reader.map, 0
    in_rows, in_messages = _Missing(columns.of_rows()), _Missing(columns.of_messages())
    for row in rows:
        if isinstance(row, Row) and isinstance(row.data, dict):
            read += 1
            in_rows.look(row.data)
            _, items = fields.find(row.data, reader.key) if in_messages.wanted else (False, None)
            for item in items if isinstance(items, list) else ():
                in_messages.look(item)
        yield row
    lines = in_rows.told("row")
    if in_messages.names:  # else there was no message to look at
        lines += in_messages.told("message")
    if read and lines:
        raise UsageError(f"the mapping file {reader.path} does not fit the logs:\n" + "\n".join(lines))


def _gathered(rows: Rows, columns: ColumnMap, flat: Flat) -> Rows:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if not isinstance(row, Row) or not isinstance(row.data, dict):
            yield row
            continue
        try:
            groups.setdefault(_group(row.data, columns), []).append(row)
        except BadRecord as bad:
            yield row.fault(bad.reason, bad.detail)
    for group in groups.values():
        first = group[0]
        try:
            ordered = _ordered(group, flat)
        except BadRecord as bad:
            yield first.fault(bad.reason, bad.detail)
        else:
            yield Row(first.file, first.line, {ROWS: [(_place(row), row.data) for row in ordered]}, first.raw)


def _group(data: dict[str, Any], columns: ColumnMap) -> str:
    assert columns.conversation_id is not None
    found = fields.identifier(data, (columns.conversation_id,))
    if found is None:
        raise BadRecord("missing_field", f"no {columns.conversation_id!r}; the row has {fields.keys_of(data)}")
    return found


def _place(row: Row) -> str:
    return f"{row.file}:{row.line}"


def _ordered(group: list[Row], flat: Flat) -> list[Row]:
    """The rows of a conversation in turn; equal ones stay in the order of the logs."""
    if flat.index:
        column = flat.index
        ranks: list[Any] = [_index(row, column) for row in group]
    elif flat.time:
        column = flat.time
        ranks = [fields.moment(row.data, (column,), set(), f"{_place(row)} ") for row in group]
    else:
        return group
    if not any(rank is not None for rank in ranks):
        return group
    for row, rank in zip(group, ranks, strict=True):
        if rank is None:
            raise BadRecord("missing_field", f"{_place(row)} {column}: null, unlike the rest of its conversation")
    keys = ranks if flat.index else [times.order(rank) for rank in ranks]
    return [group[place] for place in sorted(range(len(group)), key=lambda place: keys[place])]


def _index(row: Row, column: str) -> float | None:
    _, value = fields.find(row.data, column)
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRecord("wrong_type", f"{_place(row)} {column}: expected a number, got {fields.kind_of(value)}")
    return number
