"""Pairs for the tests of training."""

from __future__ import annotations

import random

from rlhi.records import ChatMessage, PreferencePair, Provenance, digest
from rlhi.training.tokenize import Side

WORDS = ["plan", "list", "short", "warm", "metric", "recipe", "code", "sum", "table", "water", "please", "because"]

BOTH: tuple[Side, ...] = ("chosen", "rejected")


def make_pair(
    prompt: list[tuple[str, str]],
    chosen: str,
    rejected: str,
    user: str = "u0",
    weight: float = 1.0,
    conversation: str = "c",
) -> PreferencePair:
    """One pair from (role, text) messages and two replies."""
    return PreferencePair(
        pair_id=digest([prompt, chosen, rejected]),
        prompt=tuple(ChatMessage(role=role, content=content) for role, content in prompt),
        chosen=(ChatMessage(role="assistant", content=chosen),),
        rejected=(ChatMessage(role="assistant", content=rejected),),
        user_id=user,
        conversation_id=conversation,
        turn=0,
        source="ugr",
        weight=weight,
        provenance=Provenance(
            label="reattempt_with_feedback",
            span="",
            feedback="",
            logged_reply="",
            persona_version=0,
            prompts="",
            models="",
            chosen_score=1.0,
            rejected_score=0.0,
            candidates=2,
        ),
    )


def make_pairs(count: int, seed: int = 0, users: int = 6, words: int = 12) -> list[PreferencePair]:
    """Random pairs with a persona in the system message and a turn of history; lengths differ."""
    stream = random.Random(seed)

    def text() -> str:
        return " ".join(stream.choices(WORDS, k=stream.randint(1, words)))

    return [
        make_pair(
            [
                ("system", f"The user likes: {text()}."),
                ("user", text()),
                ("assistant", text()),
                ("user", f"{text()}?"),
            ],
            f"{text()} {number}",
            text(),
            user=f"user-{number % users}",
        )
        for number in range(count)
    ]


def make_conversation(turns: int, seed: int = 0, words: int = 12) -> list[PreferencePair]:
    """One pair at each turn of a conversation that goes on now from the chosen and now from the rejected reply."""
    stream = random.Random(seed)

    def text() -> str:
        return " ".join(stream.choices(WORDS, k=stream.randint(2, words)))

    history = [("system", f"The user likes: {text()}."), ("user", text())]
    pairs: list[PreferencePair] = []
    for turn in range(turns):
        replies = (f"{text()} {turn}", text())
        user, conversation = f"user-{seed}", f"conversation-{seed}"
        pairs.append(make_pair(list(history), *replies, user=user, conversation=conversation, weight=1.0))
        history += [("assistant", replies[turn % 2]), ("user", f"{text()}?")]
    return pairs
