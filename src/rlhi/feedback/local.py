"""The local labeler: hashed n-grams and context features through a small network, in numpy, without an LLM."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors

from rlhi.feedback.clauses import clauses
from rlhi.feedback.features import CONTEXT_FEATURES, Exchange, Features, Floats, features
from rlhi.feedback.taxonomy import EVIDENT, LABELS
from rlhi.records import Label

WEIGHTS = "labeler.safetensors"
MAX_SPAN_CHARS = 300
SILENT = np.array([20.0 if label == "other" else 0.0 for label in LABELS], dtype=np.float32)
"""Logits of a message without words or marks: `other`."""


@dataclass(frozen=True)
class Judgement:
    """What the labeler says of one message."""

    label: Label
    """The likeliest label."""
    satisfaction: int
    """1 clear rejection … 5 clear satisfaction."""
    confidence: float
    """Calibrated probability of the label, 0–1."""
    span: str
    """The clause with most evidence, verbatim; empty where the label needs none."""


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


class LocalLabeler:
    """The shipped classifier.

    Network: h = relu(W₁ [Σ e(g)/√n ; context] + b₁); label logits = (W₂ h + b₂ + Σ l(g)/√n) / T, where e and l are the
    learnt vectors of a message's n n-grams g; satisfaction is a cumulative link model on one score of h,
    P(level > k) = σ(score − tₖ).
    """

    def __init__(self, tensors: dict[str, NDArray[Any]], name: str) -> None:
        self._common = tensors["common"].astype(np.uint64)
        self._tensors = {key: np.asarray(value, dtype=np.float32) for key, value in tensors.items() if key != "common"}
        self.name = name
        """Name and version: `local-` and the beginning of the weights' digest."""

    def _forward(self, inputs: Features) -> tuple[Floats, Floats]:
        t = self._tensors
        summed = inputs.bags.sums(t["ngrams"])
        labels = len(LABELS)
        hidden = np.concatenate([summed[:, labels:], inputs.context], axis=1) @ t["hidden.weight"].T + t["hidden.bias"]
        hidden = np.maximum(hidden, 0)
        out = hidden @ t["out.weight"].T + t["out.bias"]
        logits = (out[:, :labels] + summed[:, :labels]) / t["temperature"]
        silent = inputs.context[:, CONTEXT_FEATURES.index("empty")] > 0
        logits[silent] = SILENT
        neutral = t["thresholds"][1:3].mean()
        return softmax(logits), np.where(silent, neutral, out[:, labels]).astype(np.float32)

    def _spans(self, exchanges: Sequence[Exchange], chosen: Sequence[int]) -> list[str]:
        """The clause of each message that alone speaks most for the chosen label."""
        pieces: list[tuple[int, str]] = []
        for row, (exchange, label) in enumerate(zip(exchanges, chosen, strict=True)):
            if LABELS[label] in EVIDENT:
                found = clauses(exchange.message) or [exchange.message.strip()]
                pieces += [(row, piece[:MAX_SPAN_CHARS].strip()) for piece in found]
        spans = [""] * len(exchanges)
        if not pieces:
            return spans
        alone = [
            Exchange(exchanges[row].request, exchanges[row].reply, text, exchanges[row].earlier) for row, text in pieces
        ]
        probabilities, _ = self._forward(features(alone, self._common))
        best: dict[int, float] = {}
        for (row, text), chances in zip(pieces, probabilities, strict=True):
            if chances[chosen[row]] > best.get(row, -1.0):
                best[row] = float(chances[chosen[row]])
                spans[row] = text
        return spans

    def probabilities(self, exchanges: Sequence[Exchange]) -> Floats:
        """Calibrated probability of each label: [message, label], labels in the order of `LABELS`."""
        return self._forward(features(exchanges, self._common))[0]

    def label(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        """Label a batch of messages; the larger the batch, the quicker each."""
        if not exchanges:
            return []
        probabilities, scores = self._forward(features(exchanges, self._common))
        chosen = [int(best) for best in probabilities.argmax(axis=1)]
        levels = 1 + (scores[:, None] > self._tensors["thresholds"][None, :]).sum(axis=1)
        spans = self._spans(exchanges, chosen)
        return [
            Judgement(LABELS[best], int(level), float(min(chances[best], 1.0)), span)
            for best, level, chances, span in zip(chosen, levels, probabilities, spans, strict=True)
        ]


def version(content: bytes) -> str:
    """Name of the labeler with these weights."""
    return f"local-{hashlib.sha256(content).hexdigest()[:8]}"


@cache
def load() -> LocalLabeler:
    """The shipped labeler, loaded once per process."""
    content = (files(__package__) / WEIGHTS).read_bytes()
    return LocalLabeler(load_tensors(content), version(content))
