"""Rows of a Parquet file, with only the columns that a reader looks at; what cannot be read is told by its place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Columns = Callable[[Collection[str]], Collection[str]]
"""Given the columns that there are, those that are needed."""
BATCH = 256
"""Rows decoded at once."""


@dataclass(slots=True, frozen=True)
class Unreadable:
    """A row, or all that is left of a row group, that could not be decoded."""

    reason: str
    """Short name."""
    detail: str
    """The decoder's words."""


def table_rows(path: Path, columns: Columns) -> Iterator[tuple[int, dict[str, Any] | Unreadable]]:
    """Rows with their 1-based number; 0 = the file as a whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        yield 0, Unreadable("broken_stream", f"Parquet: {error}")
        return
    with file:
        present = list(file.schema_arrow.names)
        needed = [name for name in present if name in set(columns(present))] or present
        if file.metadata.num_rows == 0:
            yield 0, Unreadable("empty_file", "the table has no rows")
        first = 1
        for group in range(file.metadata.num_row_groups):
            line = first
            try:
                for batch in file.iter_batches(BATCH, row_groups=[group], columns=needed):
                    for data in _decoded(batch):
                        yield line, data
                        line += 1
            except (pa.ArrowException, OSError) as error:
                yield line, Unreadable("broken_stream", f"Parquet, row group {group} from here on: {error}")
            first += file.metadata.row_group(group).num_rows


def _decoded(batch: Any) -> Iterator[dict[str, Any] | Unreadable]:
    batch = _microseconds(batch)
    try:
        yield from batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        for place in range(batch.num_rows):
            try:
                row: dict[str, Any] = batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield Unreadable("invalid_utf8", f"byte {error.start} of a text: {error.reason}")
            except (ValueError, OverflowError) as error:
                yield Unreadable("wrong_type", str(error))
            else:
                yield row


def _microseconds(batch: Any) -> Any:
    """Times in nanoseconds, as pandas writes them, cut to what Python's `datetime` can hold."""
    import pyarrow as pa

    for place, column in enumerate(batch.schema):
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            kind = pa.timestamp("us", column.type.tz)
            batch = batch.set_column(place, column.name, batch.column(place).cast(kind, safe=False))
    return batch
