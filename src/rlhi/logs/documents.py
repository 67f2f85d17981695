"""Cuts a JSON document into its elements as it streams by: `[{…}, {…}]`, or objects one after the other.

Only brackets and strings are looked at here; each element is parsed by itself, so a broken one costs no other. Even one
with a bracket or a quote too few ends where another begins: at the head of a line, at the same indentation and with the
same first key, as no object within it does. (In a layout without any indentation one may: there no element is mended.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlhi.logs.streams import BrokenAt, BrokenStream

_TOKEN = re.compile(rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|\n[ \t]*+\{\s*+"[^"\\\n]*+"|["{}\[\]]')
"""A whole string, the first words of an object at the head of a line, a bracket, or a quote that opens no string."""
_FIRST_WORDS = re.compile(rb'\{\s*+"[^"\\\n]*+"')
_NEAR = 512
"""Bytes within which an object's first key ends."""


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
        self.head = b""
        """How the element at hand began its line, up to its first key; empty = it has none, or stands in a layout
        without indentation, in which objects within it may begin alike."""

    def feed(self, chunk: bytes, last: bool = False) -> Iterator[bytes]:
        """Take more bytes; give out the elements that they complete."""
        self.buffer = self.buffer[self.start :] + chunk
        self.seen -= self.start
        self.start = 0
        for match in _TOKEN.finditer(self.buffer, self.seen):
            token, place = match.group(), match.start()
            if not last and (len(self.buffer) - place < _NEAR or self._may_go_on(token, place)):
                return
            self.seen = match.end()
            if token in (b"}", b"]"):
                yield from self._close(token)
            elif token[:1] in b"{[\n":
                yield from self._open(token, place)
        self.seen = len(self.buffer) if last else max(self.seen, len(self.buffer) - _NEAR)

    def _may_go_on(self, token: bytes, place: int) -> bool:
        """Whether a lone quote is a string that the next chunk ends, rather than one that its line leaves open."""
        return token == b'"' and self.buffer.find(b"\n", place) < 0

    def _open(self, token: bytes, place: int) -> Iterator[bytes]:
        at = place + max(token.find(b"{"), 0)
        if self.depth > 0 and token == self.head:
            self.depth = 0
            yield self.buffer[self.start : at].rstrip(b", \t\r\n")
            self.start = at
        if self.depth == 0:
            yield from self._between(at)
            if token == b"[" and not self.in_array:
                self.in_array = True
                self.start = at + 1
                return
            words = _FIRST_WORDS.match(self.buffer, at)
            self.head = token if len(token) > 1 else b"\n" + words.group() if words else b""
            if self.head.startswith((b"\n{\n", b"\n{\r")):
                self.head = b""
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
        """What the document ends with, once the last bytes were fed."""
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
    for element in cutter.feed(b"", last=True):
        number += 1
        yield number, element
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
