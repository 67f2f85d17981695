"""The completion store: every answer that was paid for, found again by the content of its request.

One SQLite file in WAL mode, safe for several threads and processes. An answer is in the file when `put` returns, so
`kill -9` loses none. A row that was damaged is found by its checksum, and counts as absent.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import overload

from pydantic import ValidationError

from rlhi.errors import RlhiError
from rlhi.models.base import ChatRequest, Completion, ScoreAnswer, ScoreRequest
from rlhi.records import digest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, checksum INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rejected (key BLOB PRIMARY KEY, times INTEGER NOT NULL);
"""
_BUSY_SECONDS = 60.0


class StoreError(RlhiError, OSError):
    """The file of the store cannot be read or written; like any `OSError` it ends a run."""


def key_of(request: ChatRequest | ScoreRequest) -> bytes:
    """Identity of a request in the store: 16 bytes from its kind and its whole content."""
    return bytes.fromhex(digest([type(request).__name__, request.model_dump(mode="json")]))


class Store:
    """Answers by request. It holds requests' digests and answers, and nothing else: no key, no address, no chat."""

    def __init__(self, path: str | Path) -> None:
        """Open or create the file. Raises `StoreError` where that cannot be done."""
        self.path = Path(path)
        """The SQLite file."""
        self._lock = threading.Lock()
        with self._readable():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
            self._write_ahead()
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)

    @overload
    def get(self, request: ChatRequest) -> Completion | None: ...
    @overload
    def get(self, request: ScoreRequest) -> ScoreAnswer | None: ...
    def get(self, request: ChatRequest | ScoreRequest) -> Completion | ScoreAnswer | None:
        """The stored answer, or None where there is none or it is damaged. Raises `StoreError`."""
        with self._lock, self._readable():
            row = self._db.execute("SELECT checksum, body FROM answers WHERE key = ?", (key_of(request),)).fetchone()
        if row is None:
            return None
        checksum, body = row
        answer = Completion if isinstance(request, ChatRequest) else ScoreAnswer
        try:
            if zlib.crc32(body) != checksum:
                return None
            return answer.model_validate_json(zlib.decompress(body))
        except (ValidationError, zlib.error, TypeError):
            return None  # damaged

    def put(self, request: ChatRequest | ScoreRequest, answer: Completion | ScoreAnswer) -> None:
        """Store an answer, in place of any other; it survives the end of this process. Raises `StoreError`."""
        body = zlib.compress(answer.model_dump_json().encode(), 1)
        values = (key_of(request), zlib.crc32(body), body)
        with self._lock, self._readable():
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", values)

    def reject(self, request: ChatRequest) -> None:
        """Forget an answer that could not be used, and count that. Raises `StoreError`."""
        key = (key_of(request),)
        with self._lock, self._readable():
            self._db.execute(
                "INSERT INTO rejected VALUES (?, 1) ON CONFLICT (key) DO UPDATE SET times = times + 1", key
            )
            self._db.execute("DELETE FROM answers WHERE key = ?", key)

    def rejections(self, request: ChatRequest) -> int:
        """How often an answer to `request` was rejected. Raises `StoreError`."""
        with self._lock, self._readable():
            row = self._db.execute("SELECT times FROM rejected WHERE key = ?", (key_of(request),)).fetchone()
        return int(row[0]) if row else 0

    def count(self) -> int:
        """Number of stored answers. Raises `StoreError`."""
        with self._lock, self._readable():
            return int(self._db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _write_ahead(self) -> None:
        """Turn WAL mode on. SQLite does not wait for this lock by itself: two processes may open a new file at once."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the completion store {self.path} failed: {error}; {_advice(error)}") from error


def _advice(error: Exception) -> str:
    text = str(error)
    if "full" in text or "No space" in text:
        return "free space on the disk and run again, every answer stored so far is kept"
    if isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
        return "move the file away and run again, the answers in it will be asked for anew"
    if "locked" in text:
        return f"another process kept it locked for over {_BUSY_SECONDS:.0f} s; end that process"
    return "check that the path can be written"
