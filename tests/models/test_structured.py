from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from rlhi.models.base import ChatRequest, Sampling, Transient
from rlhi.models.layers import Cached
from rlhi.models.store import Store
from rlhi.models.structured import BadAnswer, ask, parse
from rlhi.records import ChatMessage

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
