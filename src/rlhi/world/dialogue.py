"""Conversations between simulated people and an assistant, with the truth about every message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from rlhi.records import Label
from rlhi.world.detect import correctness, detect
from rlhi.world.files import Language, Phrasings, reactions
from rlhi.world.policy import Answer, Habits, answer
from rlhi.world.preferences import CONDITIONS, Preference, wanted, wishes
from rlhi.world.requests import Request, ask, continued, go_on, sample, topic_name
from rlhi.world.users import Person

LENGTHS = (1, 5)
"""Fewest and most user messages of a conversation."""


@dataclass(frozen=True)
class Exchange:
    """A user message with the truth about it, and the reply that it got."""

    text: str
    label: Label
    satisfaction: int
    request: Request | None
    """What a reply to this message has to do; None where it asks nothing."""
    wanted: Mapping[str, str]
    """The user's wish in each dimension that this request has."""
    named: tuple[Preference, ...]
    """The wishes that the message says."""
    mistaken: bool
    """Whether the user corrects something that was right."""
    changed: bool
    """Whether the user changes a wish with this message."""
    reply: str


@dataclass
class Conversation:
    """A conversation under way."""

    person: Person
    which: Phrasings
    rng: Random
    habits: Habits = field(default_factory=Habits)
    known: tuple[Preference, ...] = ()
    """Wishes that the assistant was told of in a system message."""
    told: frozenset[Preference] = frozenset()
    """Wishes that the person named in earlier conversations: what was never said comes first."""
    exchanges: list[Exchange] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    """Wishes named so far, by dimension."""

    def run(self) -> list[Exchange]:
        """Hold the conversation from the first request to the end."""
        turns = self.rng.choices(range(LENGTHS[0], LENGTHS[1] + 1), (1, 2, 3, 2, 1))[0]
        self._open(switch=False)
        while len(self.exchanges) < turns:
            self._react()
        return self.exchanges

    def _open(self, *, switch: bool) -> None:
        """Ask for something new, at the beginning or as a `switch` of topic."""
        kind = self.rng.choice(self.person.kinds)
        request = sample(kind, self.rng)
        named: tuple[Preference, ...] = ()
        wish = ""
        general = [p for p in self.person.preferences if p.condition is None and p.applies(kind)]
        if general and self.rng.random() < 0.08:
            named = (self.rng.choice(general),)
            wish = self._wish(named[0], request.language)
        words = ask(request, self.rng, self.which, wish)
        if switch:
            words = self.rng.choice(reactions("switch", request.language, self.which)).format(request=words)
        self._say(words, "new_request", 3, request, named=named)

    def _react(self) -> None:
        """Write the next message: what the user makes of the last reply."""
        last = self.exchanges[-1]
        rng, temper = self.rng, self.person.temper
        task = self._task()
        if rng.random() < 0.05:
            self._say(self._pick("other"), "other", 3, None)
        elif last.request is None:
            self._move_on(task, 4)
        elif rng.random() < temper.error:
            self._correct(task, mistaken=True)
        elif correctness(last.reply, task, last.wanted) < 1 and rng.random() < 0.6:
            self._correct(task, mistaken=False)
        else:
            missed = self._missed(last.reply, task)
            if missed and rng.random() < min(0.9, temper.impatience + 0.18 * (len(missed) - 1)):
                self._complain(task, missed)
            else:
                self._move_on(task, 5 if not missed else 4)

    def _task(self) -> Request:
        return next(e.request for e in reversed(self.exchanges) if e.request)

    def _missed(self, reply: str, task: Request) -> list[Preference]:
        """The wishes that a reply does not meet, as this person holds them."""
        got, want = detect(reply, task), wanted(self.person.preferences, task.kind)
        missed = [name for name, value in want.items() if got[name] != value]
        return [
            p
            for p in self.person.preferences
            if p.dimension in missed and p.applies(task.kind) and want[p.dimension] == p.value
        ]

    def _complain(self, task: Request, missed: list[Preference]) -> None:
        """Say what is missing, or only that something is."""
        hostile = self.person.temper.hostile
        if self.rng.random() < self.person.temper.vagueness:
            text = self._pick("hostile" if hostile and self.rng.random() < 0.5 else "reattempt_without_feedback")
            if self.rng.random() < 0.2 and not hostile:
                text = ask(task, self.rng, self.which)
            self._say(text, "reattempt_without_feedback", 1 if hostile else 2, task)
            return
        self.rng.shuffle(missed)
        missed.sort(key=lambda p: (p.dimension in self.said, p in self.told))
        named = tuple(missed[: 2 if len(missed) > 1 and self.rng.random() < 0.4 else 1])
        wrap = "wrap_hostile" if hostile else "wrap_wish"
        self._say(self._wrapped(wrap, named), "reattempt_with_feedback", 1 if hostile else 2, task, named=named)

    def _correct(self, task: Request, *, mistaken: bool) -> None:
        """Correct a number or a fact; `mistaken` where it was right."""
        if self.rng.random() < self.person.temper.vagueness and not mistaken:
            self._say(self._pick("reattempt_without_feedback"), "reattempt_without_feedback", 2, task)
            return
        if task.kind == "arithmetic":
            right = task.answer + (self.rng.choice((-3, -1, 1, 2, 5)) if mistaken else 0)
            text = self._pick("correct_number").format(right=right)
        else:
            text = self._pick("correct_fact").format(topic=topic_name(task, self.person.native))
        self._say(text, "reattempt_with_feedback", 2, task, mistaken=mistaken)

    def _move_on(self, task: Request, satisfaction: int) -> None:
        """Be content: change a wish, thank, build on the answer, or ask for something else."""
        change = self.person.change
        if change and change[1].applies(task.kind) and change[1] in self._new_missed(task):
            new = self.person.change_mind()
            text = self._wrapped("wrap_change", (new,))
            self._say(text, "reattempt_with_feedback", 2, task, named=(new,), changed=True)
            return
        roll = self.rng.random()
        fresh = self.exchanges[-1].label == "positive_feedback"
        if roll < self.person.temper.gratitude and not fresh and self.exchanges[-1].request:
            self._say(self._pick("positive_feedback"), "positive_feedback", satisfaction, None)
        elif roll < 0.8 and self.exchanges[-1].request:
            request = continued(task, self.rng)
            text = go_on(request, self.person.native, self.rng, self.which)
            self._say(text, "continuation", min(4, satisfaction), request)
        else:
            self._open(switch=True)

    def _new_missed(self, task: Request) -> list[Preference]:
        """The wish of a coming change of mind, where the last reply does not meet it already."""
        if self.person.change is None:
            return []
        new = self.person.change[1]
        return [] if detect(self.exchanges[-1].reply, task).get(new.dimension) == new.value else [new]

    def _say(
        self,
        text: str,
        label: Label,
        satisfaction: int,
        request: Request | None,
        *,
        named: tuple[Preference, ...] = (),
        mistaken: bool = False,
        changed: bool = False,
    ) -> None:
        """Write a message and get the reply."""
        want = wanted(self.person.preferences, request.kind) if request else {}
        self.exchanges.append(
            Exchange(
                text=sloppy(text, self.rng, self.person.temper.sloppiness),
                label=label,
                satisfaction=satisfaction,
                request=request,
                wanted=want,
                named=named,
                mistaken=mistaken,
                changed=changed,
                reply=self._reply(request, label, named, corrected=not named and label == "reattempt_with_feedback"),
            )
        )

    def _reply(self, request: Request | None, label: Label, named: tuple[Preference, ...], *, corrected: bool) -> str:
        self.said |= {p.dimension: p.value for p in named}
        if request is None:
            return courtesy(label, self.person.native, self.rng)
        given = answer(
            request,
            self.rng,
            self.habits,
            known=wanted(self.known, request.kind),
            named={p.dimension: p.value for p in named},
            earlier=self.said,
            previous=self._last.style if self._last and label == "reattempt_with_feedback" else None,
            corrected=corrected,
        )
        self._last = given
        return given.text

    _last: Answer | None = None

    def _pick(self, key: str) -> str:
        return self.rng.choice(reactions(key, self.person.native, self.which))

    def _wish(self, preference: Preference, language: Language) -> str:
        return self.rng.choice(wishes(preference.dimension, preference.value, language, self.which))

    def _wrapped(self, wrap: str, named: tuple[Preference, ...]) -> str:
        """One or two wishes in a frame, each with its condition where it has one (and the user thinks of saying so)."""
        parts = []
        for preference in named:
            text = self._wish(preference, self.person.native)
            if preference.condition and self.rng.random() < 0.85:
                told = CONDITIONS[preference.condition][self.person.native]
                text = self._pick("wrap_condition").format(condition=told, wish=text[0].lower() + text[1:])
            parts.append(text)
        frame = self._pick(wrap)
        wish = " ".join(parts)
        inside = frame.split("{wish}")[0].rstrip()[-1:] not in ("", ".", "!", "?")
        return frame.format(wish=wish[0].lower() + wish[1:] if inside else wish)


_COURTESIES: Mapping[Language, Mapping[bool, tuple[str, ...]]] = {
    "en": {
        True: ("You're welcome!", "Glad to help.", "My pleasure."),
        False: ("How can I help you?", "I'm here when you need me."),
    },
    "es": {
        True: ("¡De nada!", "Me alegro de ayudar."),
        False: ("¿En qué puedo ayudarte?", "Aquí estoy si me necesitas."),
    },
}


def courtesy(label: Label, language: Language, rng: Random) -> str:
    """The reply to a message that asks nothing."""
    return rng.choice(_COURTESIES[language][label == "positive_feedback"])


def sloppy(text: str, rng: Random, share: float) -> str:
    """Write as people type: now and then in lower case, without the last stop, with two letters exchanged."""
    if rng.random() < share:
        text = text[0].lower() + text[1:] if rng.random() < 0.6 else text.lower()
    if rng.random() < share and text.endswith("."):
        text = text[:-1]
    if rng.random() < share / 3:
        long = [found.span() for found in re.finditer(r"\b[a-záéíóúñ]{5,}\b", text)]
        if long:
            start, end = rng.choice(long)
            place = rng.randrange(start + 1, end - 2)
            text = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return text
