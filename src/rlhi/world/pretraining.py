"""Trains the embedded model from scratch: tokenizer, a small Llama, and its folder as `transformers` loads it."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import orjson

from rlhi.world.corpus import CARDS, CRAFT, DRILL, DUTY, LIFE, SCHOOL, SUMS, WORK, Sample, samples

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Phase:
    """A stretch of the training."""

    lesson: Literal["life", "school", "drill", "cards", "sums", "duty", "work", "craft"]
    """What is taught; see `rlhi.world.corpus`."""
    steps: int
    """Optimizer steps."""
    learning_rate: float
    """At its begin; it follows a cosine to a twentieth of that over `horizon` steps."""
    horizon: int
    """Steps over which the cosine runs; where it is longer than the phase, the phase ends before the cosine does."""
    warmup: int = 0
    """Steps of linear warm-up before the cosine."""


@dataclass(frozen=True)
class Plan:
    """Everything that the embedded model depends on."""

    seed: int = 20250
    """Of the corpus, the weights and the order of batches."""
    vocabulary: int = 3000
    """Tokens, special ones included."""
    tokenizer_samples: int = 12000
    """Chats that the tokenizer is trained on."""
    width: int = 256
    layers: int = 5
    ffn: int = 704
    heads: int = 4
    kv_heads: int = 2
    context: int = 1536
    """Most positions, in tokens."""
    longest: int = 640
    """Longest chat learnt, in tokens; longer ones are left out."""
    batch: int = 4096
    """Tokens of a step, padding included."""
    weight_decay: float = 0.05
    phases: tuple[Phase, ...] = (
        Phase("life", steps=1600, learning_rate=3e-3, horizon=2441, warmup=100),
        Phase("school", steps=1400, learning_rate=2e-3, horizon=2000, warmup=50),
        Phase("life", steps=200, learning_rate=1e-3, horizon=500),
        Phase("drill", steps=1000, learning_rate=2e-3, horizon=1700, warmup=30),
        Phase("cards", steps=1000, learning_rate=2e-3, horizon=1500, warmup=30),
        Phase("cards", steps=500, learning_rate=1.4e-3, horizon=900),
        Phase("life", steps=100, learning_rate=1e-3, horizon=600),
        Phase("sums", steps=600, learning_rate=1.6e-3, horizon=900, warmup=20),
        Phase("life", steps=600, learning_rate=1e-3, horizon=600),
        Phase("duty", steps=600, learning_rate=1e-3, horizon=600, warmup=20),
        Phase("work", steps=1200, learning_rate=1e-3, horizon=1200, warmup=20),
        Phase("craft", steps=1400, learning_rate=1.2e-3, horizon=1400, warmup=20),
    )
    """Facts and forms first; then what the words of users mean; then how the finished model is to behave."""

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return sum(phase.steps for phase in self.phases)


def train_tokenizer(plan: Plan) -> Any:
    """A byte-level BPE tokenizer of the corpus, digits one by one, with the chat template. A transformers tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|\n| ?[^\s\w]+| ?[^\W\d]+|\s+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=plan.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    chats = itertools.islice(samples(plan.seed + 1), plan.tokenizer_samples)
    core.train_from_iterator((m.content for chat in chats for m in chat.messages), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=plan.context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def encode(sample: Sample, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """Token ids of a chat as the chat template writes it, and which of them are learnt."""
    ids: list[int] = []
    learnt: list[bool] = []
    end = tokenizer.convert_tokens_to_ids(SPECIAL[1])
    for place, message in enumerate(sample.messages):
        body = tokenizer.encode(message.content, add_special_tokens=False)
        trained = message.role == "assistant" and (not sample.last_only or place == len(sample.messages) - 1)
        ids += [tokenizer.convert_tokens_to_ids(f"<|{message.role}|>"), *body, end]
        learnt += [False, *[trained] * (len(body) + 1)]
    return ids, learnt


Row = tuple[list[int], list[bool]]


def batches(plan: Plan, tokenizer: Any, start: int = 0) -> Iterator[list[Row]]:
    """The plan's batches from step `start` on: at most `plan.batch` tokens, padding included, lengths alike."""
    for number, phase in enumerate(plan.phases):
        if start < phase.steps:
            source = _phase_batches(plan, plan.seed + 1000 * number, phase, tokenizer)
            yield from itertools.islice(source, start, phase.steps)
        start = max(0, start - phase.steps)


def _phase_batches(plan: Plan, seed: int, phase: Phase, tokenizer: Any) -> Iterator[list[Row]]:
    rng = Random(seed)
    lesson = {
        "life": LIFE,
        "school": SCHOOL,
        "drill": DRILL,
        "cards": CARDS,
        "sums": SUMS,
        "duty": DUTY,
        "work": WORK,
        "craft": CRAFT,
    }[phase.lesson]
    source = (row for row in (encode(s, tokenizer) for s in samples(seed, lesson)) if len(row[0]) <= plan.longest)
    while True:
        pool = sorted(itertools.islice(source, 1500), key=lambda row: len(row[0]))
        made: list[list[Row]] = [[]]
        for row in pool:
            if (len(made[-1]) + 1) * len(row[0]) > plan.batch:
                made.append([])
            made[-1].append(row)
        rng.shuffle(made)
        yield from made


def make_model(plan: Plan, tokenizer: Any) -> Any:
    """A fresh Llama with random weights from the plan's seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=plan.width,
        intermediate_size=plan.ffn,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        num_key_value_heads=plan.kv_heads,
        head_dim=plan.width // plan.heads,
        max_position_embeddings=plan.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batch_loss(model: Any, rows: list[Row], pad: int) -> tuple[Any, int]:
    """Mean cross-entropy, in nats, of the learnt tokens of a batch, and how many there are."""
    import torch
    from torch.nn.functional import cross_entropy

    width = max(len(ids) for ids, _ in rows)
    ids_BT = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids, _ in rows])
    learnt_BT = torch.tensor([[*learnt, *[False] * (width - len(learnt))] for _, learnt in rows])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
        picked = learnt_BT[:, 1:]
        logits_NV = model.lm_head(hidden_BTD[:, :-1][picked])
    return cross_entropy(logits_NV.float(), ids_BT[:, 1:][picked]), int(picked.sum())


def rate(plan: Plan, step: int) -> float:
    """Learning rate at a step: in each phase linear warm-up, then a cosine to a twentieth. Raises `IndexError`."""
    place = step
    for phase in plan.phases:
        if place < phase.steps:
            if place < phase.warmup:
                return phase.learning_rate * (place + 1) / phase.warmup
            done = (place - phase.warmup) / (phase.horizon - phase.warmup)
            return phase.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
        place -= phase.steps
    raise IndexError(f"step {step} lies behind the plan's {plan.steps} steps")


def train(plan: Plan, out: Path, log: Callable[[str], None], save_every: int = 200) -> None:
    """Train as `plan` says, go on where `out/checkpoint` stands, and write the model into `out`.

    Raises `ValueError` where the checkpoint was made by another plan.
    """
    import torch

    tokenizer = train_tokenizer(plan)
    model = make_model(plan, tokenizer)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=rate(plan, 0),
        betas=(0.9, 0.95),
    )
    start = _restore(out / "checkpoint", plan, model, optimizer)
    log(f"{sum(p.numel() for p in model.parameters()):,} parameters, {plan.steps} steps, from step {start}")
    model.train()
    began, seen, running = time.monotonic(), 0, 0.0
    for step, rows in enumerate(batches(plan, tokenizer, start), start):
        for group in optimizer.param_groups:
            group["lr"] = rate(plan, step)
        loss, _ = batch_loss(model, rows, tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += sum(len(ids) for ids, _ in rows)
        running = loss.item() if not running else 0.95 * running + 0.05 * loss.item()
        if (step + 1) % 20 == 0:
            speed = seen / (time.monotonic() - began)
            log(f"step {step + 1}/{plan.steps} loss {running:.4f} {speed:.0f} tokens/s")
        if (step + 1) % save_every == 0:
            _checkpoint(out / "checkpoint", plan, model, optimizer, step + 1)
            export(model, tokenizer, out)
    export(model, tokenizer, out)


def export(model: Any, tokenizer: Any, out: Path) -> None:
    """Write the model in bfloat16, its configuration and its tokenizer into `out`."""
    import copy

    import torch
    from transformers import GenerationConfig

    out.mkdir(parents=True, exist_ok=True)
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        max_new_tokens=160,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    half.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _checkpoint(folder: Path, plan: Plan, model: Any, optimizer: Any, step: int) -> None:
    """Write weights and optimizer state, the small file that makes them valid last."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {f"model.{name}": p.detach().clone() for name, p in model.named_parameters()}
    for place, values in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{place}.{name}": value.detach().clone().float() for name, value in values.items()}
    save_file(state, folder / f"{step}.safetensors")
    (folder / "state.json").write_bytes(orjson.dumps({"step": step, "plan": plan}))
    for old in folder.glob("*.safetensors"):
        if old.stem != str(step):
            old.unlink()


def _restore(folder: Path, plan: Plan, model: Any, optimizer: Any) -> int:
    """Load the checkpoint, if there is one, and return the steps done."""
    import torch
    from safetensors.torch import load_file

    if not (folder / "state.json").exists():
        return 0
    state = orjson.loads((folder / "state.json").read_bytes())
    if state["plan"] != orjson.loads(orjson.dumps(plan)):
        raise ValueError(f"{folder} holds a checkpoint of another plan, {state['plan']}; remove it or use its settings")
    tensors = load_file(folder / f"{state['step']}.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            place, _, moment = rest.partition(".")
            moments.setdefault(int(place), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    done: int = state["step"]
    return done
