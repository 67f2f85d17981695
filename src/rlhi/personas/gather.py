"""Gathers the signals of a user's history into the statements of a card: repetition, recency, a changed mind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rlhi.personas.facets import FACETS, Wish, statement
from rlhi.personas.signals import Signal
from rlhi.records import Statement, TurnRef

OWN_WORDS_CONFIDENCE = 0.3
FORGETTING = 0.99
"""Factor on the confidence for each conversation since the last confirmation."""


@dataclass
class Belief:
    """What is held of one facet under one condition."""

    wish: Wish
    chance: float
    """Probability that it was said at all: 1 − Π(1 − chance of each signal)."""
    times: int = 1
    refs: list[TurnRef] = field(default_factory=list)
    at: str | None = None
    last: int = 0
    """Place of the conversation that last confirmed it."""
    rival: list[Signal] = field(default_factory=list)
    """Signals for another value since the last confirmation."""

    def confidence(self, now: int) -> float:
        """Chance that it was said × trust by repetition (0.75, 0.88, 0.94, …) × recency × 0.6 where a rival is open."""
        trust = 1 - 0.25 * 0.5 ** (self.times - 1)
        doubt = 0.6 if self.rival else 1.0
        return round(self.chance * trust * doubt * FORGETTING ** max(0, now - self.last), 4)


def _belief(wish: Wish, signals: Sequence[Signal]) -> Belief:
    chance = 1.0
    for signal in signals:
        chance *= 1 - signal.chance
    last = signals[-1]
    return Belief(wish, 1 - chance, len(signals), [signal.ref for signal in signals], last.at, last.conversation)


def _update(belief: Belief | None, signal: Signal) -> Belief:
    """Hear a signal: it confirms, replaces at once where said plainly, or replaces when said twice."""
    wish = signal.wish
    if wish is None:
        raise ValueError("a signal in the user's own words has no facet to update")
    if belief is None or (signal.plain_change and belief.wish != wish):
        return _belief(wish, [signal])
    if belief.wish == wish:
        belief.chance = 1 - (1 - belief.chance) * (1 - signal.chance)
        belief.times += 1
        belief.refs.append(signal.ref)
        belief.at, belief.last, belief.rival = signal.at, signal.conversation, []
        return belief
    same = [rival for rival in belief.rival if rival.wish == wish] + [signal]
    if len(same) >= 2:
        return _belief(wish, same)
    belief.rival.append(signal)
    return belief


def beliefs(signals: Iterable[Signal]) -> dict[tuple[str, str], Belief]:
    """What is held after all signals, in the order they were said, by facet and condition."""
    heard = [signal for signal in signals if signal.wish is not None]
    held: dict[tuple[str, str], Belief] = {}
    for signal in _with_kinds(_limited(heard)):
        if signal.wish is not None:
            key = (signal.wish.facet, signal.condition)
            held[key] = _update(held.get(key), signal)
    return {key: belief for key, belief in held.items() if not _implied(key, belief, held)}


def _limited(heard: Sequence[Signal]) -> list[Signal]:
    """The signals, each under the condition that the user once named for the same wish at the same kind of request.

    Who says "for code: with comments" and another time, about code, only "with comments" means the same. A signal from
    a request of no known kind joins where there is but one such condition.
    """
    named: dict[Wish | None, set[str]] = {}
    for signal in heard:
        if signal.condition:
            named.setdefault(signal.wish, set()).add(signal.condition)

    def limit(signal: Signal) -> str:
        conditions = named.get(signal.wish, set())
        if signal.condition or not conditions:
            return signal.condition
        if not signal.kind:
            return next(iter(conditions)) if len(conditions) == 1 else ""
        return signal.kind if signal.kind in conditions else ""

    return [replace(signal, condition=limit(signal)) for signal in heard]


def _with_kinds(heard: Sequence[Signal]) -> list[Signal]:
    """The signals, with the kind of request as the condition where it explains a facet better than time does."""
    by_facet: dict[str, list[Signal]] = {}
    for signal in heard:
        if signal.wish is not None and not signal.condition:
            by_facet.setdefault(signal.wish.facet, []).append(signal)
    depends = {facet for facet, said in by_facet.items() if not FACETS[facet].only and _kind_decides(said)}
    return [
        replace(signal, condition=signal.kind)
        if signal.wish is not None and not signal.condition and signal.wish.facet in depends
        else signal
        for signal in heard
    ]


def _kind_decides(said: Sequence[Signal]) -> bool:
    """Whether the user goes back and forth between values, and each kind of request has its own, said twice or more."""
    values: dict[str, set[Wish | None]] = {}
    for signal in said:
        values.setdefault(signal.kind, set()).add(signal.wish)
    steady = all(kind and len(wanted) == 1 for kind, wanted in values.items())
    often = all(sum(signal.kind == kind for signal in said) >= 2 for kind in values)
    switches = sum(left.wish != right.wish for left, right in pairwise(said))
    return steady and often and switches >= 2


def _implied(key: tuple[str, str], belief: Belief, held: dict[tuple[str, str], Belief]) -> bool:
    """Whether a conditional belief only repeats what is held always."""
    always = held.get((key[0], ""))
    return bool(key[1]) and always is not None and always.wish == belief.wish


def statements(signals: Sequence[Signal], now: int) -> list[Statement]:
    """The statements after all signals, most trusted first. `now` is the place of the conversation to come."""
    found = [
        Statement(
            text=statement(belief.wish),
            condition=condition,
            confidence=min(1.0, belief.confidence(now)),
            evidence=tuple(dict.fromkeys(belief.refs)),
            learnt_at=belief.at,
        )
        for (_, condition), belief in beliefs(signals).items()
    ]
    own: dict[str, list[Signal]] = {}
    for signal in signals:
        if signal.wish is None:
            own.setdefault(signal.text.lower(), []).append(signal)
    found += [
        Statement(
            text=f"Says: {said[-1].text}",
            condition=said[-1].condition,
            confidence=min(0.9, OWN_WORDS_CONFIDENCE * len(said)),
            evidence=tuple(dict.fromkeys(signal.ref for signal in said)),
            learnt_at=said[-1].at,
        )
        for said in own.values()
    ]
    return sorted(found, key=lambda made: (-made.confidence, made.text, made.condition))
