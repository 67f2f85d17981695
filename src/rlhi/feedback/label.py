"""The stage `labels`: what each user message after the first says of the reply before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from rlhi.feedback import local
from rlhi.feedback.features import Exchange
from rlhi.feedback.local import Judgement
from rlhi.feedback.taxonomy import EVIDENT
from rlhi.flow.stage import Context, Drop, Stage
from rlhi.models.base import ChatModel, Sampling
from rlhi.models.structured import ask
from rlhi.prompts import clip, fingerprint, render
from rlhi.recipe import LOCAL
from rlhi.records import Conversation, Label, LabelledTurn, Record

SAMPLING = Sampling(temperature=0, max_tokens=200)


class Answer(Record):
    """What an LLM labeler answers."""

    label: Label
    """One of the taxonomy."""
    satisfaction: int = Field(ge=1, le=5)
    """Level of satisfaction."""
    confidence: float = Field(ge=0, le=1)
    """The model's own view, 0–1."""
    span: str
    """Words of the message, verbatim."""


def exchanges(conversation: Conversation) -> list[Exchange]:
    """The exchanges of a conversation that get a label: one for each user message after the first."""
    places = conversation.user_turns()
    said = [conversation.messages[place].content for place in places]
    return [
        Exchange(
            request=said[turn - 1],
            reply=conversation.reply(turn - 1) or "",
            message=said[turn],
            earlier="\n".join(said[: turn - 1]),
        )
        for turn in range(1, len(places))
    ]


def span_complaint(answer: Answer, message: str) -> str | None:
    """What is wrong with the span of an answer, for the model's second try; None where nothing is."""
    if answer.span and answer.span not in message:
        return f'"span" must be copied exactly from the next message; {answer.span!r} does not stand in it'
    if answer.label in EVIDENT and not answer.span.strip():
        return f'"span" must not be empty for the label "{answer.label}"'
    return None


def without_span(answer: Answer) -> Answer:
    """An answer whose span was rejected: what it says is not shown by the message, so it is trusted half as much."""
    return answer.model_copy(update={"span": "", "confidence": answer.confidence / 2})


async def ask_label(model: ChatModel, exchange: Exchange, max_chars: int) -> Judgement:
    """Let an LLM label a message; a span that even its second try did not copy from the message is rejected.

    Raises `BadAnswer` where the second try is no valid answer.
    """
    shown = clip(exchange.message, max_chars)
    messages = render(
        "label", request=clip(exchange.request, max_chars), reply=clip(exchange.reply, max_chars), message=shown
    )
    answer = await ask(
        model,
        messages,
        Answer,
        sampling=SAMPLING,
        check=lambda given: span_complaint(given, exchange.message),
        mend=without_span,
    )
    return Judgement(answer.label, answer.satisfaction, answer.confidence, answer.span)


class LabelStage(Stage[Conversation, LabelledTurn]):
    """Label every user message after the first; a conversation with one user message is dropped."""

    name: ClassVar[str] = "labels"

    labeler: str = LOCAL
    """`local`, or the model bound to the role `labeler`."""
    max_chars: int = Field(4000, ge=100)
    """Longest excerpt of a request, reply or message shown to an LLM, in characters."""
    made_by: str = Field(
        default_factory=lambda data: local.load().name if data["labeler"] == LOCAL else fingerprint("label")
    )
    """Version of the local labeler, or fingerprint of the prompt: other labels come from another one."""

    async def run(self, row: Conversation, ctx: Context) -> Sequence[LabelledTurn] | Drop:
        """Label a conversation; one turn without a valid label fails it."""
        found = exchanges(row)
        if not found:
            return Drop("single_turn")
        if self.labeler == LOCAL:
            by, judged = local.load().name, local.load().label(found)
        else:
            model = ctx.model("labeler")
            by, judged = model.model, [await ask_label(model, exchange, self.max_chars) for exchange in found]
        return [
            LabelledTurn(
                conversation_id=row.conversation_id,
                turn=turn,
                user_id=row.user_id,
                label=judgement.label,
                satisfaction=judgement.satisfaction,
                confidence=judgement.confidence,
                span=judgement.span,
                labeler=by,
            )
            for turn, judgement in enumerate(judged, start=1)
        ]

    def about(self, row: Conversation) -> str:
        """Names the conversation."""
        return f"conversation {row.conversation_id} of user {row.user_id} ({row.source})"
