"""Bytes of a file, in chunks: plain, gzip or zstd by content, whatever the name says."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CHUNK = 1 << 20
"""Bytes read at once."""
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
PARQUET = b"PAR1"
KNOWN = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or a sound",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive; unpack it first",
    b"BZh": "a bzip2 file; only gzip and zstd are read",
    b"\xfd7zXZ": "an xz file; only gzip and zstd are read",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"\x7fELF": "a program",
    b"SQLite": "an SQLite database",
    b"ARROW1": "an Arrow file; only Parquet is read",
    b"\xff\xfe": "UTF-16 text; write it as UTF-8",
    b"\xfe\xff": "UTF-16 text; write it as UTF-8",
}
"""How other kinds of file begin, and what to tell of them."""


class BrokenStream(Exception):
    """A compressed stream that ends too early or is damaged. What came before it has been given out."""


class BrokenAt(Exception):
    """A stream broke inside a row."""

    def __init__(self, line: int, raw: bytes, detail: str) -> None:
        super().__init__(detail)
        self.line = line
        """Number of the row, from 1."""
        self.raw = raw
        """What there is of it."""
        self.detail = detail
        """What is wrong with the stream."""


def other_kind(head: bytes) -> str | None:
    """What a file is that begins with `head`, if it is none of ours."""
    return next((kind for magic, kind in KNOWN.items() if head.startswith(magic)), None)


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file, never an empty chunk. Raises `BrokenStream`, `OSError`."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(GZIP):
            yield from _gzip(file)
        elif magic == ZSTD:
            yield from _zstd(path)
        elif path.suffix.lower() in (".gz", ".zst", ".zstd"):
            raise BrokenStream(f"its name ends in {path.suffix}, but it does not begin as such a file does")
        else:
            while chunk := file.read(CHUNK):
                yield chunk


def _gzip(file: IO[bytes]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as stream:
        try:
            while chunk := stream.read1(CHUNK):
                yield chunk
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BrokenStream(f"gzip: {error}") from None


def _zstd(path: Path) -> Iterator[bytes]:
    import pyarrow as pa

    done = 0
    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            while chunk := stream.read(CHUNK):
                done += len(chunk)
                yield chunk
    except OSError as error:
        yield from _zstd_rest(path, done)
        raise BrokenStream(f"zstd: {error}") from None


def _zstd_rest(path: Path, done: int) -> Iterator[bytes]:
    """What a broken stream still holds after `done` bytes: a read that fails gives nothing of what it had decoded."""
    import pyarrow as pa

    rest = bytearray()
    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            while done > 0:
                done -= len(stream.read(min(done, CHUNK)))
            while byte := stream.read(1):
                rest += byte
    except OSError:
        if rest:
            yield bytes(rest)
