"""What the local labeler looks at: the message's n-grams, and how it stands to the request and the reply before it.

Everything is computed for a whole batch at once in numpy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhi.feedback.hashing import Bags, Hashes, Places, Text, Tokens, bags, normalise

BUCKETS = 1 << 15
"""Buckets of the hashed n-grams."""

_NUMBER = re.compile(r"\d+")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Exchange:
    """A user message with what came before it."""

    request: str
    """The user message before."""
    reply: str
    """The reply in between."""
    message: str
    """The message to label."""
    earlier: str = ""
    """The user messages before the request, joined; empty where there are none."""


CONTEXT_FEATURES = (
    "log_chars",
    "log_words",
    "empty",
    "marks_only",
    "one_word",
    "length_to_request",
    "length_to_reply",
    "new_content",
    "content_in_request",
    "content_in_reply",
    "request_in_content",
    "content_in_earlier",
    "any_in_request",
    "any_in_reply",
    "dice_request",
    "same_as_request",
    "dice_earlier",
    "asks",
    "ends_asking",
    "exclaims",
    "code",
    "newlines",
    "shouts",
    "digits",
    "quotes",
    "link",
    "reply_empty",
    "reply_asks",
    "reply_short",
    "request_short",
    "first_follow_up",
    "no_topic",
    "topic_before",
    "topic_in_reply",
    "topic_new",
    "topic_covered",
    "numbers",
    "numbers_before",
    "numbers_in_reply",
)
"""Names of the context features, in order."""


@dataclass(frozen=True)
class Features:
    """Inputs of the labeler for a batch."""

    bags: Bags
    """N-grams of the messages."""
    context: Floats
    """Context features: [message, feature], each about 0–1."""


def _lengths(texts: Sequence[str]) -> Floats:
    return np.fromiter((len(text) for text in texts), np.float32, len(texts))


def _surface(messages: Sequence[str]) -> Floats:
    rows = [
        (
            "?" in text or "？" in text,
            text.rstrip().endswith(("?", "？", "؟")),
            min(text.count("!") + text.count("！"), 3) / 3,
            "```" in text or "();" in text or "import " in text or "</" in text or "def " in text,
            min(text.count("\n"), 10) / 10,
            text.isupper() and len(text) > 3,
            min(sum(text.count(digit) for digit in "0123456789"), 8) / 8,
            any(mark in text for mark in '"“«„'),
            "http" in text,
        )
        for text in (message[:2000] for message in messages)
    ]
    return np.array(rows, dtype=np.float32).reshape(len(rows), 9)


def _pairs(hashes: Hashes, owner: Places) -> Hashes:
    """Distinct (text, hash) pairs as single numbers, sorted."""
    return np.unique(hashes * np.uint64(0x9E3779B97F4A7C15) + owner.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F))


def _per_text(hashes: Hashes, owner: Places, others: Hashes, texts: int) -> tuple[Floats, Floats]:
    """Distinct hashes of each text, and how many of them are among `others`' pairs for the same text."""
    keys = hashes * np.uint64(0x9E3779B97F4A7C15) + owner.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    distinct, first = np.unique(keys, return_index=True)
    who = owner[first]
    shared = np.isin(distinct, others, assume_unique=True)
    return (
        np.bincount(who, minlength=texts).astype(np.float32),
        np.bincount(who[shared], minlength=texts).astype(np.float32),
    )


def _share(part: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0).astype(np.float32)


class _Side:
    """One column of texts with its tokens, content words and 4-grams."""

    def __init__(self, texts: Sequence[str], common: Hashes) -> None:
        self.text = Text.of(texts)
        self.tokens: Tokens = self.text.tokens()
        owner, content = self.tokens.owner(), self.tokens.content()
        self.words, self.word_owner = self.tokens.hashes[content], owner[content]
        self.pairs = _pairs(self.words, self.word_owner)
        rare = ~np.isin(self.words, common)
        self.topics, self.topic_owner = self.words[rare], self.word_owner[rare]
        self.topic_pairs = _pairs(self.topics, self.topic_owner)

    def gram_pairs(self) -> tuple[Hashes, Places]:
        return self.text.grams(4)


def _dice(left: _Side, right: _Side, texts: int) -> tuple[Floats, Floats]:
    """Dice coefficient of the 4-grams per text, and the share of the left's that the right has."""
    mine, owner = left.gram_pairs()
    others, other_owner = right.gram_pairs()
    theirs = _pairs(others, other_owner)
    count, shared = _per_text(mine, owner, theirs, texts)
    other_count, _ = _per_text(others, other_owner, theirs, texts)
    return _share(2 * shared, count + other_count), _share(shared, count)


def _topics(message: _Side, before: _Side, reply: _Side, count: int) -> list[Floats]:
    """How the message's topic words (content words that are not common) stand to what was said before."""
    topics, known = _per_text(message.topics, message.topic_owner, before.topic_pairs, count)
    _, replied = _per_text(message.topics, message.topic_owner, reply.topic_pairs, count)
    asked, covered = _per_text(before.topics, before.topic_owner, message.topic_pairs, count)
    new = topics - np.minimum(topics, known + replied)
    return [
        (topics == 0).astype(np.float32),
        _share(known, topics),
        _share(replied, topics),
        np.minimum(new, 6) / 6,
        _share(covered, asked),
    ]


def _numbers(exchanges: Sequence[Exchange]) -> Floats:
    """Numbers of the message, their share among those of the user's earlier messages, and of the reply."""
    rows = np.zeros((len(exchanges), 3), dtype=np.float32)
    for place, exchange in enumerate(exchanges):
        said = set(_NUMBER.findall(exchange.message[:2000]))
        if said:
            before = set(_NUMBER.findall(f"{exchange.earlier[:2000]} {exchange.request[:2000]}"))
            reply = set(_NUMBER.findall(exchange.reply[:2000]))
            rows[place] = min(len(said), 4) / 4, len(said & before) / len(said), len(said & reply) / len(said)
    return rows


def common_words(texts: Sequence[str], number: int) -> Hashes:
    """Hashes of the `number` content words that stand in most of the texts."""
    tokens = Text.of([normalise(text) for text in texts]).tokens()
    content = tokens.content()
    pairs = np.unique(np.stack([tokens.hashes[content], tokens.owner()[content].astype(np.uint64)]), axis=1)
    words, counts = np.unique(pairs[0], return_counts=True)
    return np.sort(words[np.argsort(-counts, kind="stable")[:number]])


def features(exchanges: Sequence[Exchange], common: Hashes) -> Features:
    """Inputs of the labeler for a batch of exchanges. `common` are the words that say nothing of a topic."""
    count = len(exchanges)
    raw = [exchange.message for exchange in exchanges]
    messages = [normalise(text) for text in raw]
    requests = [normalise(exchange.request) for exchange in exchanges]
    replies = [normalise(exchange.reply) for exchange in exchanges]
    earlier = [normalise(exchange.earlier) for exchange in exchanges]
    both = [f"{old} {new}" for old, new in zip(earlier, requests, strict=True)]
    message, request, reply, before, asked = (
        _Side(side, common) for side in (messages, requests, replies, earlier, both)
    )
    words = np.diff(message.tokens.starts).astype(np.float32)
    content, in_request = _per_text(message.words, message.word_owner, request.pairs, count)
    _, in_reply = _per_text(message.words, message.word_owner, reply.pairs, count)
    _, in_earlier = _per_text(message.words, message.word_owner, before.pairs, count)
    request_words, request_in = _per_text(request.words, request.word_owner, message.pairs, count)
    dice, _ = _dice(message, request, count)
    _, within_earlier = _dice(message, before, count)
    chars, request_chars = _lengths(messages), _lengths(requests)
    is_word = message.tokens.kinds < 3
    spoken = np.bincount(message.tokens.owner()[is_word], minlength=count)
    new = content - np.minimum(content, in_request + in_reply)
    columns = [
        np.log1p(chars) / 6,
        np.log1p(words) / 5,
        words == 0,
        (spoken == 0) & (words > 0),
        spoken == 1,
        np.log((chars + 5) / (request_chars + 5)) / 3,
        np.log((chars + 5) / (_lengths(replies) + 5)) / 3,
        _share(new, content),
        _share(in_request, content),
        _share(in_reply, content),
        _share(request_in, request_words),
        _share(in_earlier, content),
        in_request > 0,
        in_reply > 0,
        dice,
        np.array([m == r for m, r in zip(messages, requests, strict=True)], dtype=np.float32),
        within_earlier,
        *_surface(raw).T,
        _lengths(replies) == 0,
        np.array([text.endswith(("?", "？")) for text in replies], dtype=np.float32),
        _lengths(replies) < 80,
        request_chars < 25,
        _lengths(earlier) == 0,
        *_topics(message, asked, reply, count),
        *_numbers(exchanges).T,
    ]
    context = np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1) if count else None
    if context is None:
        context = np.zeros((0, len(CONTEXT_FEATURES)), dtype=np.float32)
    return Features(bags(message.text, message.tokens, BUCKETS), context)
