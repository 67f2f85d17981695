"""Cuts a JSON document into its elements as it streams by: `[{…}, {…}]`, or objects one after the other.

Only brackets and strings are looked at here; each element is parsed by itself, so a broken one costs no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlhi.logs.streams import BrokenAt, BrokenStream

_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]]', re.DOTALL)
_OPEN = (b"{", b"[")


class _Cutter:
    """Where the cutting stands: how deep, and where in the buffer the element at hand began."""

    def __init__(self) -> None:
        self.buffer = b""
        self.seen = 0
        """Bytes of the buffer whose brackets are counted."""
        self.start = 0
        """Where the element, or what stands between two, begins."""
        self.depth = 0
        """Open brackets, the document's own array left out."""
        self.in_array = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take more bytes; give out the elements that they complete."""
        self.buffer = self.buffer[self.start :] + chunk
        self.seen -= self.start
        self.start = 0
        for match in _TOKEN.finditer(self.buffer, self.seen):
            token, place = match.group(), match.start()
            if token == b'"':
                break
            self.seen = match.end()
            if token in _OPEN:
                yield from self._open(token, place)
            elif len(token) == 1:
                yield from self._close(token)
        else:
            self.seen = len(self.buffer)

    def _open(self, token: bytes, place: int) -> Iterator[bytes]:
        if self.depth == 0:
            yield from self._between(place)
            if token == b"[" and not self.in_array:
                self.in_array = True
                self.start = place + 1
                return
        self.depth += 1

    def _close(self, token: bytes) -> Iterator[bytes]:
        if self.depth > 1:
            self.depth -= 1
        elif self.depth == 1:
            self.depth = 0
            yield self.buffer[self.start : self.seen]
            self.start = self.seen
        elif token == b"]" and self.in_array:
            yield from self._between(self.seen - 1)
            self.in_array = False
            self.start = self.seen

    def _between(self, end: int) -> Iterator[bytes]:
        """What stands between two elements: commas, or values that are no objects."""
        for piece in self.buffer[self.start : end].split(b","):
            if piece and not piece.isspace():
                yield piece.strip()
        self.start = end

    def rest(self) -> Iterator[bytes]:
        """What the document ends with, once there are no more bytes."""
        if self.depth == 0:
            yield from self._between(len(self.buffer))
        elif self.buffer[self.start :].strip():
            yield self.buffer[self.start :]


def elements(stream: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Elements with their 1-based number; what is left of a document that ends too early is the last of them."""
    cutter, number = _Cutter(), 0
    broken: BrokenStream | None = None
    try:
        for piece in _growing(stream, cutter):
            for element in cutter.feed(piece):
                number += 1
                yield number, element
    except BrokenStream as error:
        broken = error
    rest = list(cutter.rest())
    if broken is not None:
        raise BrokenAt(number + 1, b"".join(rest), str(broken))
    yield from enumerate(rest, start=number + 1)


def _growing(stream: Iterator[bytes], cutter: _Cutter) -> Iterator[bytes]:
    """Join chunks until they are as long as what the cutter holds: a long string is not scanned again and again."""
    waiting: list[bytes] = []
    try:
        for chunk in stream:
            waiting.append(chunk)
            if sum(map(len, waiting)) >= len(cutter.buffer) - cutter.start:
                yield b"".join(waiting)
                waiting.clear()
    except BrokenStream:
        yield b"".join(waiting)
        raise
    yield b"".join(waiting)
