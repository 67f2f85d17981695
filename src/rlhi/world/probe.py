"""What a policy does in the world: wishes met with and without a persona, correctness, answers to role tasks."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import orjson

from rlhi import prompts
from rlhi.models.base import ChatModel, ChatRequest, Sampling
from rlhi.personas.render import system_text
from rlhi.records import ChatMessage
from rlhi.world.corpus import Sample, role_samples
from rlhi.world.detect import correctness, detect, words
from rlhi.world.dialogue import Conversation, Exchange
from rlhi.world.files import Phrasings
from rlhi.world.preferences import statement
from rlhi.world.users import Person, make_person

Setting = Literal["plain", "persona", "rewrite"]
"""Asked without a persona; under the user's true persona; as the rewriter, under that persona."""


@dataclass(frozen=True)
class Probe:
    """A request to answer, with the truth about it."""

    messages: tuple[ChatMessage, ...]
    exchange: Exchange
    setting: Setting


def probes(users: int, seed: int, which: Phrasings = "test") -> list[Probe]:
    """First and follow-up turns of fresh users, each without and with persona, those with feedback as rewrites too."""
    rng = Random(f"probe/{seed}")
    found: list[Probe] = []
    for _ in range(users):
        person = make_person(rng)
        exchanges = Conversation(person, which, rng).run()
        system = _system(person, rng, which)
        for place in {0, len(exchanges) - 1}:
            exchange = exchanges[place]
            if exchange.request is None:
                continue
            chat = _context(exchanges, place)
            found.append(Probe(chat, exchange, "plain"))
            found.append(Probe((ChatMessage(role="system", content=system), *chat), exchange, "persona"))
            if exchange.label == "reattempt_with_feedback":
                task = prompts.render("rewrite", trusted={"persona": system})[0]
                found.append(Probe((task, *chat), exchange, "rewrite"))
    return found


def _system(person: Person, rng: Random, which: Phrasings) -> str:
    return system_text([statement(p, rng, which) for p in person.preferences])


def _context(exchanges: Sequence[Exchange], place: int) -> tuple[ChatMessage, ...]:
    said: list[ChatMessage] = []
    for exchange in exchanges[: place + 1]:
        said += (ChatMessage(role="user", content=exchange.text), ChatMessage(role="assistant", content=exchange.reply))
    return tuple(said[:-1])


async def measure_policy(model: ChatModel, asked: Sequence[Probe], sampling: Sampling) -> dict[str, Any]:
    """Shares of wishes met (all, named in the message, by dimension), correctness (by kind) and words, per setting."""
    replies = await _answers(model, [probe.messages for probe in asked], sampling)
    seen: dict[str, list[float]] = defaultdict(list)
    for probe, reply in zip(asked, replies, strict=True):
        request, want = probe.exchange.request, probe.exchange.wanted
        if request is None:
            continue
        got = detect(reply, request)
        named = {p.dimension for p in probe.exchange.named}
        for dimension, value in want.items():
            met = float(got[dimension] == value)
            seen[f"{probe.setting}.met"].append(met)
            seen[f"{probe.setting}.met.{dimension}"].append(met)
            if dimension in named:
                seen[f"{probe.setting}.named"].append(met)
        right = correctness(reply, request, want)
        seen[f"{probe.setting}.right"].append(right)
        seen[f"{probe.setting}.right.{request.kind}"].append(right)
        seen[f"{probe.setting}.words"].append(float(words(reply)))
    return _means(seen)


async def measure_roles(model: ChatModel, number: int, seed: int) -> dict[str, Any]:
    """Of tasks of the LLM roles: share of answers that are JSON with the right keys, and share that are the truth."""
    tasks = role_samples(seed, number)
    sampling = Sampling(temperature=0, max_tokens=200)
    answers = await _answers(model, [sample.messages[:-1] for _, sample in tasks], sampling)
    seen: dict[str, list[float]] = defaultdict(list)
    for (role, sample), answer in zip(tasks, answers, strict=True):
        said, true = _json(answer), orjson.loads(sample.messages[-1].content)
        seen[f"role.{role}.valid"].append(float(isinstance(said, dict) and said.keys() == true.keys()))
        if isinstance(said, dict):
            same = said.get("label") == true["label"] if role == "label" else said == true
            seen[f"role.{role}.right"].append(float(same))
        if role == "label" and isinstance(said, dict):
            seen["role.label.span_in_message"].append(float(_span_stands(said, sample)))
    return _means(seen)


def _span_stands(said: dict[str, Any], sample: Sample) -> bool:
    return str(said.get("span", "")) in sample.messages[1].content


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


async def _answers(model: ChatModel, chats: Iterable[tuple[ChatMessage, ...]], sampling: Sampling) -> list[str]:
    requests = [ChatRequest(model=model.model, messages=chat, sampling=sampling) for chat in chats]
    return [done.text for done in await asyncio.gather(*(model.complete(request) for request in requests))]


def _means(seen: dict[str, list[float]]) -> dict[str, Any]:
    return {name: {"mean": sum(values) / len(values), "n": len(values)} for name, values in sorted(seen.items())}
