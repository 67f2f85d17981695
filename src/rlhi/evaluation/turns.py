"""Which turns are evaluated: requests of held-out users, and on wish later ones of trained users."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from pydantic import Field

from rlhi.evaluation.wrong import WrongPersonas
from rlhi.personas.render import persona_lines, system_text
from rlhi.records import (
    ChatMessage,
    Conversation,
    Dropped,
    Label,
    LabelledTurn,
    PersonaCard,
    PreferencePair,
    Record,
    Split,
    TurnRef,
    digest,
)
from rlhi.settings import Evaluation

ASKING: frozenset[Label] = frozenset(
    {"new_request", "continuation", "reattempt_with_feedback", "reattempt_without_feedback"}
)
"""Labels of messages that want an answer."""

Lines = tuple[str, ...]


class EvalTurn(Record):
    """A user message that every arm answers, and what a judge may know of it."""

    conversation_id: str
    """Conversation it stands in."""
    turn: int = Field(ge=0)
    """0-based place among the user messages of the conversation."""
    user_id: str
    """Who wrote it."""
    kind: Literal["initial", "follow_up"]
    """First message of its conversation, or a later one."""
    split: Split
    """`heldout`, or `later` for a user whose earlier conversations were trained on."""
    label: Label
    """What the message is; `new_request` for a first message."""
    context: tuple[ChatMessage, ...]
    """Logged messages up to and with it."""
    later_feedback: tuple[str, ...]
    """The user's next messages, up to their next new request: evidence for judges, never seen by a policy."""
    own: tuple[str, ...]
    """Persona lines of the user, known before the conversation; empty = nothing was known."""
    wrong: tuple[str, ...]
    """Persona lines of another user."""
    wrong_user: str
    """That other user; empty = no other user has a different card."""
    flags: tuple[str, ...] = ()
    """`no_persona`: `own` is empty; `no_wrong_persona`: `wrong` is."""

    @property
    def about(self) -> str:
        """The turn in a few words."""
        return about_turn(self.conversation_id, self.turn)


def about_turn(conversation_id: str, turn: int) -> str:
    """A turn in a few words, for lists of drops and failures."""
    return f"turn {turn} of conversation {conversation_id}"


def request_key(context: Sequence[ChatMessage]) -> str:
    """Identity of a request in its context, 32 hex digits: all its user messages, whatever was answered.

    Case, spacing and compatibility forms (NFKC) do not count.
    """
    said = (unicodedata.normalize("NFKC", m.content).casefold() for m in context if m.role == "user")
    return digest([" ".join(text.split()) for text in said])


def trained_requests(pairs: Iterable[PreferencePair]) -> set[str]:
    """Identities of all requests that some arm was trained on, in their context and alone."""
    return {key for pair in pairs for key in (request_key(pair.prompt), request_key(pair.prompt[-1:]))}


def _seen(turn: EvalTurn, trained: set[str]) -> bool:
    """Was it trained on in its context, or, where it opens a task of its own, in any?"""
    alone = turn.label == "new_request" and request_key(turn.context[-1:]) in trained
    return alone or request_key(turn.context) in trained


def select(
    conversations: Iterable[Conversation],
    labels: Iterable[LabelledTurn],
    cards: Iterable[PersonaCard],
    settings: Evaluation,
    *,
    seed: int,
    trained: set[str],
    persona_tokens: int,
    prompt_tokens: int,
    count: Callable[[str], int],
) -> tuple[list[EvalTurn], list[Dropped]]:
    """Draw the turns to evaluate; every user message of the evaluated conversations is a turn or a drop.

    At most `settings.max_turns`, initial and follow-up turns in equal parts as far as there are, spread over users in
    rounds: one turn of each user, then a second one of each, … Users and their turns stand in an order that a hash of
    seed and ids makes, so neither the order of the input nor other users' data decide. `trained` comes from
    `trained_requests`; `persona_tokens` limits a rendered card, `prompt_tokens` card and context together, in tokens
    as `count` gives them.
    """
    builder = _Builder(
        conversations=conversations,
        labels=labels,
        cards=cards,
        splits={"heldout", "later"} if settings.include_later else {"heldout"},
        persona_tokens=persona_tokens,
        count=count,
        seed=seed,
    )
    dropped: list[Dropped] = []
    waiting: dict[str, list[EvalTurn]] = {"initial": [], "follow_up": []}
    for turn in builder.turns(trained, prompt_tokens):
        if isinstance(turn, EvalTurn):
            waiting[turn.kind].append(turn)
        else:
            dropped.append(turn)
    drawn, left = _draw(waiting["initial"], waiting["follow_up"], settings.max_turns, seed)
    limit = f"evaluation.max_turns is {settings.max_turns}"
    dropped += [_drop(turn.conversation_id, turn.turn, "not_drawn", limit) for turn in left]
    return (
        sorted(drawn, key=lambda t: (t.user_id, t.conversation_id, t.turn)),
        sorted(dropped, key=lambda d: (d.about, d.row)),
    )


def _drop(conversation_id: str, turn: int, reason: str, detail: str) -> Dropped:
    row = TurnRef(conversation_id=conversation_id, turn=turn).key
    return Dropped(row=row, about=about_turn(conversation_id, turn), reason=reason, detail=detail)


def _draw(
    initial: Sequence[EvalTurn], follow_up: Sequence[EvalTurn], most: int, seed: int
) -> tuple[list[EvalTurn], list[EvalTurn]]:
    """Half of each kind, or more of the one where the other has too few; the drawn and the left."""
    first, second = _in_rounds(initial, seed), _in_rounds(follow_up, seed)
    take_second = min(len(second), max(most // 2, most - len(first)))
    take_first = min(len(first), most - take_second)
    return first[:take_first] + second[:take_second], first[take_first:] + second[take_second:]


def _in_rounds(turns: Sequence[EvalTurn], seed: int) -> list[EvalTurn]:
    by_user: dict[str, list[EvalTurn]] = defaultdict(list)
    for turn in turns:
        by_user[turn.user_id].append(turn)
    ordered: list[tuple[int, str, EvalTurn]] = []
    for user, own in by_user.items():
        own.sort(key=lambda t: digest([seed, t.conversation_id, t.turn]))
        ordered += [(round_, digest([seed, user]), turn) for round_, turn in enumerate(own)]
    ordered.sort(key=lambda item: item[:2])
    return [turn for _, _, turn in ordered]


class _Builder:
    """Puts together what is known of each turn."""

    def __init__(
        self,
        *,
        conversations: Iterable[Conversation],
        labels: Iterable[LabelledTurn],
        cards: Iterable[PersonaCard],
        splits: set[Split],
        persona_tokens: int,
        count: Callable[[str], int],
        seed: int,
    ) -> None:
        self._conversations = [c for c in conversations if c.split in splits]
        self._labels = {(row.conversation_id, row.turn): row.label for row in labels}
        self._persona_tokens, self._count = persona_tokens, count
        self._cards: dict[tuple[str, str], PersonaCard] = {}
        newest: dict[str, PersonaCard] = {}
        for card in cards:
            self._cards[card.user_id, card.before] = card
            if card.user_id not in newest or _age(card) > _age(newest[card.user_id]):
                newest[card.user_id] = card
        self._wrong = WrongPersonas({user: self._lines(card) for user, card in newest.items()}, seed)

    def _lines(self, card: PersonaCard | None) -> tuple[str, ...]:
        return tuple(persona_lines(card, max_tokens=self._persona_tokens, count=self._count))

    def turns(self, trained: set[str], prompt_tokens: int) -> Iterator[EvalTurn | Dropped]:
        """Each user message: its turn, or why it is none."""
        for conversation in self._conversations:
            name = conversation.conversation_id
            own = self._lines(self._cards.get((conversation.user_id, name)))
            wrong = self._wrong.for_user(conversation.user_id, own)
            for number in range(len(conversation.user_turns())):
                label = self._labels.get((name, number)) if number else "new_request"
                if label is None:
                    yield _drop(name, number, "no_label", "the message could not be labelled")
                elif label not in ASKING:
                    yield _drop(name, number, "asks_nothing", f"labelled {label}")
                else:
                    turn = self._turn(conversation, number, label, own, wrong)
                    unfit = self._unfit(turn, trained, prompt_tokens)
                    yield _drop(name, number, *unfit) if unfit else turn

    def _turn(
        self, conversation: Conversation, number: int, label: Label, own: Lines, wrong: tuple[str, Lines]
    ) -> EvalTurn:
        flags = [name for name, lines in (("no_persona", own), ("no_wrong_persona", wrong[1])) if not lines]
        return EvalTurn(
            conversation_id=conversation.conversation_id,
            turn=number,
            user_id=conversation.user_id,
            kind="follow_up" if number else "initial",
            split=conversation.split,
            label=label,
            context=conversation.context(number),
            later_feedback=self._later(conversation, number),
            own=own,
            wrong=wrong[1],
            wrong_user=wrong[0],
            flags=tuple(flags),
        )

    def _later(self, conversation: Conversation, number: int) -> tuple[str, ...]:
        said: list[str] = []
        for later, place in enumerate(conversation.user_turns()):
            if later <= number:
                continue
            if self._labels.get((conversation.conversation_id, later)) == "new_request":
                break
            said.append(conversation.messages[place].content)
        return tuple(said)

    def _unfit(self, turn: EvalTurn, trained: set[str], most: int) -> tuple[str, str] | None:
        if _seen(turn, trained):
            return "seen_in_training", "the same request is in a training pair"
        said = sum(self._count(message.content) for message in turn.context)
        tokens = said + max(self._count(system_text(lines)) for lines in (turn.own, turn.wrong))
        if tokens > most:
            return "prompt_too_long", f"{tokens} tokens > {most}"
        return None


def _age(card: PersonaCard) -> tuple[bool, int, str, str]:
    """Order of a user's cards: the last one (`before` is empty) after all others."""
    return (not card.before, card.version, card.as_of or "", card.before)
