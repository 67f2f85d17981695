"""The truth of a world, read back: what users want, what their messages mean, what a reply is worth to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from rlhi.errors import UsageError
from rlhi.records import Label
from rlhi.world.detect import correctness, words
from rlhi.world.preferences import Kind, Preference, condition_kind, dimensions, meaning
from rlhi.world.requests import Request
from rlhi.world.score import combined, wishes_met

WANTED_WORDS: dict[Kind, tuple[int, int]] = {
    "arithmetic": (3, 30),
    "code": (10, 45),
    "email": (10, 50),
}
"""Fewest and most words of a usual reply where the user has no wish of length (all other kinds: 15 to 60)."""
SHORT, DETAILED, DETAILED_EMAIL = (8, 34), (35, 70), (28, 60)
"""The same where the user has one."""


@dataclass(frozen=True)
class TruthScore:
    """What a reply is worth to its user."""

    personalization: float
    """Share of the user's applicable wishes that it meets, 0–1; 1 where there are none."""
    instruction_following: float
    """How right it is, 0–1; see `rlhi.world.detect.correctness`."""
    overall: float
    """Both together, 0–1; see `rlhi.world.score.combined`: correctness × (1/3 + 2/3 × personalization)."""
    words: int
    """Its length."""
    wanted_words: tuple[int, int]
    """Fewest and most words that this user wants here."""


@dataclass(frozen=True)
class TrueTurn:
    """The truth about a user message."""

    conversation_id: str
    turn: int
    user_id: str
    person: int
    """Which of the people behind the account wrote it."""
    at: datetime
    label: Label
    """Of a first message, `new_request`."""
    satisfaction: int
    request: Request | None
    """What a reply has to do; None where the message asks nothing."""
    wanted: dict[str, str]
    """The user's wish in each dimension that the request has."""
    named: tuple[Preference, ...]
    """The wishes that the message says."""
    mistaken: bool
    """Whether the user corrects something that was right."""
    changed: bool
    """Whether the user changes a wish with it."""


@dataclass(frozen=True)
class Held:
    """A preference of one of the people behind an account, and when it holds."""

    preference: Preference
    person: int
    since: datetime
    until: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether it holds at a moment."""
        return self.since <= at and (self.until is None or at < self.until)


class Truth:
    """The folder `truth` that `write_world` wrote. Raises `UsageError` where it is missing or is none."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "turns.jsonl").exists() and (folder / "truth" / "turns.jsonl").exists():
            folder = folder / "truth"
        self.turns: dict[tuple[str, int], TrueTurn] = {}
        for told in _read(folder / "turns.jsonl"):
            turn = _true_turn(told)
            self.turns[turn.conversation_id, turn.turn] = turn
        self.users: dict[str, tuple[Held, ...]] = {
            account["user_id"]: tuple(
                _held(entry, place) for place, person in enumerate(account["persons"]) for entry in person
            )
            for account in _read(folder / "users.jsonl")
        }

    def score(self, conversation_id: str, turn: int, reply: str) -> TruthScore | None:
        """What `reply` to a user message is worth; None where the message asks nothing or is not of this world."""
        true = self.turns.get((conversation_id, turn))
        if true is None or true.request is None:
            return None
        met = wishes_met(reply, true.request, true.wanted)
        right = correctness(reply, true.request, true.wanted)
        return TruthScore(
            personalization=met,
            instruction_following=right,
            overall=combined(met, right),
            words=words(reply),
            wanted_words=_wanted_words(true),
        )

    def label(self, conversation_id: str, turn: int) -> Label | None:
        """The true label of a user message after the first; None for a first one or one that is not of this world."""
        true = self.turns.get((conversation_id, turn))
        return true.label if true and turn else None

    def preferences(self, user_id: str, at: datetime) -> list[Preference]:
        """What an account's people want at a moment. Raises `KeyError` for an unknown account."""
        return [held.preference for held in self.users[user_id] if held.holds(at)]

    def voiced(self, user_id: str, before: datetime) -> list[Preference]:
        """The wishes still held that an account's messages earlier than `before` have said, each once."""
        said = {
            (turn.person, p)
            for turn in self.turns.values()
            if turn.user_id == user_id and turn.at < before
            for p in turn.named
        }
        held = {(entry.person, entry.preference) for entry in self.users[user_id] if entry.holds(before)}
        return sorted({p for _, p in said & held}, key=lambda p: (p.dimension, p.value, p.condition or ""))

    def matches(
        self, user_id: str, statement_text: str, condition: str, at: datetime
    ) -> Literal["right", "wrong", "unknown"]:
        """Whether a persona statement is true of a user at a moment.

        `unknown`: it says nothing that the world knows of, or its condition names no kind of request. `right`: the user
        holds this wish just then for all that the statement covers (a narrower statement than the wish is right, a
        wider one is not, unless the dimension exists for that one kind of request only). All else is `wrong`.
        """
        said = meaning(statement_text)
        kind = condition_kind(condition) if condition else None
        if said is None or (condition and kind is None):
            return "unknown"
        dimension, value = said
        kinds = set(dimensions()[dimension].kinds)
        covered = kinds & {kind} if kind else kinds
        for preference in self.preferences(user_id, at):
            whole = preference.condition is None or covered <= {preference.condition}
            if (preference.dimension, preference.value) == (dimension, value) and whole:
                return "right"
        return "wrong"


def _wanted_words(turn: TrueTurn) -> tuple[int, int]:
    length = turn.wanted.get("length")
    kind = turn.request.kind if turn.request else None
    if length == "short":
        return SHORT
    if length:
        return DETAILED_EMAIL if kind == "email" else DETAILED
    return WANTED_WORDS.get(kind, (15, 60)) if kind else (0, 0)


def _read(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise UsageError(f"{path} is missing: the truth of a world is the folder `truth` that `rlhi world` writes")
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number}: no JSON ({error}); write the world anew") from error


def _preference(told: dict[str, Any]) -> Preference:
    return Preference(told["dimension"], told["value"], told["condition"])


def _held(told: dict[str, Any], person: int) -> Held:
    until = datetime.fromisoformat(told["until"]) if told["until"] else None
    return Held(_preference(told), person, datetime.fromisoformat(told["since"]), until)


def _true_turn(told: dict[str, Any]) -> TrueTurn:
    return TrueTurn(
        conversation_id=told["conversation_id"],
        turn=told["turn"],
        user_id=told["user_id"],
        person=told["person"],
        at=datetime.fromisoformat(told["at"]),
        label=told["label"],
        satisfaction=told["satisfaction"],
        request=Request(**told["request"]) if told["request"] else None,
        wanted=told["wanted"],
        named=tuple(_preference(p) for p in told["named"]),
        mistaken=told["mistaken"],
        changed=told["changed"],
    )
