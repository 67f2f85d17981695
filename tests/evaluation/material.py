"""Conversations, cards, verdicts and scripted models for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rlhi.evaluation.comparison import Comparison
from rlhi.evaluation.turns import EvalTurn
from rlhi.models.base import ChatRequest, Choice, Completion, ScoreAnswer, ScoreRequest, Usage
from rlhi.records import (
    ChatMessage,
    Conversation,
    Label,
    LabelledTurn,
    Message,
    PersonaCard,
    Reply,
    Split,
    Statement,
    TurnRef,
    Verdict,
)


def conversation(name: str, user: str, said: list[str], split: Split = "heldout") -> Conversation:
    messages = []
    for text in said:
        messages += [Message(role="user", content=text), Message(role="assistant", content=f"Re: {text}")]
    return Conversation(
        conversation_id=name,
        user_id=user,
        started_at="2025-01-01T00:00:00Z",
        language="en",
        model="logged",
        source="logs.jsonl:1",
        split=split,
        messages=tuple(messages),
    )


def label(name: str, turn: int, kind: Label, user: str = "u") -> LabelledTurn:
    return LabelledTurn(
        conversation_id=name,
        turn=turn,
        user_id=user,
        label=kind,
        satisfaction=3,
        confidence=0.9,
        span="",
        labeler="test",
    )


def card(user: str, lines: list[str], before: str = "", version: int = 1) -> PersonaCard:
    evidence = (TurnRef(conversation_id="old", turn=0),)
    statements = tuple(Statement(text=t, confidence=0.9, evidence=evidence, learnt_at=None) for t in lines)
    return PersonaCard(user_id=user, version=version, as_of=None, before=before, statements=statements)


def eval_turn(name: str = "c1", turn: int = 0, user: str = "u1", **changes: object) -> EvalTurn:
    facts: dict[str, object] = {
        "conversation_id": name,
        "turn": turn,
        "user_id": user,
        "kind": "follow_up" if turn else "initial",
        "split": "heldout",
        "label": "new_request",
        "context": (ChatMessage(role="user", content="How do I boil an egg?"),),
        "later_feedback": ("Shorter please, and in grams.",),
        "own": ("Prefers short answers.",),
        "wrong": ("Prefers long answers.",),
        "wrong_user": "u2",
    }
    return EvalTurn.model_validate(facts | changes)


def comparison(reply: str, against: str, **changes: object) -> Comparison:
    turn = eval_turn(**changes)  # type: ignore[arg-type]
    return Comparison(turn=turn, arm="ours", against="base", seed=0, reply=reply, reply_against=against)


def verdict(arm: str, user: str, name: str, win: float, turn: int = 0, seed: int = 0) -> Verdict:
    return Verdict(
        arm=arm,
        against="base + persona",
        seed=seed,
        judge="likelihood",
        dimension="overall",
        conversation_id=name,
        turn=turn,
        user_id=user,
        win=win,
    )


def reply(arm: str, user: str, name: str, text: str, turn: int = 0, seed: int = 0) -> Reply:
    return Reply(arm=arm, seed=seed, conversation_id=name, turn=turn, user_id=user, persona_of=user, text=text)


@dataclass
class ScriptedModel:
    """Answers every chat request with what `say` makes of the prompt's last message."""

    say: Callable[[str], str]
    requests: list[ChatRequest] = field(default_factory=list)
    model: str = "scripted"

    async def complete(self, request: ChatRequest) -> Completion:
        self.requests.append(request)
        text = self.say(request.messages[-1].content)
        return Completion(choices=(Choice(text=text, finish="stop"),), usage=Usage())

    async def close(self) -> None:
        return None


@dataclass
class ScriptedScorer(ScriptedModel):
    """Gives a reply the log-likelihood that `rate` makes of it and of the system message before it."""

    say: Callable[[str], str] = str
    rate: Callable[[str, str], float] = lambda system, reply: 0.0
    scored: list[ScoreRequest] = field(default_factory=list)

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        self.scored.append(request)
        system = request.messages[0].content if request.messages[0].role == "system" else ""
        return ScoreAnswer(
            log_likelihoods=tuple(self.rate(system, reply) for reply in request.replies),
            tokens=tuple(len(reply.split()) + 1 for reply in request.replies),
            usage=Usage(),
        )
