"""Dialogues on which the embedded model is pretrained: simulated conversations and the tasks of the LLM roles.

All users are made afresh from the corpus's own seed and speak in the phrasings of `train`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import orjson

from rlhi import prompts
from rlhi.evaluation.judges.chat import QUESTIONS
from rlhi.personas.render import system_text
from rlhi.records import ChatMessage, Dimension
from rlhi.world.detect import correctness, detect
from rlhi.world.dialogue import Conversation, Exchange, sloppy
from rlhi.world.files import reactions
from rlhi.world.policy import Habits, answer
from rlhi.world.preferences import KINDS, Preference, dimensions, statement, wanted, wishes
from rlhi.world.requests import ask, sample
from rlhi.world.score import combined, wishes_met
from rlhi.world.users import Person, make_person
from rlhi.world.writer import prior_style, render

REWRITER = Habits(attentive=0.6, revise=0.88, keep=0.9, mistake=0.07)
"""A rewriter is asked to meet the feedback and does so more often than a reply in the flow of a chat."""


EASY = frozenset(("length", "format", "tone", "language", "opener"))
"""Dimensions whose values are told by words of their own, not by a `no`: learnt first."""


@dataclass(frozen=True)
class Sample:
    """A chat, and which of its assistant messages are learnt: all, or the last only."""

    messages: tuple[ChatMessage, ...]
    last_only: bool


@dataclass(frozen=True)
class Lesson:
    """How the assistant of the corpus behaves."""

    chat: Habits
    """In a conversation."""
    rewriter: Habits
    """As the rewriter."""
    bare: float
    """Share of chats without a persona, 0–1."""
    few: float = 0.21
    """Share of chats whose persona has one or two lines, 0–1."""
    tasks: float = 1.0
    """Weight of the tasks of the LLM roles, as a factor."""
    cards: float = 0.0
    """Weight of single requests under one to three wishes, where all other samples together weigh about 100."""
    sums: float = 0.0
    """Share of these that are arithmetic on purpose, 0–1; the others are of any kind."""
    rewrites: float = 1.0
    """Weight of the rewriter's task, as a factor."""
    span_words: int | None = None
    """Words of a message that a labeler shows as its span; None = all."""
    strange: float = 0.0
    """Share of labelled messages that open with words from nowhere, so that the span can only be copied, 0–1."""
    edits: float = 0.0
    """Weight of single replies to be written anew under a few wishes, where dialogues weigh 70."""
    told: float = 0.0
    """Share of rewrites in which the system message says the feedback's wishes beside the persona, 0–1."""


DILIGENT = Habits(
    attentive=1.0, follow_attentive=0.97, revise=0.97, remember=0.9, keep=0.95, mistake=0.02, mistake_again=0.05
)
SCHOOL = Lesson(DILIGENT, DILIGENT, bare=0.2)
"""An assistant that does as it is told: from it a small model learns what the words mean."""
DRILL = Lesson(DILIGENT, DILIGENT, bare=0.1, few=0.55, tasks=0.25)
"""The same with fewer wishes at a time, so that each line is seen to matter."""
CARDS = Lesson(DILIGENT, DILIGENT, bare=0.1, few=0.3, tasks=0.5, cards=500)
"""Mostly single requests under few wishes, all wishes alike often: for those that are told by one small word."""
SUMS = Lesson(DILIGENT, DILIGENT, bare=0.1, few=0.3, tasks=0.5, cards=600, sums=0.7)
"""Mostly arithmetic."""
LIFE = Lesson(Habits(), REWRITER, bare=0.34)
"""The assistant that the embedded model is to be: it follows in part and makes mistakes."""
DUTY = Lesson(Habits(), REWRITER, bare=0.34, tasks=3.5, rewrites=2.5, span_words=2)
"""The same with more tasks of the LLM roles, and label spans short enough for a small model to copy."""
HALF_DEAF = Habits(attentive=0.22, follow_idle=0.1, revise=0.6, remember=0.35)
EDITOR = Habits(
    attentive=0.9, follow_attentive=0.95, follow_idle=0.5, revise=0.95, keep=0.92, mistake=0.03, mistake_again=0.1
)
WORK = Lesson(HALF_DEAF, EDITOR, bare=0.3, tasks=3.5, rewrites=2.5, span_words=2, strange=0.6, told=0.6)
"""An assistant that follows less than in `life`, beside a rewriter that does as it is asked."""
SHIPPED = Habits(attentive=0.13, follow_idle=0.05, revise=0.5, remember=0.3)
CRAFT = Lesson(SHIPPED, EDITOR, bare=0.3, tasks=3.5, rewrites=1.5, span_words=2, strange=0.8, told=0.6, edits=60)
"""The assistant as it is shipped, which follows a persona seldom, beside the rewriter with more to do."""


def samples(seed: int, lesson: Lesson = LIFE) -> Iterator[Sample]:
    """Pretraining samples without end, the same for the same seed."""
    rng = Random(seed)
    makers = (_dialogue, _rewrite, _label, _persona, _validity, _rubric, _judge, _card, _edit)
    tasks = (lesson.tasks * share for share in (6, 3, 2, 3, 3))
    weights = (70.0, lesson.rewrites * 13.0, *tasks, lesson.cards, lesson.edits)
    while True:
        person = make_person(rng, hostile=rng.random() < 0.05, fickle=rng.random() < 0.1)
        make = rng.choices(makers, weights)[0]
        made = make(person, rng, lesson)
        if made:
            yield made


def role_samples(seed: int, number: int) -> list[tuple[str, Sample]]:
    """Tasks of the LLM roles with the right answer as last message, `number` of each role, with the role's prompt."""
    rng = Random(f"roles/{seed}")
    makers = {"label": _label, "persona": _persona, "validity": _validity, "rubric": _rubric, "judge": _judge}
    found: list[tuple[str, Sample]] = []
    for role, make in makers.items():
        made = filter(None, (make(make_person(rng), rng, LIFE) for _ in itertools.count()))
        found += [(role, sample) for sample in itertools.islice(made, number)]
    return found


def _told(person: Person, rng: Random, bare: float, few: float) -> tuple[tuple[Preference, ...], str]:
    """What the system message tells of the person: most of it, one or two things, or nothing; and the message."""
    roll = rng.random()
    if roll < bare:
        return (), ""
    known = list(person.preferences)
    if roll < bare + few:
        known = rng.sample(known, rng.randint(1, 2))
    else:
        known = [p for p in known if rng.random() < 0.85] or known[:1]
    rng.shuffle(known)
    return tuple(known), system_text([statement(p, rng, "train") for p in known])


def _chat(exchanges: list[Exchange]) -> list[ChatMessage]:
    said = []
    for exchange in exchanges:
        said.append(ChatMessage(role="user", content=exchange.text))
        said.append(ChatMessage(role="assistant", content=exchange.reply))
    return said


def _dialogue(person: Person, rng: Random, lesson: Lesson) -> Sample:
    known, system = _told(person, rng, lesson.bare, lesson.few)
    head = [ChatMessage(role="system", content=system)] if system else []
    exchanges = Conversation(person, "train", rng, lesson.chat, known).run()
    return Sample((*head, *_chat(exchanges)), last_only=False)


def _card(person: Person, rng: Random, lesson: Lesson) -> Sample:
    """A single request under one to three wishes that apply to it, and now and then one that does not."""
    kind = "arithmetic" if lesson.sums and rng.random() < lesson.sums else rng.choice(KINDS)
    request = sample(kind, rng)
    names = [name for name, dimension in dimensions().items() if kind in dimension.kinds]
    chosen = set(rng.choices(names, [1 if name in EASY else 3 for name in names], k=rng.randint(1, 3)))
    values = {name: rng.choice(dimensions()[name].values) for name in names if name in chosen}
    told = [Preference(name, value, kind if rng.random() < 0.15 else None) for name, value in values.items()]
    if rng.random() < 0.3:
        idle = rng.choice(list(dimensions().values()))
        other = rng.choice([k for k in KINDS if k != kind])
        told.append(Preference(idle.name, rng.choice(idle.values), other))
    rng.shuffle(told)
    system = system_text([statement(p, rng, "train") for p in told])
    request_text = sloppy(ask(request, rng, "train"), rng, person.temper.sloppiness)
    reply = render(request, prior_style(request, rng) | values, rng, mistake=rng.random() < lesson.chat.mistake)
    return Sample(
        (
            ChatMessage(role="system", content=system),
            ChatMessage(role="user", content=request_text),
            ChatMessage(role="assistant", content=reply),
        ),
        last_only=True,
    )


def _edit(person: Person, rng: Random, lesson: Lesson) -> Sample:
    """A reply that misses some wishes, feedback on one of them, and the reply that meets them all."""
    kind = rng.choice(KINDS)
    request = sample(kind, rng)
    names = [name for name, dimension in dimensions().items() if kind in dimension.kinds]
    told = {
        name: rng.choice(dimensions()[name].values) for name in rng.sample(names, rng.randint(1, min(5, len(names))))
    }
    before = prior_style(request, rng)
    missed = [name for name, value in told.items() if before[name] != value] or list(told)
    named = rng.choice(missed)
    known = [Preference(name, value, kind if rng.random() < 0.15 else None) for name, value in told.items()]
    if rng.random() < 0.6:
        known.sort(key=lambda p: p.dimension == named)
    else:
        known = [p for p in known if p.dimension != named] or known
        rng.shuffle(known)
    system = system_text([statement(p, rng, "train", canonical_share=0.6) for p in known])
    wish = rng.choice(wishes(named, told[named], request.language, "train"))
    wrap = rng.choice(reactions("wrap_wish", request.language, "train"))
    feedback = wrap.format(wish=wish if wrap.startswith("{wish}") else wish[0].lower() + wish[1:])
    error = rng.random() < lesson.rewriter.mistake
    return Sample(
        (
            prompts.render("rewrite", trusted={"persona": system})[0],
            ChatMessage(role="user", content=sloppy(ask(request, rng, "train"), rng, person.temper.sloppiness)),
            ChatMessage(role="assistant", content=render(request, before, rng, mistake=rng.random() < 0.1)),
            ChatMessage(role="user", content=sloppy(feedback, rng, person.temper.sloppiness)),
            ChatMessage(role="assistant", content=render(request, before | told, rng, mistake=error)),
        ),
        last_only=True,
    )


def _rewrite(person: Person, rng: Random, lesson: Lesson) -> Sample | None:
    known, system = _told(person, rng, lesson.bare, lesson.few)
    exchanges = Conversation(person, "train", rng, lesson.chat, known).run()
    places = [place for place, e in enumerate(exchanges) if e.label == "reattempt_with_feedback"]
    if not places:
        return None
    place = rng.choice(places)
    if lesson.told and rng.random() < lesson.told:
        wishes = [statement(p, rng, "train", canonical_share=1) for p in exchanges[place].named]
        system = system_text([*(line.removeprefix("- ") for line in system.splitlines()[1:-1]), *wishes])
    chat = _chat(exchanges[: place + 1])[:-1]
    task = prompts.render("rewrite", trusted={"persona": system})[0]
    reply = ChatMessage(
        role="assistant", content=_rewritten(exchanges[place - 1 : place + 1], known, rng, lesson.rewriter)
    )
    return Sample((task, *chat, reply), last_only=True)


def _rewritten(pair: list[Exchange], known: tuple[Preference, ...], rng: Random, habits: Habits) -> str:
    before, exchange = pair
    task = exchange.request or before.request
    if task is None:
        raise ValueError("A message with feedback stands after a reply to a request.")
    named = {p.dimension: p.value for p in exchange.named}
    style = {name: value or "" for name, value in detect(before.reply, task).items()}
    revised = answer(
        task,
        rng,
        habits,
        known=wanted(known, task.kind),
        named=named,
        previous=style,
        corrected=not named,
    )
    return revised.text


def _reaction(person: Person, rng: Random, labels: tuple[str, ...] = ()) -> tuple[Exchange, Exchange] | None:
    """Two consecutive exchanges, the second of one of the labels."""
    exchanges = Conversation(person, "train", rng).run()
    pairs = [pair for pair in itertools.pairwise(exchanges) if not labels or pair[1].label in labels]
    return rng.choice(pairs) if pairs else None


def _task(messages: tuple[ChatMessage, ...], value: object) -> Sample:
    text = orjson.dumps(value).decode().replace('":', '": ').replace(',"', ', "')
    return Sample((*messages, ChatMessage(role="assistant", content=text)), last_only=True)


def _label(person: Person, rng: Random, lesson: Lesson) -> Sample | None:
    pair = _reaction(person, rng)
    if pair is None:
        return None
    before, after = pair
    text = after.text
    if lesson.strange and rng.random() < lesson.strange:
        text = f"{_strange(person, rng)} {text}"
    span = " ".join(text.split(" ")[: lesson.span_words])
    value = {
        "label": after.label,
        "satisfaction": after.satisfaction,
        "confidence": rng.choice((0.7, 0.8, 0.9)),
        "span": span if after.label.endswith("feedback") else "",
    }
    return _task(prompts.render("label", request=before.text, reply=before.reply, message=text), value)


def _strange(person: Person, rng: Random) -> str:
    """Two words that no message begins with: from anywhere in a reply, or letters at random."""
    known = Conversation(person, "train", rng).run()[0].reply.split()
    letters = "abcdefghijklmnopqrstuvwxyzáéíñóú"
    made = ("".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(2))
    return " ".join(rng.choice(known) if rng.random() < 0.6 else word for word in made)


def _persona(person: Person, rng: Random, lesson: Lesson) -> Sample | None:
    known: dict[tuple[str, str], list[str]] = {}
    lines: list[str] = []
    for _ in range(3):
        for exchange in Conversation(person, "train", rng).run():
            if len(lines) < 6 and rng.random() < 0.7:
                lines.append(f"T{len(lines) + 1}: {exchange.text}")
                for p in exchange.named:
                    text = statement(Preference(p.dimension, p.value), rng, "train", canonical_share=1)
                    about = statement(p, rng, "train", canonical_share=1)
                    condition = about.removesuffix(text).removeprefix("For ").removesuffix(": ")
                    known.setdefault((text, condition), []).append(f"T{len(lines)}")
    if not lines:
        return None
    value = {
        "statements": [
            {"text": text, "condition": condition, "confidence": 0.9, "evidence": evidence}
            for (text, condition), evidence in known.items()
        ]
    }
    return _task(prompts.render("persona", known="nothing", turns="\n".join(lines)), value)


def _validity(person: Person, rng: Random, lesson: Lesson) -> Sample | None:
    pair = _reaction(person, rng, ("reattempt_with_feedback",))
    if pair is None or pair[0].request is None or not pair[1].named:
        return None
    before, after = pair
    request = pair[0].request
    reply = answer(request, rng, Habits(), known={}).text
    got = detect(reply, request)
    applies = any(got.get(p.dimension) != p.value for p in after.named)
    return _task(
        prompts.render("validity", request=f"user: {before.text}", reply=reply, feedback=after.text),
        {"applies": applies},
    )


def _scored(person: Person, rng: Random) -> tuple[str, Exchange, list[tuple[str, dict[Dimension, float]]]] | None:
    """Persona lines, a request, and two replies with their worth in each dimension of judgement."""
    exchange = Conversation(person, "train", rng).run()[0]
    request = exchange.request
    if request is None:
        return None
    lines = "\n".join(statement(p, rng, "train") for p in person.preferences) or "nothing"
    want = wanted(person.preferences, request.kind)
    rated: list[tuple[str, dict[Dimension, float]]] = []
    for _ in range(2):
        text = answer(request, rng, Habits(), known=want).text
        met, right = wishes_met(text, request, want), correctness(text, request, want)
        rated.append((text, {"personalization": met, "instruction_following": right, "overall": combined(met, right)}))
    return lines, exchange, rated


def _rubric(person: Person, rng: Random, lesson: Lesson) -> Sample | None:
    scored = _scored(person, rng)
    if scored is None:
        return None
    lines, exchange, replies = scored
    reply, worth = replies[0]
    messages = prompts.render("rubric", persona=lines, request=f"user: {exchange.text}", reply=reply)
    return _task(messages, {"score": round(1 + 9 * worth["overall"])})


def _judge(person: Person, rng: Random, lesson: Lesson) -> Sample | None:
    scored = _scored(person, rng)
    if scored is None:
        return None
    told, exchange, ((a, worth_a), (b, worth_b)) = scored
    lines = "\n".join(f"- {line}" for line in told.splitlines() if line != "nothing") or "nothing"
    dimension = rng.choice(list(worth_a))
    difference = worth_a[dimension] - worth_b[dimension]
    verdict = "tie" if difference == 0 else "A" if difference > 0 else "B"
    messages = prompts.render(
        "judge",
        trusted={"dimension": QUESTIONS[dimension]},
        persona="not shown" if dimension == "instruction_following" else lines,
        conversation=f"user: {exchange.text}",
        reply_a=a,
        reply_b=b,
    )
    return _task(messages, {"verdict": verdict})
