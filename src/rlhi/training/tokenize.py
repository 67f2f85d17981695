"""Pairs as token ids, by the model's own chat template, exactly as TRL's conversational `DPOTrainer` tokenises them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jinja2 import TemplateError

from rlhi.records import ChatMessage, Dropped, PreferencePair

Side = Literal["chosen", "rejected"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A pair as token ids; a completion ends with the template's end of turn."""

    pair_id: str
    """The pair's id."""
    user_id: str
    """Whose conversation."""
    weight: float
    """Factor on the pair's loss."""
    prompt: tuple[int, ...]
    """Token ids up to and with the template's opening of the reply."""
    chosen: tuple[int, ...]
    """Token ids of the better reply."""
    rejected: tuple[int, ...]
    """Token ids of the worse reply."""
    conversation_id: str = ""
    """Where it comes from; empty = from no conversation that is known."""
    cut: int = 0
    """Messages left out at the start of the prompt, behind the system message, so that it fits."""

    def completion(self, side: Side) -> tuple[int, ...]:
        """Token ids of one side's reply."""
        return self.chosen if side == "chosen" else self.rejected

    def length(self, sides: Sequence[Side]) -> int:
        """Tokens of the longest of `sides` with its prompt."""
        return len(self.prompt) + max(len(self.completion(side)) for side in sides)


def _ids(tokenizer: Any, messages: Sequence[ChatMessage], *, opened: bool = False) -> tuple[int, ...]:
    chat = [{"role": message.role, "content": message.content} for message in messages]
    encoded = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True, add_generation_prompt=opened)
    return tuple(encoded["input_ids"])


def _drop(pair: PreferencePair, reason: str, detail: str) -> Dropped:
    return Dropped(row=pair.key, about=f"pair {pair.pair_id}", reason=reason, detail=detail)


def _diverge(tokenizer: Any, prompt: tuple[int, ...], whole: tuple[int, ...], side: Side) -> str:
    common = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), len(whole))
    alone, followed = tokenizer.decode(prompt[common : common + 8]), tokenizer.decode(whole[common : common + 8])
    return f"the prompt alone has {alone!r} at token {common}, before the {side} reply it has {followed!r}"


def encode(
    pair: PreferencePair,
    tokenizer: Any,
    sides: Sequence[Side] = ("chosen", "rejected"),
    max_length: int | None = None,
    *,
    truncate: bool = False,
) -> Encoded | Dropped:
    """Tokenise one pair, or say why it cannot be used.

    Reasons: `template` (the chat template refuses the messages), `prompt_not_prefix` (the prompt's tokens are no prefix
    of prompt and reply, so that training and inference would see different contexts), `empty_prompt`, `empty_reply`,
    `equal_replies` (nothing to prefer), `too_long` (more than `max_length` tokens). Only `sides` are looked at.

    With `truncate` a pair that is too long loses its oldest turns, so many that it fits: the system message stays, and
    the next message is a user's. It is dropped where even the last turn does not fit.
    """
    result: Encoded | Dropped = _drop(pair, "empty_prompt", "the prompt has no message")
    for start in _starts(pair.prompt) if truncate else (0,):
        result = _encode(pair, _shortened(pair.prompt, start), tokenizer, sides)
        if isinstance(result, Dropped):
            return result
        if max_length is None or result.length(sides) <= max_length:
            return replace(result, cut=start)
        result = _drop(pair, "too_long", f"{result.length(sides)} tokens, max_length is {max_length}")
    return result


def _lead(messages: Sequence[ChatMessage]) -> int:
    """How many system messages a chat begins with."""
    return next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))


def _starts(messages: Sequence[ChatMessage]) -> list[int]:
    """How many messages behind the system message may be left out: all counts that leave a user's message first."""
    rest = messages[_lead(messages) :]
    return [0, *(i for i, message in enumerate(rest) if i and message.role == "user")]


def _shortened(messages: Sequence[ChatMessage], cut: int) -> tuple[ChatMessage, ...]:
    lead = _lead(messages)
    return (*messages[:lead], *messages[lead + cut :])


def _encode(
    pair: PreferencePair, messages: Sequence[ChatMessage], tokenizer: Any, sides: Sequence[Side]
) -> Encoded | Dropped:
    try:
        prompt = _ids(tokenizer, messages, opened=True)
        wholes = {
            "chosen": _ids(tokenizer, (*messages, *pair.chosen)),
            "rejected": _ids(tokenizer, (*messages, *pair.rejected)),
        }
    except TemplateError as error:
        return _drop(pair, "template", f"the chat template refuses the messages: {error}")
    if not prompt:
        return _drop(pair, "empty_prompt", "the chat template gives no token for the prompt")
    for side in sides:
        if wholes[side][: len(prompt)] != prompt:
            return _drop(pair, "prompt_not_prefix", _diverge(tokenizer, prompt, wholes[side], side))
    encoded = Encoded(
        pair_id=pair.pair_id,
        user_id=pair.user_id,
        weight=pair.weight,
        prompt=prompt,
        chosen=wholes["chosen"][len(prompt) :],
        rejected=wholes["rejected"][len(prompt) :],
        conversation_id=pair.conversation_id,
    )
    for side in sides:
        if not encoded.completion(side):
            return _drop(pair, "empty_reply", f"the {side} reply has no token")
    if len(sides) > 1 and encoded.chosen == encoded.rejected:
        return _drop(pair, "equal_replies", "chosen and rejected have the same tokens")
    return encoded


def encode_all(
    pairs: Iterable[PreferencePair],
    tokenizer: Any,
    sides: Sequence[Side],
    max_length: int,
    *,
    truncate: bool = False,
) -> tuple[list[Encoded], list[Dropped]]:
    """Tokenise pairs in the order of their ids, so that the input's order decides nothing.

    A pair that occurs twice is dropped the second time, reason `duplicate`.
    """
    kept: list[Encoded] = []
    dropped: list[Dropped] = []
    last = ""
    for pair in sorted(pairs, key=lambda pair: pair.pair_id):
        result = (
            _drop(pair, "duplicate", "the same pair occurs more than once; use `weight` to make it count more")
            if pair.pair_id == last
            else encode(pair, tokenizer, sides, max_length, truncate=truncate)
        )
        last = pair.pair_id
        if isinstance(result, Encoded):
            kept.append(result)
        else:
            dropped.append(result)
    return kept, dropped
