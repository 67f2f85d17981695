"""Records as Parquet: the Arrow schema follows from the record's fields, and equal rows give equal bytes."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq

from rlhi.errors import UsageError
from rlhi.flow.whole import replacing
from rlhi.records import Record

R = TypeVar("R", bound=Record)

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _arrow_type(annotation: Any) -> Any:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return pa.string()
    if origin in (Union, types.UnionType):
        return _arrow_type(next(arg for arg in args if arg is not type(None)))
    if origin is tuple:
        return pa.list_(_arrow_type(args[0]))
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return pa.struct(_fields(annotation))
    raise TypeError(f"no Arrow type for {annotation!r}")


def _fields(record: type[Record]) -> list[Any]:
    return [
        pa.field(name, _arrow_type(field.annotation), nullable=type(None) in get_args(field.annotation))
        for name, field in record.model_fields.items()
    ]


def arrow_schema(record: type[Record]) -> Any:
    """The `pyarrow.Schema` of a record type; each field's documentation stands in its metadata."""
    fields = [
        field.with_metadata({"description": record.model_fields[field.name].description or ""})
        for field in _fields(record)
    ]
    return pa.schema(fields, metadata={"rlhi.record": record.__name__})


def write_rows(path: Path, record: type[Record], rows: Iterable[Record]) -> None:
    """Write rows to one Parquet file, which appears whole or not at all."""
    schema = arrow_schema(record)
    with replacing(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        chunk: list[dict[str, Any]] = []
        for row in rows:
            chunk.append(row.model_dump())
            if len(chunk) == 10_000:
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
                chunk = []
        if chunk:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))


def read_rows(path: Path, record: type[R]) -> list[R]:
    """Read what `write_rows` wrote. Raises `UsageError` where the file is absent, damaged or of another record."""
    if not path.exists():
        raise UsageError(f"{path} does not exist: run the stage that writes it first")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"{path} is damaged ({error}); delete it and run again: the stage that writes it makes it anew"
        ) from None
    expected = arrow_schema(record)
    if table.schema.names != expected.names:
        raise UsageError(f"{path} holds {table.schema.names}, not the fields of {record.__name__}: {expected.names}")
    return [record.model_validate(row) for row in table.to_pylist()]


def count_rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer; 0 where it is absent."""
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def read_many(paths: Sequence[Path], record: type[R]) -> list[R]:
    """Rows of several files, one after another."""
    return [row for path in paths for row in read_rows(path, record)]
