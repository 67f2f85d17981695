"""Writes a world: chat logs in WildChat's layout, and apart from them the truth."""

from __future__ import annotations

import gzip
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson

from rlhi.errors import UsageError
from rlhi.world.dialogue import Conversation, Exchange
from rlhi.world.files import Phrasings
from rlhi.world.preferences import Preference
from rlhi.world.users import Person, make_person, quirk
from rlhi.world.wildchat import make_client, opaque, row

BEGIN = datetime(2025, 1, 6, tzinfo=UTC)
WEEKS = 10
"""Weeks over which a user's conversations are spread."""
FILES = 4
"""Log files."""


@dataclass(frozen=True)
class WorldSummary:
    """What was written."""

    out: Path
    """Folder with `logs/` and `truth/`."""
    users: int
    """Accounts."""
    conversations: int
    """Conversations in the logs."""
    user_messages: int
    """User messages in the logs."""
    labels: dict[str, int]
    """How often each label occurs among the messages after the first."""

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON-able values."""
        return {**asdict(self), "out": str(self.out)}

    def __str__(self) -> str:
        """The summary for a person."""
        labels = ", ".join(f"{count} {label}" for label, count in self.labels.items())
        return f"{self.users} users, {self.conversations} conversations, {self.user_messages} user messages ({labels})"


@dataclass
class _Life:
    """An account: who writes, when, and what was changed meanwhile."""

    user_id: str
    persons: list[Person]
    held: list[list[dict[str, Any]]]
    """For each person the preferences held, with the times between which they hold."""


def write_world(
    out: Path,
    users: int,
    seed: int,
    phrasings: Phrasings = "test",
    conversations: tuple[int, int] = (10, 18),
) -> WorldSummary:
    """Make `users` accounts with `conversations` (fewest, most) each and write `out/logs` and `out/truth`.

    The same arguments give the same bytes. Raises `UsageError` where the numbers make no sense.
    """
    if users < 1 or not 1 <= conversations[0] <= conversations[1]:
        raise UsageError(
            f"a world needs at least 1 user and 1 conversation each, but users is {users} and conversations is "
            f"{conversations[0]} to {conversations[1]}"
        )
    rows: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    accounts: list[dict[str, Any]] = []
    for place in range(users):
        life = _make_life(place, seed)
        logged, true = _live(life, Random(f"{seed}/{place}/life"), phrasings, conversations)
        rows += logged
        turns += true
        accounts.append({"user_id": life.user_id, "persons": life.held})
    rows.sort(key=lambda r: (r["timestamp"], r["conversation_hash"]))
    turns.sort(key=lambda t: (t["at"], t["conversation_id"], t["turn"]))
    accounts.sort(key=lambda a: str(a["user_id"]))
    share = -(-len(rows) // FILES)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    (out / "truth").mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        name = f"chats-{number:02d}-of-{FILES:02d}.jsonl.gz"
        _write(out / "logs" / name, rows[number * share : (number + 1) * share], pack=True)
    _write(out / "truth" / "users.jsonl", accounts)
    _write(out / "truth" / "turns.jsonl", turns)
    counts: dict[str, int] = {}
    for turn in turns:
        if turn["turn"]:
            counts[turn["label"]] = counts.get(turn["label"], 0) + 1
    return WorldSummary(out, users, len(rows), len(turns), dict(sorted(counts.items())))


def _make_life(place: int, seed: int) -> _Life:
    rng = Random(f"{seed}/{place}/people")
    kind = quirk(place)
    persons = [make_person(rng, hostile=kind == "hostile", fickle=kind == "fickle")]
    if kind == "shared":
        persons.append(make_person(rng))
    held = [[_held(p, BEGIN) for p in person.preferences] for person in persons]
    return _Life(opaque("user", seed, place, rng.random()), persons, held)


def _held(preference: Preference, since: datetime) -> dict[str, Any]:
    return {**asdict(preference), "since": since.isoformat(), "until": None}


def _live(
    life: _Life, rng: Random, which: Phrasings, conversations: tuple[int, int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hold all conversations of an account, in the order of time; give the logs' rows and the truth's turns."""
    rows: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    client = make_client(life.user_id, rng)
    number = rng.randint(*conversations)
    minutes = sorted(rng.sample(range(6 * 60, WEEKS * 7 * 24 * 60, 45), number))
    told: list[frozenset[Preference]] = [frozenset() for _ in life.persons]
    for minute in minutes:
        place = rng.randrange(len(life.persons))
        person = life.persons[place]
        exchanges = Conversation(person, which, rng, told=told[place]).run()
        told[place] |= {wish for exchange in exchanges for wish in exchange.named}
        times = _times(BEGIN + timedelta(minutes=minute), exchanges, rng)
        conversation_id = opaque("conversation", client.hashed_ip, minute, rng.random())[:32]
        rows.append(row(conversation_id, client, exchanges, times, rng))
        for turn, (exchange, at) in enumerate(zip(exchanges, times, strict=True)):
            if exchange.changed:
                _change(life.held[place], exchange.named[0], person, at)
            about = {"conversation_id": conversation_id, "turn": turn, "user_id": life.user_id, "person": place}
            turns.append({**about, **_turn(exchange, at)})
    return rows, turns


def _times(begin: datetime, exchanges: list[Exchange], rng: Random) -> list[datetime]:
    """The times of the replies."""
    times = []
    at = begin
    for exchange in exchanges:
        at += timedelta(seconds=rng.randint(5, 60) + len(exchange.reply) // 4)
        times.append(at)
    return times


def _change(held: list[dict[str, Any]], new: Preference, person: Person, at: datetime) -> None:
    """End what the person no longer wants, and begin the new wish."""
    now = [asdict(p) for p in person.preferences]
    for entry in held:
        same = {"dimension": entry["dimension"], "value": entry["value"], "condition": entry["condition"]}
        if entry["until"] is None and same not in now:
            entry["until"] = at.isoformat()
    held.append(_held(new, at))


def _turn(exchange: Exchange, at: datetime) -> dict[str, Any]:
    return {
        "at": at.isoformat(),
        "label": exchange.label,
        "satisfaction": exchange.satisfaction,
        "request": asdict(exchange.request) if exchange.request else None,
        "wanted": dict(exchange.wanted),
        "named": [asdict(p) for p in exchange.named],
        "mistaken": exchange.mistaken,
        "changed": exchange.changed,
    }


def _write(path: Path, records: list[dict[str, Any]], *, pack: bool = False) -> None:
    data = b"".join(orjson.dumps(record) + b"\n" for record in records)
    path.write_bytes(gzip.compress(data, compresslevel=6, mtime=0) if pack else data)
