"""Asks a model for JSON and reads it strictly, with one try at repair."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rlhi.models.base import ChatModel, ChatRequest, ModelError, Sampling
from rlhi.models.layers import Cached
from rlhi.records import ChatMessage

T = TypeVar("T", bound=BaseModel)

KEPT_CHARS = 500
"""Longest text of an unusable answer that an error keeps, in characters."""
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*(?:json)?[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE
)
_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)


class BadAnswer(ModelError):
    """The model answered, but not what it was asked for, even when told so."""

    def __init__(self, complaint: str, text: str) -> None:
        self.text = text if len(text) <= KEPT_CHARS else text[:KEPT_CHARS] + "…"
        """The unusable answer, clipped."""
        super().__init__(f"the model's answer cannot be used: {complaint}; it said: {self.text!r}")


async def ask(
    model: ChatModel,
    messages: Sequence[ChatMessage],
    answer: type[T],
    *,
    sampling: Sampling,
    check: Callable[[T], str | None] | None = None,
    mend: Callable[[T], T] | None = None,
    keep_bad: bool = False,
) -> T:
    """Ask for JSON that fits `answer` and that `check` has no complaint about.

    The first unusable answer is sent back with what is wrong with it. Where the second is unusable too, the last one
    that only `check` complained about is mended by `mend`, if that is given. Raises `BadAnswer` where there is none,
    and whatever `ModelError` the model raises.

    The store forgets what led to a `BadAnswer`, so that a later run asks anew; `keep_bad` keeps it, for a caller to
    whom an unusable answer is a result. A model with `thinking_tokens` has as many beyond `sampling.max_tokens`.
    """
    schema = answer.model_json_schema()
    chat = tuple(messages)
    store = model if isinstance(model, Cached) else None
    if store and store.thinking_tokens:
        sampling = sampling.model_copy(update={"max_tokens": sampling.max_tokens + store.thinking_tokens})
    asked: list[ChatRequest] = []
    doubtful: T | None = None
    for last_try in (False, True):
        request = ChatRequest(model=model.model, messages=chat, sampling=sampling, json_schema=schema)
        asked.append(request)
        choice = (await model.complete(request)).choices[0]
        found = parse(choice.text, answer)
        if isinstance(found, answer):
            doubt = check(found) if check else None
            if doubt is None:
                return found
            doubtful, complaint = found, doubt
        else:
            complaint = str(found)
        if choice.finish == "length":
            complaint = f"it was cut off after {sampling.max_tokens} tokens ({complaint})"
        if last_try:
            break
        chat = (
            *chat,
            ChatMessage(role="assistant", content=choice.text or "(nothing)"),
            ChatMessage(role="user", content=_repair(complaint, schema)),
        )
    if doubtful is not None and mend:
        return mend(doubtful)
    if store and not keep_bad:
        for request in asked:
            store.reject(request)
    if choice.finish == "length":
        complaint += "; a model that thinks before it answers needs `thinking_tokens` in the recipe"
    raise BadAnswer(complaint, choice.text)


def _repair(complaint: str, schema: dict[str, Any]) -> str:
    return (
        f"That answer cannot be used: {complaint}. Answer again with one JSON object and nothing else. It must fit "
        f"this JSON schema: {json.dumps(schema, ensure_ascii=False, sort_keys=True)}"
    )


def parse(text: str, answer: type[T]) -> T | str:
    """Read an answer; a complaint in words where it cannot be used.

    The answer is the whole text, or stands in a ```json fence; what a reasoning model thinks up to `</think>` is left
    out. Where it holds several objects, the last complete one binds. Nothing is looked for in running text: it may
    quote a log.
    """
    data = _last_object(_THOUGHT.sub("", text, count=1))
    if data is None:
        return "it is not one JSON object"
    known = {field.alias or name for name, field in answer.model_fields.items()}
    if unknown := sorted(set(data) - known):
        return f"unknown keys {unknown}; known are {sorted(known)}"
    try:
        # From JSON text, so that JSON's own types (a list for a tuple) are taken and no others.
        found = answer.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, p['loc'])) or 'answer'}: {p['msg']}" for p in error.errors()]
        return "; ".join(problems)
    return found


def _last_object(text: str) -> dict[str, Any] | None:
    whole = _objects(text)
    if whole is not None:
        return whole[-1] if whole else None
    fenced = [data for block in _FENCE.findall(text) for data in _objects(block) or []]
    return fenced[-1] if fenced else None


def _objects(text: str) -> list[dict[str, Any]] | None:
    """The JSON objects that make up `text`, an incomplete one at the end aside; None where it holds anything else."""
    found: list[dict[str, Any]] = []
    decoder, place = json.JSONDecoder(), 0
    text = text.strip()
    while place < len(text):
        if text[place] != "{":
            return None
        try:
            data, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return found
        found.append(data)
        while place < len(text) and text[place].isspace():
            place += 1
    return found
