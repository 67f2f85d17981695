from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from rlhi.models.base import ChatRequest, Completion, ModelError, ScoreRequest, Transient, Unreachable
from rlhi.models.layers import Cached, Filled, Limited, Meter, Retrying, Tally
from rlhi.models.store import Store

from .scripted import ScriptedModel, completion


def request(content: str = "q", **changes: object) -> ChatRequest:
    messages = [{"role": "user", "content": content}]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **changes})


class FakeSleep:
    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "s.sqlite")


def test_only_passing_failures_are_tried_again() -> None:
    sleep, tally = FakeSleep(), Tally()
    model = ScriptedModel([Transient("busy"), Transient("busy"), "yes"])
    assert asyncio.run(Retrying(model, 2, tally, sleep).complete(request())).text == "yes"
    assert tally.retries == 2
    for failure in (ModelError("no"), Unreachable("no"), ValueError("bug")):
        model = ScriptedModel([failure, "yes"])
        with pytest.raises(type(failure)):
            asyncio.run(Retrying(model, 5, sleep=sleep).complete(request()))
        assert len(model.requests) == 1


def test_the_last_failure_is_raised() -> None:
    model = ScriptedModel([Transient("first"), Transient("second"), Transient("third")])
    with pytest.raises(Transient, match="third"):
        asyncio.run(Retrying(model, 2, sleep=FakeSleep()).complete(request()))
    assert len(model.requests) == 3


def test_back_off_doubles_with_jitter() -> None:
    sleep = FakeSleep()
    model = ScriptedModel([*[Transient("busy")] * 8, "yes"])
    asyncio.run(Retrying(model, 8, sleep=sleep, rng=random.Random(1)).complete(request()))
    for place, wait in enumerate(sleep.waits):
        most = min(60.0, 2.0**place)
        assert most / 2 <= wait <= most
    assert len({wait / min(60.0, 2.0**place) for place, wait in enumerate(sleep.waits)}) == 8


def test_the_server_says_how_long_to_wait() -> None:
    sleep = FakeSleep()
    model = ScriptedModel([Transient("busy", retry_after=17.0), "yes"])
    asyncio.run(Retrying(model, 1, sleep=sleep).complete(request()))
    assert 17.0 <= sleep.waits[0] <= 18.0
    model = ScriptedModel([Transient("come back tomorrow", retry_after=86400.0), "yes"])
    with pytest.raises(Transient, match="tomorrow"):
        asyncio.run(Retrying(model, 5, sleep=sleep).complete(request()))


def test_a_request_that_backs_off_holds_no_slot() -> None:
    async def main() -> list[str]:
        order: list[str] = []
        waiting = asyncio.Event()

        async def sleep(_: float) -> None:
            waiting.set()
            await asyncio.wait_for(other_done.wait(), 5)

        other_done = asyncio.Event()
        failed = False

        def script(asked: ChatRequest) -> str | Exception:
            nonlocal failed
            order.append(asked.messages[0].content)
            if asked.messages[0].content == "a" and not failed:
                failed = True
                return Transient("busy")
            return "yes"

        stack = Retrying(Limited(ScriptedModel(script), 1), 1, sleep=sleep)
        first = asyncio.create_task(stack.complete(request("a")))
        await waiting.wait()
        await asyncio.wait_for(stack.complete(request("b")), 5)
        other_done.set()
        await first
        return order

    assert asyncio.run(main()) == ["a", "b", "a"]


def test_never_more_calls_at_once_than_allowed() -> None:
    class FakeSlow(ScriptedModel):
        now = most = 0

        async def complete(self, request: ChatRequest) -> Completion:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return completion("x")

    async def main() -> int:
        model, tally = FakeSlow([]), Tally()
        limited = Limited(model, 3, tally)
        await asyncio.gather(*(limited.complete(request(str(i))) for i in range(20)))
        assert (tally.sent, tally.prompt_tokens, tally.completion_tokens) == (20, 200, 20)
        assert tally.seconds >= 20 * 0.001
        return model.most

    assert asyncio.run(main()) == 3


def test_an_answer_is_asked_for_once(store: Store) -> None:
    async def main() -> None:
        model, tally = ScriptedModel(lambda asked: "to " + asked.messages[0].content), Tally()
        cached = Cached(Limited(model, 4, tally), store, tally)
        wanted = [request(str(number % 5)) for number in range(50)]
        answers = await asyncio.gather(*(cached.complete(one) for one in wanted))
        assert [answer.text for answer in answers] == [f"to {number % 5}" for number in range(50)]
        assert (len(model.requests), tally.sent, tally.cached) == (5, 5, 45)
        silent = ScriptedModel([])
        again = Cached(Limited(silent, 4), store)
        assert (await again.complete(wanted[0])).text == "to 0"
        assert not silent.requests

    asyncio.run(main())


def test_one_caller_who_gives_up_leaves_the_answer_to_the_others(store: Store) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        class FakeGated(ScriptedModel):
            async def complete(self, request: ChatRequest) -> Completion:
                await gate.wait()
                return await super().complete(request)

        model = FakeGated(["yes"])
        cached = Cached(model, store)
        first, second = (asyncio.create_task(cached.complete(request())) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert (await second).text == "yes"
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.clear()
        lonely = asyncio.create_task(cached.complete(request("other")))
        await asyncio.sleep(0)
        lonely.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lonely
        gate.set()
        await asyncio.sleep(0.01)
        assert len(model.requests) == 1

    asyncio.run(main())


def test_failures_are_not_stored_and_what_was_rejected_is_forgotten(store: Store) -> None:
    async def main() -> None:
        model = ScriptedModel([ModelError("no"), completion("long", finish="length"), "other", "third"])
        cached = Cached(model, store)
        with pytest.raises(ModelError):
            await cached.complete(request())
        assert store.count() == 0
        for expected in ("long", "other", "third"):
            for _ in range(2):
                assert (await cached.complete(request())).text == expected
            assert store.count() == 1
            cached.reject(request())
            assert store.count() == 0
        samples = [asked.sample for asked in model.requests if isinstance(asked, ChatRequest)]
        assert samples == [0, 0, 1, 2], "a rejected answer is asked for with another seed"

    asyncio.run(main())


def test_scores_are_stored_too(store: Store) -> None:
    async def main() -> None:
        model, tally = ScriptedModel([]), Tally()
        stack = Cached(Filled(Retrying(Limited(model, 1, tally), 1)), store, tally)
        asked = ScoreRequest(model="m", messages=(), replies=("a", "bb"))
        for _ in range(2):
            assert (await stack.score(asked)).log_likelihoods == (-1.0, -2.0)
        assert (len(model.requests), tally.sent, tally.cached) == (1, 1, 1)
        await stack.close()
        assert model.closed

    asyncio.run(main())


def test_what_cannot_score_says_so(store: Store) -> None:
    class FakeChatOnly:
        model = "chat only"

        async def complete(self, request: ChatRequest) -> Completion:
            return completion("x")

        async def close(self) -> None:
            return

    stack = Cached(Filled(Retrying(Limited(FakeChatOnly(), 1), 5)), store)
    with pytest.raises(ModelError, match="chat only cannot say how likely"):
        asyncio.run(stack.score(ScoreRequest(model="m", messages=(), replies=("a",))))


def test_missing_choices_are_asked_for_with_other_seeds() -> None:
    async def main() -> None:
        model = ScriptedModel(lambda asked: str(asked.sampling.seed))
        filled = Filled(model)
        answer = await filled.complete(request(n=6))
        assert len({choice.text for choice in answer.choices}) == 6
        assert answer.usage.prompt_tokens == 60
        assert [asked.n for asked in model.requests if isinstance(asked, ChatRequest)] == [6, 1, 1, 1, 1, 1]
        model.requests.clear()
        again = await filled.complete(request("another", n=4))
        assert [asked.n for asked in model.requests if isinstance(asked, ChatRequest)] == [1, 1, 1, 1]
        assert not {c.text for c in again.choices} & {c.text for c in answer.choices}
        assert await filled.complete(request("another", n=4)) == again

    asyncio.run(main())


def test_a_failing_choice_is_retried_alone() -> None:
    async def main() -> None:
        seen: set[int] = set()

        def script(asked: ChatRequest) -> str | Exception:
            if asked.n == 1 and asked.sampling.seed not in seen:
                seen.add(asked.sampling.seed)
                return Transient("busy")
            return str(asked.sampling.seed)

        model = ScriptedModel(script)
        stack = Filled(Retrying(Limited(model, 2), 1, sleep=FakeSleep()))
        assert len((await stack.complete(request(n=20))).choices) == 20
        assert len(model.requests) == 1 + 2 * 19

    asyncio.run(main())


def test_a_meter_adds_up_by_role() -> None:
    meter = Meter()
    meter.tally("judge", "m1").sent += 2
    meter.tally("judge", "m2").sent += 3
    meter.tally("judge", "m1").seconds += 0.25
    meter.tally("policy", "m1").cached += 1
    counts = meter.as_dict()
    assert counts["judge"]["sent"] == 5
    assert counts["judge"]["seconds"] == 0.25
    assert counts["judge"]["models"] == ["m1", "m2"]
    assert counts["policy"]["cached"] == 1
