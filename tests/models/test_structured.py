from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from rlhi.models.base import ChatRequest, Sampling, Transient
from rlhi.models.factory import identify, open_model
from rlhi.models.layers import Cached, Meter
from rlhi.models.store import Store
from rlhi.models.structured import BadAnswer, ask, parse
from rlhi.records import ChatMessage
from rlhi.settings import Model

from .scripted import ScriptedModel, completion


class Verdict(BaseModel):
    winner: Literal["A", "B", "tie"]
    confidence: float = Field(ge=0, le=1)
    notes: tuple[str, ...] = ()


GOOD = '{"winner": "A", "confidence": 0.5}'
OTHER = '{"winner": "B", "confidence": 1}'
MESSAGES = (ChatMessage(role="user", content="Which?"),)
SAMPLING = Sampling(temperature=0, max_tokens=64)


def winner(text: str) -> str | None:
    found = parse(text, Verdict)
    return found.winner if isinstance(found, Verdict) else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, "A"),
        (f"\n {GOOD}\n", "A"),
        (f"```json\n{GOOD}\n```", "A"),
        (f"Here it is:\n```json\n{GOOD}\n```\nThat is all.", "A"),
        (f"```\n{GOOD}\n```", "A"),
        (f"{GOOD}\n{OTHER}", "B"),
        (f"```json\n{GOOD}\n```\nNo, rather:\n```json\n{OTHER}\n```", "B"),
        (f"```json\n{GOOD}\n```\nNo, rather:\n```json\n{OTHER[:20]}", "A"),
        (f'{GOOD} {{"winner": "B", "conf', "A"),
        (f"<think>Is it {OTHER}? No.</think>\n{GOOD}", "A"),
        ('{"winner": "tie", "confidence": 0, "notes": ["a", "b"]}', "tie"),
        # what is not an answer
        ("", None),
        ("A", None),
        ("null", None),
        (f"[{GOOD}]", None),
        (f"The user wrote {GOOD} and I agree.", None),
        (f"{GOOD} I am sure.", None),
        (GOOD[:-1], None),
        ('{"winner": "C", "confidence": 0.5}', None),
        ('{"winner": "A", "confidence": "0.5"}', None),
        ('{"winner": "A", "confidence": 1.5}', None),
        ('{"winner": "A", "confidence": NaN}', None),
        ('{"winner": "A"}', None),
        ('{"winner": "A", "confidence": 0.5, "why": "because"}', None),
        ("{" * 100_000, None),
        ("\x00\x07<<<", None),
    ],
)
def test_only_a_clear_answer_is_taken(text: str, expected: str | None) -> None:
    assert winner(text) == expected


def test_a_bad_answer_is_sent_back_once_with_what_is_wrong() -> None:
    model = ScriptedModel(['{"winner": "C", "confidence": 0.5}', GOOD])
    assert asyncio.run(ask(model, MESSAGES, Verdict, sampling=SAMPLING)).winner == "A"
    first, second = model.requests
    assert isinstance(first, ChatRequest)
    assert isinstance(second, ChatRequest)
    assert first.messages == MESSAGES
    assert first.json_schema == second.json_schema == Verdict.model_json_schema()
    assert second.messages[1] == ChatMessage(role="assistant", content='{"winner": "C", "confidence": 0.5}')
    assert "winner" in second.messages[2].content
    assert "'A', 'B' or 'tie'" in second.messages[2].content


def test_a_second_bad_answer_is_a_failure_with_its_text() -> None:
    model = ScriptedModel(["first", "x" * 2000])
    with pytest.raises(BadAnswer, match="not one JSON object") as caught:
        asyncio.run(ask(model, MESSAGES, Verdict, sampling=SAMPLING))
    assert caught.value.text == "x" * 500 + "…"
    assert len(model.requests) == 2


def test_the_caller_may_complain() -> None:
    def check(verdict: Verdict) -> str | None:
        return None if verdict.winner == "B" else "A cannot win"

    model = ScriptedModel([GOOD, OTHER])
    assert asyncio.run(ask(model, MESSAGES, Verdict, sampling=SAMPLING, check=check)).winner == "B"
    asked = model.requests[1]
    assert isinstance(asked, ChatRequest)
    assert "A cannot win" in asked.messages[-1].content


def test_an_answer_that_was_cut_is_said_to_be() -> None:
    model = ScriptedModel([completion(GOOD[:10], finish="length"), GOOD])
    asyncio.run(ask(model, MESSAGES, Verdict, sampling=SAMPLING))
    asked = model.requests[1]
    assert isinstance(asked, ChatRequest)
    assert "cut off after 64 tokens" in asked.messages[-1].content


def test_failures_of_the_call_are_passed_on() -> None:
    with pytest.raises(Transient):
        asyncio.run(ask(ScriptedModel([Transient("busy")]), MESSAGES, Verdict, sampling=SAMPLING))


def test_a_repair_is_found_again_in_the_store(tmp_path: Path) -> None:
    async def main() -> int:
        model = ScriptedModel(["nonsense", GOOD])
        cached = Cached(model, Store(tmp_path / "s.sqlite"))
        for _ in range(3):
            assert (await ask(cached, MESSAGES, Verdict, sampling=SAMPLING)).winner == "A"
        return len(model.requests)

    assert asyncio.run(main()) == 2


def test_only_what_was_rejected_twice_is_asked_anew(tmp_path: Path) -> None:
    """A run that failed and is started again can succeed, and pays for nothing twice."""

    async def runs(model: ScriptedModel, keep_bad: bool) -> list[str]:
        cached = Cached(model, Store(tmp_path / f"{keep_bad}.sqlite"))
        said: list[str] = []
        for _ in range(3):
            for content in ("Which?", "And here?"):
                chat = (ChatMessage(role="user", content=content),)
                try:
                    found = await ask(cached, chat, Verdict, sampling=SAMPLING, keep_bad=keep_bad)
                    said.append(found.winner)
                except BadAnswer:
                    said.append("bad")
        return said

    model = ScriptedModel(["nonsense", "nonsense", completion(GOOD[:9], finish="length"), GOOD, "again", OTHER])
    assert asyncio.run(runs(model, False)) == ["bad", "A", "B", "A", "B", "A"]
    assert len(model.requests) == 6
    first, second = (asked for asked in model.requests if isinstance(asked, ChatRequest) and asked.messages == MESSAGES)
    assert (first.sample, second.sample) == (0, 1)
    model = ScriptedModel(["nonsense", "nonsense", GOOD])
    assert asyncio.run(runs(model, True)) == ["bad", "A"] * 3


def test_a_reasoning_model_has_room_to_think(tmp_path: Path) -> None:
    async def main() -> None:
        cut = completion("<think>Let me see", finish="length")
        thinking = Cached(ScriptedModel([GOOD, cut, cut]), Store(tmp_path / "s.sqlite"), thinking_tokens=1000)
        await ask(thinking, MESSAGES, Verdict, sampling=SAMPLING)
        (asked,) = thinking.inner.requests  # type: ignore[attr-defined]
        assert asked.sampling.max_tokens == 1064
        other = (ChatMessage(role="user", content="And?"),)
        with pytest.raises(BadAnswer, match=r"cut off after 1064 tokens.*`thinking_tokens` in the recipe"):
            await ask(thinking, other, Verdict, sampling=SAMPLING)

    asyncio.run(main())


def test_room_to_think_tells_a_model_from_others(tmp_path: Path) -> None:
    def served(tokens: int) -> Model:
        return Model(backend="openai", model="m", base_url="http://localhost/v1", thinking_tokens=tokens)

    assert len({identify(served(tokens)) for tokens in (0, 1000, 2000)}) == 3
    model = open_model(served(1000), store=Store(tmp_path / "s.sqlite"), meter=Meter(), role="judge")
    assert isinstance(model, Cached) and model.thinking_tokens == 1000
