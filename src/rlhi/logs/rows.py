"""A file becomes rows, each with its place: JSON lines, JSON documents, Parquet.

What kind a file is, its content says. A JSON file that begins with `[`, or whose first object runs over several lines,
is a document: an array or objects one after the other, cut apart without reading the whole file at once. In any other,
each line is a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from rlhi.logs.documents import elements
from rlhi.logs.streams import PARQUET, BrokenAt, BrokenStream, chunks, other_kind
from rlhi.logs.tables import Columns, Unreadable, table_rows
from rlhi.records import Quarantined

HEAD = 1 << 16
"""Bytes by which the kind of a text file is told."""
EXCERPT = 200
"""Characters of a record that quarantine shows."""
JSON_NAMES = (".json", ".jsonl", ".ndjson")
_COMPRESSED = (".gz", ".zst", ".zstd")
_OBJECT_LINE = re.compile(rb'^[ \t]*(?:\{[ \t]*["}]|\[[ \t]*[{\]])', re.MULTILINE)
_ARRAY = re.compile(rb"\[\s*[{\]]")


@dataclass(slots=True, frozen=True)
class Row:
    """A row that could be parsed, and where it stands."""

    file: str
    """Path of the file."""
    line: int
    """1-based line (JSON document: element; Parquet, hub: row)."""
    data: Any
    """What the row holds."""
    raw: bytes = b""
    """Its bytes, in a text file."""

    def fault(self, reason: str, detail: str) -> Quarantined:
        """The quarantine entry for this row."""
        return fault(self.file, self.line, reason, detail, self.raw or repr(self.data))


def fault(file: str, line: int, reason: str, detail: str, shown: bytes | str = b"") -> Quarantined:
    """A quarantine entry; what cannot be printed of the record is shown as an escape."""
    if isinstance(shown, bytes):
        shown = shown[: 4 * EXCERPT].decode("utf-8", "backslashreplace")
    return Quarantined(
        file=printable(file), line=line, reason=reason, detail=printable(detail), excerpt=printable(shown)[:EXCERPT]
    )


def printable(text: str) -> str:
    """Text without NUL and lone surrogates, which are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def file_rows(path: Path, columns: Columns) -> Iterator[Row | Quarantined]:
    """All rows of a file in order, and a quarantine entry for whatever of it is no row. Never raises for content."""
    name = str(path)
    try:
        if not path.is_file():
            yield fault(name, 0, "unreadable_file", "no regular file")
            return
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(PARQUET):
            yield from _parquet(path, columns)
        elif not head:
            yield fault(name, 0, "empty_file", "the file has no bytes")
        elif kind := other_kind(head):
            yield fault(name, 0, "unknown_format", f"the file is {kind}", head)
        else:
            yield from _text(path)
    except OSError as error:
        yield fault(name, 0, "unreadable_file", str(error))


def _parquet(path: Path, columns: Columns) -> Iterator[Row | Quarantined]:
    for line, data in table_rows(path, columns):
        if isinstance(data, Unreadable):
            yield fault(str(path), line, data.reason, data.detail)
        else:
            yield Row(str(path), line, data)


def _text(path: Path) -> Iterator[Row | Quarantined]:
    name = str(path)
    stream = chunks(path)
    first: list[bytes] = []
    broken: BrokenStream | None = None
    try:
        while sum(map(len, first)) < HEAD and (chunk := next(stream, b"")):
            first.append(chunk)
    except BrokenStream as error:
        broken = error
    head = b"".join(first)[:HEAD].removeprefix(b"\xef\xbb\xbf")
    if broken is not None and not head.strip():
        yield fault(name, 0, "broken_stream", str(broken))
    elif broken is None and not head.strip() and len(head) < HEAD:
        yield fault(name, 0, "empty_file", "the file holds nothing but white space")
    elif (wrong := _no_rows(path, head)) is not None:
        yield fault(name, 0, "unknown_format", wrong, head)
    else:
        rest = _reraise(broken) if broken is not None else stream
        cut = elements if is_document(head) else _lines
        yield from _parsed(name, cut(_without_mark(chain(first, rest))))


def _reraise(error: BrokenStream) -> Iterator[bytes]:
    yield from ()
    raise error


def _without_mark(stream: Iterator[bytes]) -> Iterator[bytes]:
    yield next(stream, b"").removeprefix(b"\xef\xbb\xbf")
    yield from stream


def _no_rows(path: Path, head: bytes) -> str | None:
    """Why a file that begins with `head` holds no JSON rows, or None where it may."""
    if kind := other_kind(head):
        return f"the file is {kind}"
    if _OBJECT_LINE.search(head) or head.lstrip()[:1] in (b"{", b"["):
        return None
    names = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    binary = b"\0" in head or b"\xff" in head
    if names and names[-1] in JSON_NAMES and not binary:
        return None
    return "the file is no text" if binary else "no line of it begins a JSON object, and it is no Parquet file"


def is_document(head: bytes) -> bool:
    """Whether a JSON file that begins with `head` is one document over many lines, rather than a row per line."""
    head = head.lstrip()
    line, newline, rest = head.partition(b"\n")
    line, rest = line.strip(), rest.lstrip(b"\r\n")
    if line == b"[" or not newline or not rest:
        return head.startswith(b"[")
    if head.startswith(b"["):
        second = rest.partition(b"\n")[0]
        return _ARRAY.match(line) is not None and _parse(line)[1] is not None and _parse(second)[1] is not None
    breaks = line.startswith(b"{") and line.endswith((b"{", b"[", b","))
    return breaks and rest[:1] in (b" ", b"\t", b'"', b"}", b"]") and _parse(line)[1] is not None


def _lines(stream: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines with their 1-based number, blank ones left out; a stream that breaks gives what it has of the last."""
    number, held = 0, list[bytes]()
    broken: BrokenStream | None = None
    try:
        for chunk in stream:
            if b"\n" not in chunk:
                held.append(chunk)
                continue
            *whole, rest = (b"".join(held) + chunk).split(b"\n") if held else chunk.split(b"\n")
            held = [rest]
            for line in whole:
                number += 1
                if line and not line.isspace():
                    yield number, line
    except BrokenStream as error:
        broken = error
    last = b"".join(held)
    if broken is not None:
        raise BrokenAt(number + 1, last, str(broken))
    if last and not last.isspace():
        yield number + 1, last


def _parsed(name: str, rows: Iterator[tuple[int, bytes]]) -> Iterator[Row | Quarantined]:
    line = 0
    try:
        for line, raw in rows:
            data, wrong = _parse(raw)
            if wrong is None:
                yield Row(name, line, data, raw)
            else:
                yield fault(name, line, *wrong, raw)
    except BrokenAt as broken:
        yield fault(name, broken.line, "broken_stream", broken.detail, broken.raw)
    else:
        if line == 0:
            yield fault(name, 0, "empty_file", "the file holds no record")


def _parse(raw: bytes) -> tuple[Any, tuple[str, str] | None]:
    """The value of a JSON text, or the reason and detail of why there is none."""
    try:
        return orjson.loads(raw), None
    except orjson.JSONDecodeError as error:
        return _parse_lenient(raw, str(error))


def _parse_lenient(raw: bytes, strict: str) -> tuple[Any, tuple[str, str] | None]:
    """Python's own parser takes lone surrogates and NaN, so that the reader can say which field has them."""
    if b"\0" in raw:
        return None, ("invalid_text", f"NUL at byte {raw.index(0)} of the row")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return None, ("invalid_utf8", f"byte {error.start} of the row: {error.reason}")
    try:
        return json.loads(text), None
    except (ValueError, RecursionError):
        return None, ("invalid_json", strict)
