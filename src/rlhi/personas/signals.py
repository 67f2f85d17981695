"""What single feedback messages say of their writer's wishes, each with the message that it was read from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhi.feedback.clauses import clauses
from rlhi.personas.facets import FACETS, Wish
from rlhi.personas.kinds import request_kind, said_condition, without_condition
from rlhi.personas.reader import load
from rlhi.records import Conversation, Label, LabelledTurn, TurnRef

MAX_STATEMENT_CHARS = 200
SURE, POSSIBLE = 0.9, 0.2
TRUST: dict[Label, float] = {
    "reattempt_with_feedback": 1.0,
    "reattempt_without_feedback": 0.9,
    "positive_feedback": 0.7,
    "new_request": 0.7,
}
"""Weight of what a message of each label says. A vague complaint may name a wish all the same. Praise shows what is
liked rather than what is missed, and what a request asks for may be meant for this once. Other messages are not about
answers."""
MAX_REQUEST_CHARS = 600

_CHANGE = re.compile(
    r"\b(?:from now on|changed my mind|change of mind|new rule|from today|forget (?:what|everything) I"
    r"|in (?:the )?future|going forward|starting (?:now|today)|as of (?:now|today)|henceforth|not any ?more|no longer"
    r"|I used to|differently now|I want .{1,40} now\b|on second thought|I take (?:it|that) back|these days I"
    r"|a partir de (?:ahora|hoy)|cambiado de (?:opinión|idea)|desde (?:ahora|hoy)|olvida lo que|en adelante|ya no"
    r"|ab (?:jetzt|heute|sofort)|meine Meinung geändert|in Zukunft|künftig|à partir de maintenant|désormais"
    r"|changé d'avis|de agora em diante|mudei de ideia|с этого момента|отныне|передумал\w*)\b"
    r"|从现在开始|从今以后|改变主意",
    re.IGNORECASE,
)
_LASTING = re.compile(
    r"\b(?:always|never|from now on|every time|in (?:the )?future|next time"
    r"|I (?:generally|usually|really)? ?(?:prefer|like|love|hate)"
    r"|siempre|nunca|a partir de ahora|prefiero|immer|nie|künftig|toujours|jamais|je préfère|sempre|prefiro"
    r"|всегда|никогда)\b"
    r"|总是|以后|永远",
    re.IGNORECASE,
)
_FACT = re.compile(
    r"\d|\b(?:should be|it(?:'s| is| was)|that(?:'s| is)|you (?:said|wrote|forgot|missed))\b", re.IGNORECASE
)
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|without|stop|drop|skip|remove|lose|ditch|enough|hate|annoy\w*|omit|spare|avoid|leave out"
    r"|do away|unnecessary|fewer|less|sin|nada|deja\w*|quita\w*|sobran?|evita\w*|nunca|ni|basta|ahórra\w*|elimina\w*"
    r"|nicht|kein\w*|ohne"
    r"|lass\w*|weg|nie|pas|sans|jamais|arrête\w*|aucune?|enlève\w*|não|sem|pare|tire|не|без|нет|убери\w*)\b"
    r"|n['’]?t\b|不|别|没|无|去掉",
    re.IGNORECASE,
)
LEFT_OUT = ("without", "none")
"""Values of facets that wish something left out."""
NO_CUE = 0.6
"""Factor on the chance of a wish for something to be left out, where the clause has no word of refusal."""
_CODE = re.compile(r"[=\[\]{}<>_]|\w\(|\A[\d\s.,:;+*/-]+\Z")
_ORDER_TO_MACHINE = re.compile(
    r"\b(?:ignore|disregard|override|bypass|forget)\b.{0,40}\b(?:instruction|prompt|rule|previous|above|polic|guideline)"
    r"|system prompt|developer mode|jailbreak|\b(?:system|assistant|user)\s*:|<\|?/?\w+\|?>|```|\{\s*\"|https?://"
    r"|\byou are (?:now|no longer)\b|\bpretend (?:to be|you)|\breveal\b|\bpassword|api[ _-]?key|\bexecute\b|\bact as\b"
    r"|ignora .{0,30}instruccion|ignoriere .{0,30}anweisung|ignore[rz]? .{0,30}consigne|忽略.{0,20}(?:指令|提示)"
    r"|игнорируй .{0,30}инструкц",
    re.IGNORECASE,
)
_SENSITIVE = re.compile(
    r"\b(?:religio\w*|christian|muslim|jewish|catholic|hindu|atheist|faith|church|mosque|politic\w*|republican|democrat|conservative"
    r"|liberal|communist|vote[rsd]?|gay|lesbian|bisexual|transgender|queer|sexual\w*|orientation|diabet\w*|cancer|depress\w*|hiv"
    r"|pregnan\w*|disab\w*|disease|illness|medication|therap\w*|allerg\w*|adhd|autis\w*|ethnic\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Signal:
    """One wish that one message says."""

    wish: Wish | None
    """The facet's value; None for a wish outside the known facets."""
    text: str
    """The user's own words, for a wish outside the known facets; empty otherwise."""
    condition: str
    """The kind of request that the user limits it to; empty = none said."""
    kind: str
    """The kind of the request that the reply answered; empty = not known."""
    chance: float
    """Probability that the message says so, 0–1."""
    plain_change: bool
    """Whether the user says that they want it differently from now on."""
    ref: TurnRef
    """The message."""
    at: str | None
    """When it was said, ISO 8601 in UTC."""
    conversation: int
    """Place of its conversation in the user's history."""


def commands(text: str) -> bool:
    """Whether a text reads like an order to the machine (a prompt injection) rather than a taste in answers."""
    return len(text) > MAX_STATEMENT_CHARS or "\n" in text or bool(_ORDER_TO_MACHINE.search(text))


def sensitive(text: str) -> bool:
    """Whether a text speaks of health, faith, politics or orientation."""
    return bool(_SENSITIVE.search(text))


def _said(clause: str) -> dict[Wish, float]:
    """The wishes of a clause: those of its parts between commas, and of the whole where the parts say nothing."""
    bare = without_condition(clause)
    parts = [part for part in re.split(r"[,:，]\s*|\s+(?:and|y|und|et)\s+", bare) if len(part) > 3]
    whole, *pieces = load().read([bare, *(parts if len(parts) > 1 else [])])
    possible = load().facets(bare)
    found: dict[str, tuple[float, Wish]] = {}
    for read in pieces:
        for wish, chance in read.items():
            # A part torn from its clause may read as anything: the whole clause must not speak against it.
            if chance >= SURE or possible[wish.facet] >= POSSIBLE:
                found[wish.facet] = max(found.get(wish.facet, (0.0, wish)), (chance, wish))
    for wish, chance in whole.items():
        found.setdefault(wish.facet, (chance, wish))
    refuses = bool(_NEGATION.search(bare))
    return {
        wish: chance if refuses or wish.value not in LEFT_OUT else NO_CUE * chance for chance, wish in found.values()
    }


def _own_words(clause: str) -> str:
    """A lasting wish outside the known facets, in the user's words; empty where the clause is none."""
    words = clause.split()
    fits = 3 <= len(words) <= 20 and bool(_LASTING.search(clause))
    return "" if not fits or _FACT.search(clause) or commands(clause) or sensitive(clause) else clause.strip(" .,;:")


def signals(conversation: Conversation, labels: Mapping[int, LabelledTurn], place: int) -> list[Signal]:
    """The wishes that a conversation's user says. `labels` are its labelled turns by turn; turn 0 needs none."""
    places = conversation.user_turns()
    texts = [conversation.messages[at].content for at in places]
    found: list[Signal] = []
    for turn, text in enumerate(texts):
        label = labels[turn].label if turn in labels else "new_request" if turn == 0 else None
        if label not in TRUST:
            continue
        asks = label == "new_request"
        asked = reversed(texts[: turn + 1] if asks else texts[:turn])
        about = next((kind for kind in map(request_kind, asked) if kind), "")
        message = conversation.messages[places[turn]]
        ref = TurnRef(conversation_id=conversation.conversation_id, turn=turn)
        at = message.timestamp or conversation.started_at
        change = bool(_CHANGE.search(text))
        for clause in _requested(text) if asks else clauses(text):
            if commands(clause) or _CODE.search(clause):
                continue
            condition = said_condition(clause)
            wishes = _said(clause)
            for wish, chance in wishes.items():
                limit = "" if FACETS[wish.facet].only else condition
                if not asks or chance >= SURE:
                    found.append(Signal(wish, "", limit, about, TRUST[label] * chance, change, ref, at, place))
            own = "" if wishes or label != "reattempt_with_feedback" else _own_words(clause)
            if own:
                found.append(Signal(None, own, condition, about, 0.5, change, ref, at, place))
    return _once(found)


def _requested(text: str) -> list[str]:
    """What stands after the first clause of a request: that one says what is asked, and a pasted text says nothing."""
    return clauses(text)[1:] if len(text) <= MAX_REQUEST_CHARS else []


def _once(found: Sequence[Signal]) -> list[Signal]:
    """One signal per wish and message: the surest; of two values of one facet in one message, the surer."""
    best: dict[tuple[str, str, TurnRef], Signal] = {}
    for signal in found:
        key = (signal.wish.facet if signal.wish else signal.text, signal.condition, signal.ref)
        if key not in best or signal.chance > best[key].chance:
            best[key] = signal
    return list(best.values())
