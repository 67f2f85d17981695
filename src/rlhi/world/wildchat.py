"""Conversations as rows of WildChat, with its real columns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from rlhi.world.dialogue import Exchange

MODEL = "world-writer"
_CATEGORIES = ("harassment", "hate", "self-harm", "sexual", "violence")
_TOXICITIES = ("identity_attack", "insult", "obscene", "severe_toxicity", "sexual_explicit", "threat", "toxicity")
_PLACES = (("United States", "Ohio"), ("United Kingdom", "England"), ("Spain", "Madrid"), ("Mexico", "Jalisco"))
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15",
)


@dataclass(frozen=True)
class Client:
    """Where an account writes from. It tells nothing of what its user wants."""

    hashed_ip: str
    country: str
    state: str
    header: dict[str, str]


def make_client(hashed_ip: str, rng: Random) -> Client:
    """A random client."""
    country, state = rng.choice(_PLACES)
    return Client(hashed_ip, country, state, {"accept-language": "en-US,en;q=0.9", "user-agent": rng.choice(_AGENTS)})


def opaque(*parts: object) -> str:
    """A digest that names something and tells nothing, 64 hex digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def language_name(text: str) -> str:
    """WildChat's name of the language of a text of this world."""
    return "Spanish" if re.search(r"[¿¡ñáéíóú]| (el|la|de|con) ", text.lower()) else "English"


def row(
    conversation_hash: str, client: Client, exchanges: Sequence[Exchange], times: Sequence[datetime], rng: Random
) -> dict[str, Any]:
    """A conversation as WildChat has it; `times` are those of the replies."""
    messages: list[dict[str, Any]] = []
    for exchange, at in zip(exchanges, times, strict=True):
        number = rng.randrange(100_000, 1_000_000)
        messages.append(_message("user", exchange.text, None, number, client))
        messages.append(_message("assistant", exchange.reply, at, number, None))
    return {
        "conversation_hash": conversation_hash,
        "model": MODEL,
        "timestamp": times[-1].isoformat(),
        "conversation": messages,
        "turn": len(exchanges),
        "language": language_name(exchanges[0].text),
        "openai_moderation": [_moderation(rng) for _ in messages],
        "detoxify_moderation": [{name: _small(rng) for name in _TOXICITIES} for _ in messages],
        "toxic": False,
        "redacted": False,
        "state": client.state,
        "country": client.country,
        "hashed_ip": client.hashed_ip,
        "header": client.header,
    }


def _message(role: str, content: str, at: datetime | None, number: int, client: Client | None) -> dict[str, Any]:
    return {
        "role": role,
        "content": content,
        "timestamp": at.isoformat() if at else None,
        "language": language_name(content),
        "toxic": False,
        "redacted": False,
        "hashed_ip": client.hashed_ip if client else None,
        "turn_identifier": number,
        "country": client.country if client else None,
        "state": client.state if client else None,
        "header": client.header if client else None,
    }


def _moderation(rng: Random) -> dict[str, Any]:
    return {
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": {name: _small(rng) for name in _CATEGORIES},
        "flagged": False,
    }


def _small(rng: Random) -> float:
    return round(rng.random() * 1e-3, 7)
