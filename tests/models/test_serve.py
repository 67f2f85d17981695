"""The OpenAI-compatible back end against a real server: `transformers serve` with the tiny model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhi.errors import UsageError
from rlhi.models.base import ChatRequest, Sampling
from rlhi.models.factory import check, open_model
from rlhi.models.layers import Meter
from rlhi.models.store import Store
from rlhi.records import ChatMessage
from rlhi.settings import Model

from .served import served
from .tiny import make_tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """Settings for a server that runs."""
    folder = make_tiny_model(tmp_path_factory.mktemp("served"))
    with served(str(folder), folder, folder / "server.log") as url:
        yield Model(backend="openai", model=str(folder), base_url=url, concurrency=4)


def test_requests_are_answered_and_found_again(server: Model, tmp_path: Path) -> None:
    async def main() -> None:
        store, meter = Store(tmp_path / "s.sqlite"), Meter()
        await check(server, store)
        model = open_model(server, store=store, meter=meter, role="policy")
        wanted = [
            ChatRequest(
                model=model.model,
                messages=(ChatMessage(role="user", content=f"question {number}"),),
                sampling=Sampling(max_tokens=5),
                n=n,
            )
            for number, n in enumerate((1, 3, 2))
        ]
        given = await asyncio.gather(*(model.complete(request) for request in wanted))
        await model.close()
        assert [len(answer.choices) for answer in given] == [1, 3, 2]
        assert len({choice.text for choice in given[1].choices}) > 1
        assert all(0 < answer.usage.completion_tokens <= 5 * len(answer.choices) for answer in given)
        assert meter.as_dict()["policy"]["sent"] == 6
        again = open_model(server, store=store, meter=meter, role="again")
        assert [await again.complete(request) for request in wanted] == given
        assert meter.as_dict()["again"]["sent"] == 0
        await again.close()

    asyncio.run(main())


def test_another_model_than_the_served_one_is_said_at_once(server: Model) -> None:
    with pytest.raises(UsageError, match=r"does not serve the model 'nobody/nothing'.*Server is pinned"):
        asyncio.run(check(server.model_copy(update={"model": "nobody/nothing"})))
