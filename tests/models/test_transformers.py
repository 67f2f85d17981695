from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhi.errors import UsageError
from rlhi.models import placement, weights
from rlhi.models import transformers as in_process
from rlhi.models.base import ChatRequest, Completion, ModelError, Sampling, ScoreAnswer, ScoreRequest
from rlhi.models.decoding import Row, bucket, log_likelihoods, write
from rlhi.models.factory import identify, open_model
from rlhi.models.layers import Meter
from rlhi.models.store import Store
from rlhi.models.tokenizer import load_tokenizer
from rlhi.models.transformers import TransformersModel
from rlhi.records import ChatMessage
from rlhi.settings import Model
from rlhi.training.policy import load_causal

from .tiny import make_tiny_model

ARCHITECTURES = ("llama", "qwen2", "gpt2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {arch: make_tiny_model(tmp_path_factory.mktemp(arch), arch) for arch in ARCHITECTURES}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """One thread, and no engine left behind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    in_process._free_idle()
    assert not in_process._loaded


def settings(folder: Path, **changes: Any) -> Model:
    return Model.model_validate({"backend": "transformers", "model": str(folder), "batch_size": 32, **changes})


def chat(*contents: str) -> tuple[ChatMessage, ...]:
    roles = ("user", "assistant")
    return tuple(ChatMessage.model_validate({"role": roles[i % 2], "content": c}) for i, c in enumerate(contents))


def answers(config: Model, requests: list[ChatRequest]) -> list[Completion]:
    async def main() -> list[Completion]:
        model = TransformersModel(config)
        try:
            return await asyncio.gather(*(model.complete(request) for request in requests))
        finally:
            await model.close()

    return asyncio.run(main())


def scores(config: Model, requests: list[ScoreRequest]) -> list[ScoreAnswer]:
    async def main() -> list[ScoreAnswer]:
        model = TransformersModel(config)
        try:
            return await asyncio.gather(*(model.score(request) for request in requests))
        finally:
            await model.close()

    return asyncio.run(main())


def requests(count: int, seed: int = 0) -> list[ChatRequest]:
    rng = random.Random(seed)
    return [
        ChatRequest(
            model="m",
            messages=chat(" ".join(rng.choices(["sum", "é", "answer", "12", "plain\n"], k=rng.randint(1, 60)))),
            sampling=Sampling(
                temperature=rng.choice([0.0, 0.7, 1.0]),
                top_p=rng.choice([0.5, 0.9, 1.0]),
                max_tokens=rng.randint(1, 16),
                seed=number,
            ),
            n=rng.choice([1, 1, 2, 5]),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_answers_do_not_depend_on_company(folders: dict[str, Path], arch: str) -> None:
    config, wanted = settings(folders[arch]), requests(12)
    together = answers(config, wanted)
    in_process._free_idle()
    torch.set_num_threads(2)  # from here on with two workers
    alone = [answers(config, [request])[0] for request in wanted]
    assert alone == together
    company = [*requests(20, seed=1), *wanted]
    random.Random(2).shuffle(company)
    crowded = dict(zip((request.key for request in company), answers(config, company), strict=True))
    assert [crowded[request.key] for request in wanted] == together
    assert len({choice.text for answer in together for choice in answer.choices}) > 20


def captured_logits(model: Any, rows: list[Row], size: int, place: int) -> torch.Tensor:
    """What the model says at each step for one row of a batch, bit by bit."""
    seen: list[torch.Tensor] = []
    forward = model.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        if len(out.logits) == size:
            seen.append(out.logits[place, -1].clone())
        return out

    model.forward = spy
    try:
        write(model, rows, size, frozenset())
    finally:
        model.forward = forward
    return torch.stack(seen)


def test_numbers_are_equal_bit_by_bit_at_every_place_of_a_batch(folders: dict[str, Path]) -> None:
    model, size = AutoModelForCausalLM.from_pretrained(folders["llama"]).eval(), 32
    rng = np.random.default_rng(0)

    def row(length: int, steps: int = 10) -> Row:
        return Row(tuple(rng.integers(3, 300, length).tolist()), steps, 1.0, 1.0, rng.random(steps))

    wanted = row(40)
    first = None
    for place in (0, 1, 7, 15, 16, 30, 31):
        others = [row(int(rng.integers(32, 48)), int(rng.integers(1, 10))) for _ in range(size)]
        rows = [*others[:place], Row(wanted.prompt, 10, 1.0, 1.0, wanted.uniforms)]
        rows += others[: int(rng.integers(0, size - place))]
        logits = captured_logits(model, rows, size, place)[:9]
        first = logits if first is None else first
        assert torch.equal(logits, first)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_greedy_answers_equal_those_of_generate(folders: dict[str, Path], arch: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[arch])
    model = AutoModelForCausalLM.from_pretrained(folders[arch]).eval()
    wanted = [
        ChatRequest(model="m", messages=chat(*talk), sampling=Sampling(temperature=0, max_tokens=20))
        for talk in (("Hello",), ("What is the sum of 12 and 30?", "42", "plain " * 30))
    ]
    for request, answer in zip(wanted, answers(settings(folders[arch]), wanted), strict=True):
        messages = [message.model_dump() for message in request.messages]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)[
            0, ids.shape[1] :
        ]
        assert answer.text == tokenizer.decode(out, skip_special_tokens=True).replace("\0", "")
        assert answer.usage.prompt_tokens == ids.shape[1]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_likelihoods_equal_those_of_one_plain_pass(folders: dict[str, Path], arch: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders[arch])
    model = AutoModelForCausalLM.from_pretrained(folders[arch]).eval()
    replies = ("an answer", "", "another, longer answer in plain words é", "x")
    asked = ScoreRequest(model="m", messages=chat("Hello, what is the sum?"), replies=replies)
    answer = scores(settings(folders[arch]), [asked])[0]
    messages = [message.model_dump() for message in asked.messages]
    start = len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])
    for reply, value, tokens in zip(replies, answer.log_likelihoods, answer.tokens, strict=True):
        whole = [*messages, {"role": "assistant", "content": reply}]
        ids = tokenizer.apply_chat_template(whole, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            chances = torch.log_softmax(model(ids).logits[0].double(), -1)
        expected = sum(float(chances[at - 1, ids[0, at]]) for at in range(start, ids.shape[1]))
        assert tokens == ids.shape[1] - start
        assert value == pytest.approx(expected, abs=1e-3)


def test_likelihoods_do_not_depend_on_company(folders: dict[str, Path]) -> None:
    rng = random.Random(0)
    wanted = [
        ScoreRequest(
            model="m",
            messages=chat("question " * rng.randint(1, 40)),
            replies=tuple("word " * rng.randint(0, 30) for _ in range(rng.randint(1, 6))),
        )
        for _ in range(10)
    ]
    config = settings(folders["llama"])
    together = scores(config, wanted)
    shuffled = wanted[::-1]
    assert scores(config, shuffled)[::-1] == together
    assert [scores(config, [one])[0] for one in wanted[:4]] == together[:4]


def test_portions_of_replies_give_the_same_sums(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders["llama"]).eval()
    prompt, replies = (5, 6, 7), [[9] * length for length in (3, 0, 1, 8, 2)]
    whole = log_likelihoods(model, prompt, replies, 32)
    monkeypatch.setattr("rlhi.models.decoding.LOGITS_AT_ONCE", 1)
    assert log_likelihoods(model, prompt, replies, 32) == pytest.approx(whole, abs=1e-4)


def test_samples_follow_the_models_own_chances(folders: dict[str, Path]) -> None:
    """Frequencies of the first token over 4000 samples, against the softmax computed apart."""
    tokenizer = AutoTokenizer.from_pretrained(folders["llama"])
    model = AutoModelForCausalLM.from_pretrained(folders["llama"]).eval()
    prompt = tuple(
        tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)["input_ids"]
    )
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    rng, count = np.random.default_rng(0), 4000
    for temperature, top_p in ((1.0, 1.0), (0.7, 0.6)):
        chances = torch.softmax(logits / temperature, -1)
        order = chances.argsort(descending=True)
        kept = order[: int((chances[order].cumsum(0) < top_p).sum()) + 1] if top_p < 1 else order
        expected = torch.zeros_like(chances)
        expected[kept] = chances[kept] / chances[kept].sum()
        rows = [Row(prompt, 1, temperature, top_p, rng.random(1)) for _ in range(count)]
        write(model, rows, count, frozenset())
        seen = torch.bincount(torch.tensor([row.tokens[0] for row in rows]), minlength=len(chances)) / count
        assert float(seen[expected == 0].sum()) == 0
        error = (expected * (1 - expected) / count).sqrt()
        assert bool(((seen - expected).abs() <= 5 * error + 1e-9).all())


def test_an_answer_ends_at_the_end_of_turn(folders: dict[str, Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders["llama"]).eval()
    row = Row((5, 6, 7), 50, 0.0, 1.0, np.zeros(50))
    write(model, [row], 32, frozenset())
    assert (len(row.tokens), row.finish) == (50, "length")
    stop = row.tokens[4]
    first = row.tokens.index(stop)
    again = Row((5, 6, 7), 50, 0.0, 1.0, np.zeros(50))
    write(model, [again], 32, frozenset({stop}))
    assert (again.tokens, again.finish) == (row.tokens[:first], "stop")


@pytest.mark.parametrize("length", [1, 31, 32, 47, 48, 63, 64, 100, 1000, 5000])
def test_a_bucket_leaves_room_and_wastes_at_most_half(length: int) -> None:
    assert length < bucket(length) <= max(32, 1.5 * (length + 1))


def test_weights_are_read_once_and_only_when_needed(folders: dict[str, Path], tmp_path: Path) -> None:
    async def main() -> None:
        store, meter = Store(tmp_path / "s.sqlite"), Meter()
        policy, judge = (open_model(settings(folders["llama"]), store=store, meter=meter, role=r) for r in ("a", "b"))
        request = ChatRequest(model=policy.model, messages=chat("Hi"), sampling=Sampling(max_tokens=3))
        assert not in_process._loaded
        first = await policy.complete(request)
        assert await judge.complete(request) == first
        await judge.score(ScoreRequest(model=judge.model, messages=chat("Hi"), replies=("a",)))
        assert len(in_process._loaded) == 1
        assert meter.as_dict()["b"]["cached"] == 1
        await policy.close()
        await judge.close()

    asyncio.run(main())


def test_new_weights_in_the_same_place_are_another_model(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "m", seed=0)
    before = identify(settings(folder))
    assert identify(settings(folder, dtype="bfloat16")) != before
    copy = shutil.copytree(folder, tmp_path / "copy" / "m")
    assert identify(settings(copy)) == before
    make_tiny_model(folder, seed=1)
    assert identify(settings(folder)) != before
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert identify(settings(copy)) != before


def test_a_wrong_name_is_said_at_once(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    no_weights = shutil.copytree(folders["llama"], tmp_path / "a", ignore=shutil.ignore_patterns("*.safetensors"))
    no_config = shutil.copytree(folders["llama"], tmp_path / "b", ignore=shutil.ignore_patterns("config.json"))
    no_template = shutil.copytree(folders["llama"], tmp_path / "c", ignore=shutil.ignore_patterns("*.jinja"))
    for name, words in (
        (tmp_path / "missing", "there is no model at .*missing"),
        (folders["llama"] / "config.json", "is not a folder"),
        (no_weights, r"no \*\.safetensors"),
        (no_config, r"config\.json is missing"),
        (no_template, "no chat template"),
        (Path("nobody/no-such-model"), "'nobody/no-such-model' is no folder here"),
    ):
        with pytest.raises(UsageError, match=words):
            identify(settings(name))


def test_broken_weights_are_said_when_they_are_read(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    with pytest.raises(UsageError, match="cannot load the model in"):
        answers(settings(folder), [ChatRequest(model="m", messages=chat("Hi"))])


def test_a_chat_that_is_too_long_is_said_to_be(folders: dict[str, Path]) -> None:
    long = ChatRequest(model="m", messages=chat("word " * 3000))
    with pytest.raises(ModelError, match=r"context too long: the prompt is \d+ tokens, the model reads 1024"):
        answers(settings(folders["llama"]), [long])
    with pytest.raises(ModelError, match="context too long"):
        scores(settings(folders["llama"]), [ScoreRequest(model="m", messages=chat("a"), replies=("word " * 3000,))])
    near = ChatRequest(model="m", messages=chat("é" * 495), sampling=Sampling(max_tokens=5000))
    answer = answers(settings(folders["llama"]), [near])[0]
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 1024


def test_a_row_at_the_end_of_the_context_does_not_stop_the_others(folders: dict[str, Path]) -> None:
    """GPT-2 has no position beyond its last; a row that is full is run on in the batch with one that is not."""
    full = ChatRequest(model="m", messages=chat("é" * 500), sampling=Sampling(max_tokens=5000))
    other = ChatRequest(model="m", messages=chat("é" * 400), sampling=Sampling(max_tokens=100))
    together = answers(settings(folders["gpt2"]), [full, other])
    assert together == [answers(settings(folders["gpt2"]), [one])[0] for one in (full, other)]
    assert together[0].usage.prompt_tokens + together[0].usage.completion_tokens == 1024
    assert together[1].usage.completion_tokens > 24


def test_an_adapter_is_its_base_with_the_adapter_applied(tmp_path: Path, folders: dict[str, Path]) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(folders["llama"])
    torch.manual_seed(0)
    wrapped = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    wrapped.save_pretrained(tmp_path / "adapter")
    adapted = settings(tmp_path / "adapter")
    asked = ScoreRequest(model="m", messages=chat("Hi"), replies=("an answer",))
    got = scores(adapted, [asked])[0].log_likelihoods[0]
    merged = wrapped.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(folders["llama"]).save_pretrained(tmp_path / "merged")
    assert got == pytest.approx(scores(settings(tmp_path / "merged"), [asked])[0].log_likelihoods[0], abs=1e-3)
    assert got != pytest.approx(scores(settings(folders["llama"]), [asked])[0].log_likelihoods[0], abs=1e-3)


def test_a_name_tells_the_real_precision(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of a CPU and of a GPU must not be taken for each other's because both say `auto`."""
    folder = folders["llama"]
    monkeypatch.setattr(placement, "has_gpu", lambda: False)
    on_cpu = identify(settings(folder))
    assert on_cpu == identify(settings(folder, dtype="float32")) == identify(settings(folder, device="cpu"))
    assert "+" not in on_cpu
    monkeypatch.setattr(placement, "has_gpu", lambda: True)
    on_gpu = identify(settings(folder))
    assert on_gpu == f"{on_cpu}+bfloat16" == identify(settings(folder, dtype="bfloat16", device="cpu"))
    assert identify(settings(folder, device="cpu")) == on_cpu
    assert placement.placement(settings(folder)) == ("cuda", "bfloat16")


def test_the_length_of_the_context_is_read_without_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    assert [weights.context_length(folders[arch]) for arch in ARCHITECTURES] == [1024, 1024, 1024]
    (tmp_path / "config.json").write_text('{"text_config": {"max_position_embeddings": 77}}')
    assert weights.context_length(tmp_path) == 77
    (tmp_path / "config.json").write_text("{}")
    assert weights.context_length(tmp_path) is None


CODE = {"auto_map": {"AutoTokenizer": ["code.Own", None], "AutoModelForCausalLM": "code.Own"}}


@pytest.mark.parametrize("load", [load_tokenizer, lambda folder: load_causal(str(folder), torch.float32)])
def test_code_of_a_model_is_neither_run_nor_asked_for(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tiny_model(tmp_path / "m")
    (folder / "code.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    for name in ("config.json", "tokenizer_config.json"):
        given = json.loads((folder / name).read_text()) | CODE | {"model_type": "own", "tokenizer_class": "Own"}
        (folder / name).write_text(json.dumps(given))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked for consent"))
    with pytest.raises(UsageError, match="load"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_opening_a_model_imports_nothing_heavy(folders: dict[str, Path]) -> None:
    code = (
        "import sys; from rlhi.settings import Model; from rlhi.models.factory import identify; "
        f"identify(Model(backend='transformers', model={str(folders['llama'])!r})); "
        "print(sorted({'torch', 'transformers', 'ray', 'aiohttp'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert out.stdout.strip() == "[]"
