"""Hashed character and word n-grams of many texts at once, in numpy.

All texts are laid end to end as one array of code points; polynomial hashes of every n-gram come from shifted views of
it, so a batch costs a few array passes however many texts it holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

HEAD_CHARS = 320
TAIL_CHARS = 160
_GRAMS = (2, 3, 4, 5)
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SPACES = re.compile(r"\s+")
_DIGITS = re.compile(r"\d")
_SPACE, _WORD, _IDEOGRAPH, _MARK = range(4)


def normalise(text: str) -> str:
    """Lower case, one kind of space, digit, apostrophe; a long text keeps only its beginning and its end."""
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]} {text[-TAIL_CHARS:]}"
    text = _SPACES.sub(" ", text.lower().replace("’", "'").replace("\0", " ")).strip()
    return _DIGITS.sub("0", text)


@cache
def _classes() -> NDArray[np.uint8]:
    table = np.full(0x110000, _MARK, dtype=np.uint8)
    for code in range(0x30000):
        char = chr(code)
        if char.isspace():
            table[code] = _SPACE
        elif char.isalnum() or char in "'_":
            table[code] = _WORD
    for low, high in ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FFFF)):
        table[low : high + 1] = _IDEOGRAPH
    return table


@dataclass(frozen=True)
class Tokens:
    """Words, single ideographs and single marks of some normalised texts."""

    hashes: Hashes
    """Hash of each token, texts one after another."""
    starts: Places
    """First token of each text; one more entry for the end."""
    lengths: Places
    """Characters of each token."""
    kinds: NDArray[np.uint8]
    """Word, ideograph or mark."""

    def owner(self) -> Places:
        """The text that each token stands in."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def content(self) -> NDArray[np.bool_]:
        """Tokens that carry a topic: ideographs, and words of at least four characters."""
        return np.asarray((self.kinds == _IDEOGRAPH) | ((self.kinds == _WORD) & (self.lengths >= 4)), dtype=np.bool_)


@dataclass(frozen=True)
class Text:
    """Normalised texts laid end to end, a space on either side of each."""

    codes: NDArray[np.uint32]
    """Code points."""
    starts: Places
    """First code of each text; one more entry for the end."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Text:
        """Lay out texts that were normalised before."""
        padded = [f" {text} " for text in texts]
        codes = np.frombuffer("".join(padded).encode("utf-32-le", "replace"), dtype=np.uint32)
        return cls(codes, _offsets(np.fromiter((len(text) for text in padded), np.int64, len(padded))))

    def tokens(self) -> Tokens:
        """Cut into tokens."""
        kinds = _classes()[self.codes]
        first = np.ones(len(kinds), dtype=bool)
        first[1:] = (kinds[1:] != kinds[:-1]) | (kinds[1:] >= _IDEOGRAPH)
        begins = np.flatnonzero(first)
        lengths = np.diff(np.append(begins, len(kinds)))
        within = np.arange(len(kinds)) - np.repeat(begins, lengths)
        terms = (self.codes.astype(np.uint64) + np.uint64(1)) * _powers()[np.minimum(within, _LONGEST - 1)]
        hashes = np.add.reduceat(terms, begins) if len(begins) else np.zeros(0, np.uint64)
        kept = kinds[begins] != _SPACE
        begins, lengths, hashes = begins[kept], lengths[kept], hashes[kept]
        return Tokens(_scramble(hashes), np.searchsorted(begins, self.starts), lengths, kinds[begins])

    def grams(self, order: int) -> tuple[Hashes, Places]:
        """Hashes of all character n-grams of one order, and the text that each stands in."""
        count = max(0, len(self.codes) - order + 1)
        hashes = np.zeros(count, dtype=np.uint64)
        for place in range(order):
            hashes = hashes * _BASE + self.codes[place : place + count].astype(np.uint64)
        owner = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        inside = owner[:count] == owner[order - 1 :]
        return _scramble(hashes[inside] + np.uint64(order)), owner[:count][inside]


_LONGEST = 4096


@cache
def _powers() -> Hashes:
    return np.cumprod(np.full(_LONGEST, _BASE, dtype=np.uint64), dtype=np.uint64)


def _scramble(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _MIX
    return hashes ^ (hashes >> np.uint64(32))


def _offsets(counts: Places) -> Places:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


@dataclass(frozen=True)
class Bags:
    """The n-gram buckets of some texts: those of text i are `ids[starts[i]:starts[i + 1]]`."""

    ids: Places
    """Buckets, 0 up to the number of buckets."""
    starts: Places
    """First bucket of each text; one more entry for the end."""

    def weights(self) -> NDArray[np.float32]:
        """Weight of each bucket: 1/√n for a text of n n-grams, so that long texts do not shout."""
        counts = np.diff(self.starts)
        return np.repeat(1.0 / np.sqrt(np.maximum(counts, 1)), counts).astype(np.float32)

    def sums(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weighted sum of the rows of `table` [bucket, channel] per text: [text, channel]."""
        # The empty row at the end lets reduceat stand on an empty last text.
        rows = np.concatenate([table[self.ids] * self.weights()[:, None], np.zeros((1, table.shape[1]), np.float32)])
        found = np.add.reduceat(rows, self.starts[:-1], axis=0) if len(self.starts) > 1 else rows[:0]
        found[np.diff(self.starts) == 0] = 0.0
        return found.astype(np.float32)


def bags(text: Text, tokens: Tokens, buckets: int) -> Bags:
    """Character n-grams (2–5), word n-grams (1–3) and the first and last words of each text.

    `buckets` is a power of two.
    """
    hashes: list[Hashes] = []
    owners: list[Places] = []
    for order in _GRAMS:
        found, owner = text.grams(order)
        hashes.append(found)
        owners.append(owner)
    owner = tokens.owner()
    run = tokens.hashes
    for order in (1, 2, 3):
        if order > 1:
            run = run[:-1] * _BASE + tokens.hashes[order - 1 :] if len(run) else run
        same = owner[: len(run)] == owner[len(owner) - len(run) :]
        # A word n-gram counts twice: there are far more character n-grams, which say less.
        for salt in (order, order + 8):
            hashes.append(_scramble(run[same] + np.uint64(salt)))
            owners.append(owner[: len(run)][same])
    place = np.arange(len(owner)) - tokens.starts[owner]
    left = tokens.starts[owner + 1] - np.arange(len(owner))
    for near, salt in ((place < 3, 16), (left <= 2, 32)):
        hashes.append(_scramble(tokens.hashes[near] * np.uint64(3) + np.uint64(salt)))
        owners.append(owner[near])
    who = np.concatenate(owners)
    order_ = np.argsort(who, kind="stable")
    ids = (np.concatenate(hashes)[order_] & np.uint64(buckets - 1)).astype(np.int64)
    return Bags(ids, np.searchsorted(who[order_], np.arange(len(text.starts))))
