"""Pretraining, small: the template, the loss, and a resume that changes nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from rlhi.world.corpus import samples
from rlhi.world.pretraining import Phase, Plan, batch_loss, batches, encode, make_model, rate, train, train_tokenizer

PHASES = (
    Phase("life", steps=3, learning_rate=1e-3, horizon=8, warmup=2),
    Phase("school", steps=2, learning_rate=5e-4, horizon=4),
    Phase("life", steps=2, learning_rate=2e-4, horizon=2),
)
TINY = Plan(
    vocabulary=400, tokenizer_samples=60, width=32, layers=1, ffn=64, heads=2, kv_heads=1, batch=2048, phases=PHASES
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TINY)


def test_chats_are_encoded_as_the_template_writes_them(tokenizer):
    for sample in itertools.islice(samples(8), 30):
        chat = [message.model_dump() for message in sample.messages]
        ids, learnt = encode(sample, tokenizer)
        assert ids == tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
        opened = tokenizer.apply_chat_template(chat[:-1], tokenize=True, add_generation_prompt=True, return_dict=False)
        assert ids[: len(opened)] == opened
        assert learnt[len(opened) :] == [True] * (len(ids) - len(opened))
        assert tokenizer.decode(ids[len(opened) : -1]) == chat[-1]["content"]


def test_batches_hold_their_size_and_longest_chat(tokenizer):
    for rows in batches(TINY, tokenizer):
        width = max(len(ids) for ids, _ in rows)
        assert width <= TINY.longest
        assert width * len(rows) <= TINY.batch


def test_the_loss_is_the_mean_over_learnt_tokens(tokenizer):
    model = make_model(TINY, tokenizer)
    rows = next(batches(TINY, tokenizer))[:2]
    loss, learnt = batch_loss(model, rows, tokenizer.pad_token_id)
    total = count = 0.0
    for ids, mask in rows:
        with torch.no_grad():
            chances_TV = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(chances_TV[place - 1, ids[place]]) for place in range(1, len(ids)) if mask[place])
        count += sum(mask)
    assert learnt == count
    assert float(loss.detach()) == pytest.approx(total / count, rel=2e-2)


def test_the_rate_warms_up_and_falls_in_each_phase():
    assert rate(TINY, 0) == pytest.approx(1e-3 / 2)
    assert rate(TINY, 1) == rate(TINY, 2) == pytest.approx(1e-3)
    assert rate(TINY, 3) == pytest.approx(5e-4)
    assert rate(TINY, 4) == pytest.approx(5e-4 * (0.05 + 0.475 * (1 + math.cos(math.pi / 4))))
    assert rate(TINY, 5) == pytest.approx(2e-4)
    with pytest.raises(IndexError, match="7 steps"):
        rate(TINY, 7)


def test_a_plan_has_as_many_batches_as_steps(tokenizer):
    assert len(list(batches(TINY, tokenizer))) == TINY.steps == 7


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_resumed_training_ends_where_a_straight_one_ends(tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(TINY, straight, lambda line: None)

    train(TINY, broken, lambda line: None, save_every=4)
    (broken / "model.safetensors").unlink()
    train(TINY, broken, lambda line: None, save_every=4)
    assert weights(broken) == weights(straight)
    with pytest.raises(ValueError, match="another plan"):
        train(replace(TINY, seed=1), broken, lambda line: None)
