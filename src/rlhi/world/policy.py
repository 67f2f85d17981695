"""How a simulated assistant answers: which wishes it follows, what it keeps from its last try, how often it errs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from rlhi.world.requests import Request
from rlhi.world.writer import prior_style, render


@dataclass(frozen=True)
class Habits:
    """Probabilities, 0–1, of the assistant's choices."""

    attentive: float = 0.33
    """Share of replies written with an eye on what is known of the user."""
    follow_attentive: float = 0.9
    """To follow a known wish in such a reply."""
    follow_idle: float = 0.12
    """To follow it in any other reply."""
    revise: float = 0.75
    """To meet a wish named in the message that it answers."""
    remember: float = 0.5
    """To meet a wish named earlier in the conversation."""
    keep: float = 0.85
    """To keep each other choice of a reply that it revises."""
    mistake: float = 0.1
    """To say one thing that is wrong."""
    mistake_again: float = 0.25
    """To err again after a correction."""


@dataclass(frozen=True)
class Answer:
    """A reply and the style that it was written in."""

    text: str
    style: Mapping[str, str]


def answer(
    request: Request,
    rng: Random,
    habits: Habits,
    *,
    known: Mapping[str, str],
    named: Mapping[str, str] | None = None,
    earlier: Mapping[str, str] | None = None,
    previous: Mapping[str, str] | None = None,
    corrected: bool = False,
) -> Answer:
    """Answer a request.

    `known` are wishes told in the system message, `named` those of the message answered, `earlier` those of messages
    before it, `previous` the style of the reply to write anew, `corrected` whether the user said that it had a mistake.
    """
    style = prior_style(request, rng)
    if previous:
        style = {name: previous[name] if rng.random() < habits.keep else value for name, value in style.items()}
    follow = habits.follow_attentive if rng.random() < habits.attentive else habits.follow_idle
    for wishes, share in ((known, follow), (earlier or {}, habits.remember), (named or {}, habits.revise)):
        style |= {name: value for name, value in wishes.items() if name in style and rng.random() < share}
    mistake = rng.random() < (habits.mistake_again if corrected else habits.mistake)
    return Answer(render(request, style, rng, mistake=mistake), style)
