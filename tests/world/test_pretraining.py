"""Pretraining, small: the template, the loss, and a resume that changes nothing."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from rlhi.world.corpus import samples
from rlhi.world.pretraining import Plan, batch_loss, batches, encode, make_model, rate, train, train_tokenizer

TINY = Plan(
    vocabulary=400, tokenizer_samples=60, width=32, layers=1, ffn=64, heads=2, kv_heads=1, tokens=2048 * 6, batch=2048
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
    for rows in itertools.islice(batches(TINY, tokenizer), 20):
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


def test_the_rate_warms_up_and_ends_at_a_twentieth():
    plan = Plan()
    assert rate(plan, 0) == pytest.approx(plan.learning_rate / plan.warmup)
    assert rate(plan, plan.warmup) == pytest.approx(plan.learning_rate)
    assert rate(plan, plan.steps) == pytest.approx(plan.learning_rate / 20)
    assert all(math.isfinite(rate(plan, step)) for step in range(plan.steps))


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
