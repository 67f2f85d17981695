"""What both pair stages share: asking the policy, the length gate, and putting a pair together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rlhi.flow.stage import Context, Drop
from rlhi.models.base import ChatModel, ChatRequest, Sampling, TooLong
from rlhi.personas.render import prompt
from rlhi.recipe import Rollout
from rlhi.records import ChatMessage, GateResult, PreferencePair, Provenance, digest
from rlhi.rewards import Reward


async def replies(
    model: ChatModel, messages: Sequence[ChatMessage], rollout: Rollout, *, n: int, seed: int
) -> list[str]:
    """Sample `n` replies; those cut at the token limit and empty ones are left out."""
    sampling = Sampling(temperature=rollout.temperature, top_p=rollout.top_p, max_tokens=rollout.max_tokens, seed=seed)
    request = ChatRequest(model=model.model, messages=tuple(messages), sampling=sampling, n=n)
    answer = await model.complete(request)
    return [c.text.strip() for c in answer.choices if c.finish == "stop" and c.text.strip()]


def reward(ctx: Context) -> Reward:
    """The run's reward model."""
    model: Reward = ctx.resources["reward"]
    return model


def too_long(ctx: Context, lines: Sequence[str], context: Sequence[ChatMessage], most: int) -> Drop | None:
    """A drop where the prompt is longer than `most` of the policy's tokens."""
    tokens = sum(ctx.resources["count_tokens"](message.content) for message in prompt(lines, context))
    return Drop("prompt_too_long", f"{tokens} tokens > {most}") if tokens > most else None


def unread(error: TooLong) -> Drop:
    """A drop where a model did not read what it was given."""
    return Drop("prompt_too_long", str(error))


def length_gate(chosen: str, rejected: str, most: float) -> GateResult:
    """Pairs whose sides differ much in length teach length and little else."""
    longer, shorter = max(len(chosen), len(rejected)), max(1, min(len(chosen), len(rejected)))
    return GateResult(gate="length", passed=longer / shorter <= most, value=longer / shorter, threshold=most)


def failed_gate(gates: Sequence[GateResult]) -> Drop | None:
    """A drop for the first gate that was not passed."""
    for gate in gates:
        if not gate.passed:
            detail = f"{gate.value:.3f} against {gate.threshold:.3f}. {gate.detail}".strip()
            return Drop(f"gate_{gate.gate}", detail)
    return None


def make_pair(  # every argument is a column of the record
    *,
    source: Literal["ugr", "ubr"],
    conversation_id: str,
    turn: int,
    user_id: str,
    messages: Sequence[ChatMessage],
    chosen: str,
    rejected: str,
    provenance: Provenance,
) -> PreferencePair:
    """A pair under its content id."""
    texts = [message.model_dump() for message in messages]
    return PreferencePair(
        pair_id=digest([source, conversation_id, turn, texts, chosen, rejected]),
        prompt=tuple(messages),
        chosen=(ChatMessage(role="assistant", content=chosen),),
        rejected=(ChatMessage(role="assistant", content=rejected),),
        user_id=user_id,
        conversation_id=conversation_id,
        turn=turn,
        source=source,
        weight=1.0,
        provenance=provenance,
    )
