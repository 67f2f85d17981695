from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
import torch

from rlhi.errors import StageError, UsageError
from rlhi.settings import Training
from rlhi.training.plan import hold_out, rate_factor, step_batches
from rlhi.training.policy import load_causal, load_tokenizer, prepare
from rlhi.training.step import side_logps
from rlhi.training.steps import PlainStep, TreeStep
from rlhi.training.tokenize import Encoded, Side, encode_all
from rlhi.training.train import train
from tests.training.sample import BOTH, make_conversation, make_pair, make_pairs


def plain(count: int, users: int) -> list[Encoded]:
    return [Encoded(f"pair-{i:03}", f"user-{i % users}", 1.0, (1, 2), (3,), (4,)) for i in range(count)]


def settings_for(model: Path, **changes: object) -> Training:
    base = {"model": str(model), "beta": 0.1, "learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 4}
    return Training.model_validate(base | changes)


def curve_of(out: Path) -> list[dict[str, float]]:
    return [orjson.loads(line) for line in (out / "curve.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_learns_what_is_preferred_and_leaves_a_whole_model(tiny: Path, tmp_path: Path, method: str) -> None:
    ask = [("system", "The user likes water."), ("user", "what to drink?")]
    pairs = [make_pair(ask, f"water {i}", f"sum {i}", user=f"u{i % 4}") for i in range(24)]
    settings = settings_for(tiny, method=method, epochs=3, validation=0.3)
    result = train(pairs, settings, objective="dpo", seed=0, out=tmp_path)
    assert (result.pairs, result.held_out, result.steps) == (18, 6, 9)
    rows = curve_of(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert rows[-1]["accuracy"] == 1.0
    assert result.metrics["validation_loss_before"] == pytest.approx(math.log(2), rel=1e-6)
    assert result.metrics["validation_loss_after"] < 0.5
    assert result.metrics["validation_accuracy_after"] == 1.0
    assert set(rows[0]) == {"step", "loss", "accuracy", "margin", "chosen_reward", "rejected_reward", "lr", "grad_norm"}

    card = (tmp_path / "README.md").read_text()
    assert "18 pairs were trained on" in card
    assert "6 pairs of 1 users were held out" in card
    assert load_tokenizer(str(tiny)).chat_template == (tmp_path / "chat_template.jinja").read_text()
    assert (tmp_path / "generation_config.json").exists()
    encoded, _ = encode_all(pairs[:2], load_tokenizer(str(tiny)), BOTH, 4096)
    before = load_causal(str(tiny), torch.float32).eval()
    if method == "full":
        after = load_causal(str(tmp_path), torch.float32).eval()
    else:
        from peft import PeftModel

        config = orjson.loads((tmp_path / "adapter_config.json").read_bytes())
        assert config["base_model_name_or_path"] == str(tiny)
        after = PeftModel.from_pretrained(load_causal(str(tiny), torch.float32), str(tmp_path)).eval()
    with torch.no_grad():
        old, new = side_logps(before, encoded, BOTH), side_logps(after, encoded, BOTH)
    margins = (new["chosen"] - old["chosen"]) - (new["rejected"] - old["rejected"])
    assert (margins > 1.0).all()


def test_sft_raises_the_likelihood_of_the_chosen_side(tiny: Path, tmp_path: Path) -> None:
    pairs = make_pairs(24, users=6)
    settings = settings_for(tiny, sft_learning_rate=1e-2, learning_rate=1e-9, epochs=2)
    result = train(pairs, settings, objective="sft", seed=0, out=tmp_path)
    assert result.held_out > 0
    assert result.metrics["validation_loss_after"] < result.metrics["validation_loss_before"] - 0.5
    assert set(curve_of(tmp_path)[0]) == {"step", "loss", "lr", "grad_norm"}


def test_bf16_trains_to_about_the_same_loss(tiny: Path, tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        settings = settings_for(tiny, precision=precision, epochs=2)
        losses[precision] = train(make_pairs(16), settings, objective="dpo", seed=0, out=tmp_path / precision).metrics
    assert losses["bf16"]["loss"] != losses["fp32"]["loss"]
    assert losses["bf16"]["loss"] == pytest.approx(losses["fp32"]["loss"], abs=0.1)
    assert load_causal(str(tmp_path / "bf16"), torch.float32).dtype == torch.float32


@pytest.mark.parametrize("method", ["full", "lora"])
def test_checkpointed_activations_change_no_gradient(tiny: Path, method: str) -> None:
    pairs, _ = encode_all(make_pairs(3), load_tokenizer(str(tiny)), BOTH, 4096)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        settings = settings_for(tiny, method=method, gradient_checkpointing=checkpointing)
        model = prepare(load_causal(str(tiny), torch.float32), settings).train()
        side_logps(model, pairs, BOTH)["chosen"].sum().backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_dropout_of_the_model_is_switched_off(tmp_path: Path) -> None:
    from tests.models.tiny import make_tiny_model

    path = make_tiny_model(tmp_path / "gpt2", arch="gpt2")
    model = load_causal(str(path), torch.float32)
    assert max(module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)) == 0.1
    model = prepare(model, settings_for(path)).train()
    pairs, _ = encode_all(make_pairs(3), load_tokenizer(str(path)), BOTH, 4096)
    assert torch.equal(side_logps(model, pairs, BOTH)["chosen"], side_logps(model, pairs, BOTH)["chosen"])


def test_what_is_dropped_is_listed(tiny: Path, tmp_path: Path) -> None:
    pairs = [*make_pairs(5), make_pair([("user", "hm")], "same", "same")]
    long = make_pair([("user", "word " * 2000)], "a", "b")
    result = train([*pairs, long], settings_for(tiny), objective="dpo", seed=0, out=tmp_path)
    assert result.pairs == 5
    assert result.drop_counts() == {"equal_replies": 1, "too_long": 1}
    assert "max_length is 1024" in next(row.detail for row in result.dropped if row.reason == "too_long")
    assert "1 equal_replies, 1 too_long" in (tmp_path / "README.md").read_text()
    assert "No pair was held out: 5 pairs" in result.validation


def test_no_pair_left_is_an_error_that_says_why(tiny: Path, tmp_path: Path) -> None:
    pair = make_pair([("user", "hm")], "same", "same")
    with pytest.raises(StageError, match=f"no pair is left.*equal_replies.*{pair.pair_id}"):
        train([pair], settings_for(tiny), objective="dpo", seed=0, out=tmp_path)


def test_a_loss_that_is_not_finite_ends_the_training(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(*args: Any) -> dict[Side, torch.Tensor]:
        return {side: value * math.inf for side, value in side_logps(*args[1:]).items()}

    monkeypatch.setattr("rlhi.training.steps.TreeStep.side_logps", infinite)
    with pytest.raises(StageError, match="not finite at step 1"):
        train(make_pairs(5), settings_for(tiny), objective="dpo", seed=0, out=tmp_path)


def test_wrong_models_are_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        train(make_pairs(2), settings_for(Path("./nowhere")), objective="dpo", seed=0, out=tmp_path)
    lora = settings_for(tiny, method="lora", lora={"target_modules": ["no_such_layer"]})
    with pytest.raises(UsageError, match="no_such_layer"):
        train(make_pairs(2), lora, objective="dpo", seed=0, out=tmp_path)


def test_the_order_of_pairs_decides_nothing(tiny: Path, tmp_path: Path) -> None:
    pairs = make_pairs(12)
    for name, given in (("a", pairs), ("b", pairs[::-1])):
        train(given, settings_for(tiny), objective="dpo", seed=0, out=tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_whole_users_are_held_out() -> None:
    pairs = plain(100, users=20)
    training, validating, sentence = hold_out(pairs, 0.1, seed=0)
    assert len(validating) == 10
    assert not {pair.user_id for pair in training} & {pair.user_id for pair in validating}
    assert sorted(p.pair_id for p in training + validating) == [p.pair_id for p in pairs]
    assert sentence == "10 pairs of 2 users were held out."
    assert hold_out(pairs, 0.1, seed=0)[1] == validating
    assert any(hold_out(pairs, 0.1, seed=seed)[1] != validating for seed in range(1, 5))


@pytest.mark.parametrize(("count", "users", "share", "held"), [(50, 1, 0.2, 0), (9, 9, 0.2, 0), (50, 5, 0, 0)])
def test_nothing_is_held_out_where_that_makes_no_sense(count: int, users: int, share: float, held: int) -> None:
    training, validating, sentence = hold_out(plain(count, users), share, seed=0)
    assert (len(training), len(validating)) == (count, held)
    assert sentence.startswith("No pair was held out")


def test_few_users_give_one_and_never_all() -> None:
    assert len(hold_out(plain(40, users=4), 0.1, seed=0)[1]) == 10
    assert not hold_out(plain(40, users=2), 0.1, seed=0)[1]
    assert len(hold_out(plain(40, users=4), 0.99, seed=0)[0]) > 0


def test_every_epoch_sees_every_pair_once() -> None:
    pairs = plain(10, users=3)
    batches = step_batches(pairs, Training(batch_size=4, epochs=2.5), seed=1)
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2, 4, 4]
    first, second = ([p.pair_id for batch in part for p in batch] for part in (batches[:3], batches[3:6]))
    assert sorted(first) == sorted(second) == [pair.pair_id for pair in pairs]
    assert first != second


def test_pairs_of_a_conversation_are_in_one_step() -> None:
    pairs = [replace(pair, conversation_id=f"c{i // 4}") for i, pair in enumerate(plain(40, users=1))]
    settings = Training(batch_size=8, epochs=2)
    batches = step_batches(pairs, settings, seed=1)
    for batch in batches:
        assert sorted(Counter(pair.conversation_id for pair in batch).values()) == [4, 4]
    first, second = ([p.pair_id for batch in part for p in batch] for part in (batches[:5], batches[5:]))
    assert sorted(first) == sorted(second) == [pair.pair_id for pair in pairs]
    assert first != second
    # Another user's conversation of the same name is another one; one with more pairs than a step is cut into parts.
    strangers = [replace(pair, conversation_id="c") for pair in plain(40, users=20)]
    assert [len(batch) for batch in step_batches(strangers, settings, seed=1)] == [8] * 10
    assert step_batches(strangers, settings, seed=1) != step_batches(strangers, settings, seed=2)
    one = [replace(pair, conversation_id="c") for pair in plain(40, users=1)]
    assert sorted(p.pair_id for batch in step_batches(one, settings, seed=1)[:5] for p in batch) == [
        pair.pair_id for pair in one
    ]


@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_both_steps_train_to_the_same_weights(tiny: Path, tmp_path: Path, objective: Literal["dpo", "sft"]) -> None:
    pairs = [pair for seed in range(5) for pair in make_conversation(3, seed)]
    found = {}
    for step in ("trees", "plain"):
        settings = settings_for(tiny, step=step, epochs=2, max_tokens_per_pass=400)
        found[step] = train(pairs, settings, objective=objective, seed=0, out=tmp_path / step)
        assert orjson.loads((tmp_path / step / "training.json").read_bytes())["step"] == found[step].step
    assert found["trees"].step.startswith("Shared tokens were computed once (segments)")
    assert found["plain"].step.startswith("Plain step")
    assert found["trees"].step in (tmp_path / "trees" / "README.md").read_text()
    for a, b in zip(curve_of(tmp_path / "trees"), curve_of(tmp_path / "plain"), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)
    assert found["trees"].metrics == pytest.approx(found["plain"].metrics, rel=1e-3, abs=1e-3)


def test_a_model_that_cannot_be_trusted_with_trees_trains_plainly_and_says_so(tmp_path: Path) -> None:
    from tests.models.tiny import make_tiny_model

    path = make_tiny_model(tmp_path / "mistral", arch="mistral")
    config = orjson.loads((path / "config.json").read_bytes())
    (path / "config.json").write_bytes(orjson.dumps(config | {"sliding_window": 32}))
    result = train(make_pairs(5), settings_for(path), objective="dpo", seed=0, out=tmp_path / "auto")
    assert "reaches back 32 tokens" in result.step
    assert "reaches back 32 tokens" in (tmp_path / "auto" / "README.md").read_text()
    with pytest.raises(UsageError, match=r"training.step is `trees`.*reaches back 32 tokens"):
        train(make_pairs(5), settings_for(path, step="trees"), objective="dpo", seed=0, out=tmp_path / "trees")


def test_shortened_pairs_are_counted_and_listed(tiny: Path, tmp_path: Path) -> None:
    pairs = make_conversation(6, words=30)
    settings = settings_for(tiny, max_length=380)
    dropping = train(pairs, settings, objective="dpo", seed=0, out=tmp_path / "drop")
    lost = {row.row for row in dropping.dropped}
    assert (dropping.drop_counts(), dropping.shortened) == ({"too_long": len(lost)}, {})
    cutting = train(
        pairs, settings.model_copy(update={"too_long": "truncate"}), objective="dpo", seed=0, out=tmp_path / "cut"
    )
    assert not cutting.dropped
    assert cutting.shortened.keys() == {pair.pair_id for pair in pairs if pair.key in lost}
    assert all(count % 2 == 0 and count > 0 for count in cutting.shortened.values())
    assert f"Shortened: {len(lost)}." in (tmp_path / "cut" / "README.md").read_text()


def test_processes_share_the_pairs_of_a_step_and_keep_conversations_together() -> None:
    pairs = [
        Encoded(f"{c}-{i}", "u", 1.0, (c,) * 20 + (7,) * i, (8, i), (9, i), f"c{c}") for i in range(4) for c in range(6)
    ]
    for step in (PlainStep(4), TreeStep(4096, "segments", True)):
        for world in (1, 2, 3, 5):
            parts = [step.share(pairs, BOTH, world, rank) for rank in range(world)]
            assert sorted(p.pair_id for part in parts for p in part) == sorted(pair.pair_id for pair in pairs)
            assert max(map(len, parts)) - min(map(len, parts)) <= 2
    halves = [TreeStep(4096, "segments", True).share(pairs, BOTH, 2, rank) for rank in (0, 1)]
    assert not {p.conversation_id for p in halves[0]} & {p.conversation_id for p in halves[1]}


def test_learning_rate_rises_and_falls() -> None:
    linear = [rate_factor(step, 10, Training(warmup_ratio=0.2)) for step in range(10)]
    assert linear[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert linear[9] == pytest.approx(1 / 8)
    cosine = [rate_factor(step, 4, Training(warmup_ratio=0, schedule="cosine")) for step in range(4)]
    assert cosine == pytest.approx([1.0, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.5 - math.sqrt(0.5) / 2])
    assert rate_factor(9, 10, Training(warmup_ratio=0, schedule="constant")) == 1.0


def test_the_first_step_takes_the_warm_up_rate(tiny: Path, tmp_path: Path) -> None:
    train(make_pairs(16), settings_for(tiny, warmup_ratio=0.5, epochs=2), objective="dpo", seed=0, out=tmp_path)
    rates = [row["lr"] for row in curve_of(tmp_path)]
    assert rates == pytest.approx([3e-3 / 3, 3e-3 * 2 / 3, 3e-3, 3e-3 / 2])


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, rlhi, rlhi.training; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
