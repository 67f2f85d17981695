"""Reads which wishes a clause of feedback says: a small network over hashed n-grams, several languages, no LLM."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from rlhi.feedback.hashing import Text, bags, normalise
from rlhi.personas.facets import FACETS, WISHES, Wish

BUCKETS = 1 << 14
WEIGHTS = "facets.safetensors"
THRESHOLD = 0.7
MEMBERS = [[place for place, wish in enumerate(WISHES) if wish.facet == facet] for facet in FACETS]
"""Places in `WISHES` of each facet's values."""


_MARKS = re.compile(r"[.,;:!¡¿\"“”«»()。，！；：、]+")


def plain(clause: str) -> str:
    """A clause as the reader sees it: normalised, without marks except the question mark."""
    return " ".join(_MARKS.sub(" ", normalise(clause)).split())


class FacetReader:
    """Which facets a clause speaks of, and which value it wants in each.

    Several networks, their logits averaged, each: h = relu(W₁ Σ e(g)/√n + b₁) over the clause's n n-grams g;
    P(facet) = σ(W₂ h + b₂) for each facet on its own; P(value | facet) = softmax of the facet's rows of W₃ h + b₃.
    The tensors carry the networks on their first axis; `ngrams` holds them side by side.
    """

    def __init__(self, tensors: dict[str, NDArray[np.float32]]) -> None:
        self._tensors = {key: np.asarray(value, dtype=np.float32) for key, value in tensors.items()}

    def logits(self, clauses: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits of the facets [clause, facet] and of the wishes [clause, wish], in the orders of the tables."""
        t = self._tensors
        text = Text.of([plain(clause) for clause in clauses])
        summed = bags(text, text.tokens(), BUCKETS).sums(t["ngrams"])
        parts = summed.reshape(len(clauses), len(t["hidden.bias"]), -1)
        hidden = np.einsum("cnd,nhd->cnh", parts, t["hidden.weight"]) + t["hidden.bias"]
        hidden = np.maximum(hidden, 0)
        facets = np.einsum("cnh,nfh->cnf", hidden, t["facets.weight"]) + t["facets.bias"]
        wishes = np.einsum("cnh,nwh->cnw", hidden, t["wishes.weight"]) + t["wishes.bias"]
        return facets.mean(axis=1), wishes.mean(axis=1)

    def facets(self, clause: str) -> dict[str, float]:
        """Probability that a clause speaks of each facet."""
        logits = np.clip(self.logits([clause])[0][0], -60, 60)
        return dict(zip(FACETS, (1 / (1 + np.exp(-logits))).tolist(), strict=True))

    def read(self, clauses: Sequence[str], threshold: float = THRESHOLD) -> list[dict[Wish, float]]:
        """The wishes that each clause says with their probabilities; of one facet only the likeliest."""
        if not clauses:
            return []
        facets, wishes = self.logits(clauses)
        spoken = 1 / (1 + np.exp(-np.clip(facets, -60, 60)))
        found: list[dict[Wish, float]] = []
        for chances, row in zip(spoken, wishes, strict=True):
            read: dict[Wish, float] = {}
            for place in np.flatnonzero(chances >= threshold):
                members = MEMBERS[place]
                powers = np.exp(row[members] - row[members].max())
                best = int(powers.argmax())
                read[WISHES[members[best]]] = float(chances[place] * powers[best] / powers.sum())
            found.append({wish: chance for wish, chance in read.items() if chance >= threshold})
        return found


@cache
def version() -> str:
    """Name of the reader with the shipped weights: `local-` and the beginning of their digest."""
    return f"local-{hashlib.sha256((files(__package__) / WEIGHTS).read_bytes()).hexdigest()[:8]}"


@cache
def load() -> FacetReader:
    """The shipped reader, loaded once per process."""
    return FacetReader(load_tensors((files(__package__) / WEIGHTS).read_bytes()))
