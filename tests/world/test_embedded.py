"""The embedded model as it is shipped: small, loadable by transformers alone, and able to answer."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from rlhi.models.base import Sampling
from rlhi.models.transformers import TransformersModel
from rlhi.settings import Model
from rlhi.world import EMBEDDED_PATH
from rlhi.world.corpus import samples
from rlhi.world.probe import measure_policy, measure_roles, probes

MEGABYTES = 1_000_000


pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_small():
    files = [path for path in EMBEDDED_PATH.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 * MEGABYTES
    assert {path.suffix for path in files} <= {".json", ".jinja", ".safetensors", ".md"}


def test_transformers_loads_it_and_the_template_closes_every_turn():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_PATH)
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED_PATH)
    assert model.config.model_type == "llama"
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "¿Qué tal? 😊 1 + 1 = 2"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert tokenizer.decode(ids) == "<|system|>Be kind.<|end|><|user|>¿Qué tal? 😊 1 + 1 = 2<|end|><|assistant|>"


def test_the_tokenizer_reads_the_corpus_without_loss():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_PATH)
    for sample in itertools.islice(samples(99), 40):
        for message in sample.messages:
            assert tokenizer.decode(tokenizer.encode(message.content, add_special_tokens=False)) == message.content


@pytest.mark.slow
def test_it_follows_in_part_and_is_mostly_right():
    async def measure():
        model = TransformersModel(Model(backend="transformers", model="embedded"))
        try:
            asked = probes(60, seed=3)
            policy = await measure_policy(model, asked, Sampling(temperature=0.6, top_p=0.9, max_tokens=160, seed=1))
            return policy, await measure_roles(model, 6, seed=3)
        finally:
            await model.close()

    policy, roles = asyncio.run(measure())
    plain, persona = policy["plain.met"]["mean"], policy["persona.met"]["mean"]
    assert plain + 0.05 < persona < 0.85
    assert policy["persona.right"]["mean"] > 0.7
    assert roles["role.label.valid"]["mean"] >= 0.8
    assert roles["role.rubric.valid"]["mean"] >= 0.8
