from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhi.errors import UsageError
from rlhi.models.base import ChatRequest, ModelError, ScoreAnswer, ScoreRequest
from rlhi.models.classifier import ClassifierModel
from rlhi.models.factory import open_model
from rlhi.models.layers import Meter
from rlhi.models.store import Store
from rlhi.records import ChatMessage
from rlhi.rewards.classifier import ClassifierReward
from rlhi.settings import Model

from .tiny import make_tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def make_reward_model(folder: Path, arch: str = "llama", **changes: Any) -> Path:
    make_tiny_model(folder, arch)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **changes)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(tmp_path_factory.mktemp("reward"))


def settings(folder: Path, **changes: Any) -> Model:
    return Model.model_validate({"backend": "classifier", "model": str(folder), **changes})


def ask(config: Model, requests: list[ScoreRequest]) -> list[ScoreAnswer]:
    async def main() -> list[ScoreAnswer]:
        model = ClassifierModel(config)
        try:
            return list(await asyncio.gather(*(model.score(request) for request in requests)))
        finally:
            await model.close()

    return asyncio.run(main())


def request(seed: int) -> ScoreRequest:
    stream = random.Random(seed)

    def text() -> str:
        return " ".join(stream.choices(["sum", "answer", "12", "plain", "é"], k=stream.randint(1, 20)))

    messages = (ChatMessage(role="system", content=text()), ChatMessage(role="user", content=text()))
    return ScoreRequest(model="m", messages=messages, replies=tuple(text() for _ in range(stream.randint(1, 7))))


def by_hand(folder: Path, asked: ScoreRequest) -> list[float]:
    """The model's own forward pass over each whole chat."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    found = []
    for reply in asked.replies:
        chat = [*(message.model_dump() for message in asked.messages), {"role": "assistant", "content": reply}]
        ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.no_grad():
            found.append(float(model(ids).logits[0, 0]))
    return found


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_rewards_equal_those_of_each_chat_alone(tmp_path: Path, arch: str) -> None:
    folder = make_reward_model(tmp_path / arch, arch)
    for asked in (request(1), request(2)):
        (answer,) = ask(settings(folder), [asked])
        wanted = by_hand(folder, asked)
        assert answer.rewards == pytest.approx(wanted, abs=1e-4)
        assert len(set(answer.rewards)) == len(set(asked.replies))
        assert answer.log_likelihoods == ()


def test_a_window_that_is_too_short_for_trees_still_gives_the_same_rewards(tmp_path: Path) -> None:
    folder = make_reward_model(tmp_path / "mistral", "mistral", sliding_window=16)
    asked = request(3)
    assert ask(settings(folder), [asked])[0].rewards == pytest.approx(by_hand(folder, asked), abs=1e-4)


def test_rewards_do_not_depend_on_company_or_batch(folder: Path) -> None:
    wanted = [request(seed) for seed in range(8)]
    together = ask(settings(folder), wanted)
    assert [ask(settings(folder), [asked])[0] for asked in wanted] == together
    torch.set_num_threads(2)
    turned = ask(settings(folder), wanted[::-1])
    torch.set_num_threads(1)
    assert turned[::-1] == together
    small = ask(settings(folder, batch_size=1), wanted)
    for a, b in zip(small, together, strict=True):
        assert a.rewards == pytest.approx(b.rewards, abs=1e-4)


def test_it_is_a_reward_with_its_layers(folder: Path, tmp_path: Path) -> None:
    async def main() -> tuple[list[float | None], list[float | None]]:
        model = open_model(settings(folder), store=Store(tmp_path / "store.sqlite"), meter=Meter(), role="reward")
        reward = ClassifierReward(model)
        assert reward.name.startswith("classifier(")
        context = [ChatMessage(role="user", content="what is the sum?")]
        try:
            known = await reward.score(context, ["12", "plain answer"], ["Prefers plain answers."])
            assert known == await reward.score(context, ["12", "plain answer"], ["Prefers plain answers."])
            return known, await reward.score(context, ["12", "plain answer"], [])
        finally:
            await model.close()

    known, unknown = asyncio.run(main())
    assert len(known) == len(unknown) == 2
    assert known != unknown


def test_what_is_no_reward_model_is_named(folder: Path, tmp_path: Path) -> None:
    plain = make_tiny_model(tmp_path / "plain")
    with pytest.raises(UsageError, match=r"no reward model.*score.weight"):
        ask(settings(plain), [request(0)])
    labels = tmp_path / "labels"
    make_tiny_model(labels)
    AutoModelForSequenceClassification.from_pretrained(labels, num_labels=3).save_pretrained(labels)
    with pytest.raises(UsageError, match="has 3 labels"):
        ask(settings(labels), [request(0)])

    async def chat() -> None:
        await ClassifierModel(settings(folder)).complete(ChatRequest(model="m", messages=request(0).messages))

    with pytest.raises(ModelError, match=r"roles\.reward"):
        asyncio.run(chat())


def test_a_chat_that_is_too_long_is_refused(folder: Path) -> None:
    asked = request(0).model_copy(update={"replies": ("plain " * 1000,)})
    with pytest.raises(ModelError, match="context too long"):
        ask(settings(folder), [asked])
