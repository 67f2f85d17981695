"""Scores of many candidates of one prompt: the prompt computed once on a tree, and a plain batch of whole chats.

python benchmarks/scoring.py [--json FILE]          30M Llama, CPU, float32, 64 candidates, prompt 1024, reply 128
python benchmarks/scoring.py --device cuda          1B Llama, random weights, bfloat16
python benchmarks/scoring.py --tiny                 a few seconds, to see that it works

Two scores: the reward of a sequence-classification model, and the log-likelihood of each candidate. The plain batch is
what transformers and TRL's online trainers do, whole chats as rows; for log-likelihoods it computes vocabulary logits
for the replies only. Ours multiplies matrices as our back ends do (`rlhi.models.products`). `cache` is our way for
models that cannot be run on trees, and for log-likelihoods on a GPU: the prompt's keys and values are computed once and
copied to each row. `bound` is what the fewer FLOPs alone allow. Memory is the peak above the weights, in a process of
its own.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import common
import torch
from common import SHAPES, Shape

from rlhi.models import decoding, products, scoring
from rlhi.training.step import token_logps

PLAIN_ROWS = (8, 16, 64)
"""Sizes of a plain batch; the fastest counts."""


def make_classifier(shape: Shape, device: str) -> Any:
    """A random reward model."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = common.make_config(shape, num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config, dtype=common.dtype_of(device))
    torch.nn.init.normal_(model.score.weight)
    return model.to(device).eval()


def as_we_run_it(model: Any) -> Any:
    """A model prepared as our back ends prepare theirs."""
    products.install(model)
    return model


Scores = Callable[[], list[float]]


def reward_ways(shape: Shape, device: str, prompt: list[int], replies: list[list[int]]) -> dict[str, Scores]:
    """Rewards by a plain batch and by trees."""
    model, mine = make_classifier(shape, device), as_we_run_it(make_classifier(shape, device))
    chats = [[*prompt, *reply] for reply in replies]
    ids = torch.tensor(chats, device=device)

    @torch.inference_mode()
    def plain(rows: int) -> list[float]:
        found = [model(ids[i : i + rows], use_cache=False).logits[:, 0] for i in range(0, len(ids), rows)]
        return [float(value) for value in torch.cat(found)]

    way = scoring.reward_support(mine, len(chats[0]))
    if way.kernel is None:
        raise SystemExit(f"this model cannot be run on trees: {way.reason}")
    ways: dict[str, Scores] = {f"plain {rows}": partial(plain, rows) for rows in PLAIN_ROWS if rows <= len(chats)}
    return ways | {"trees": lambda: scoring.rewards(mine, chats, 32, way.kernel)}


def likelihood_ways(shape: Shape, device: str, prompt: list[int], replies: list[list[int]]) -> dict[str, Scores]:
    """Log-likelihoods by a plain batch, by copies of the prompt's keys, and by trees where they are used."""
    model, mine = (common.make_model(shape, device).eval() for _ in range(2))
    as_we_run_it(mine)

    @torch.inference_mode()
    def plain(rows: int) -> list[float]:
        found: list[float] = []
        for start in range(0, len(replies), rows):
            part = [(prompt, reply) for reply in replies[start : start + rows]]
            found += [float(values.double().sum()) for values in token_logps(model, part)]
        return found

    ways: dict[str, Scores] = {f"plain {rows}": partial(plain, rows) for rows in PLAIN_ROWS if rows <= len(replies)}
    ways["cache"] = lambda: decoding.log_likelihoods(mine, prompt, replies, 32)
    way = scoring.support(mine, len(prompt) + max(map(len, replies)))
    if way.kernel is not None:
        ways["trees"] = lambda: scoring.log_likelihoods(mine, prompt, replies, 32, way)
    return ways


SCORES = {"reward": reward_ways, "log-likelihood": likelihood_ways}


def bound(shape: Shape, options: argparse.Namespace, logits: int) -> float:
    """FLOPs of a plain batch over those with the prompt once; `logits` per reply."""
    prompt: int = options.prompt
    reply: int = options.reply
    count: int = options.candidates
    whole = prompt + reply
    plain = common.forward_flops(shape, whole, whole**2 // 2, logits)
    once = common.forward_flops(shape, prompt, prompt**2 // 2, 0)
    more = common.forward_flops(shape, reply, reply * prompt + reply**2 // 2, logits)
    return count * plain / (once + count * more)


def measure(score: str, ways: dict[str, Scores], name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table."""
    ours = "trees" if "trees" in ways else "cache"
    exact = ways[next(iter(ways))]()
    error = max(abs(a - b) for a, b in zip(ways[ours](), exact, strict=True))
    note = partial(print, score, file=sys.stderr)
    seconds = common.medians(common.timed(ways, options.repeats, options.device, note))
    mebibytes = common.memories(__file__, [f"{score}/{way}" for way in ways], options)
    mebibytes = {way.partition("/")[2]: size for way, size in mebibytes.items()}
    best = min((way for way in ways if way.startswith("plain")), key=lambda way: seconds[way])
    return {
        "score": score,
        "model": name,
        "candidates": options.candidates,
        "prompt": options.prompt,
        "reply": options.reply,
        "speedup_vs_plain": seconds[best] / seconds[ours],
        "speedup_vs_cache": seconds["cache"] / seconds[ours] if "cache" in seconds else None,
        "flop_bound": bound(SHAPES[name], options, 0 if score == "reward" else options.reply),
        "peak_memory_ratio": common.ratio(mebibytes[ours], mebibytes[best]),
        "largest_difference": error,
        "ours": ours,
        "plain_best": best,
        "all_seconds": seconds,
        "all_mebibytes": mebibytes,
    }


def main() -> None:
    """Measure both scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=list(SHAPES), help="another size than the usual of the device")
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--reply", type=int, default=128)
    common.add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    name = options.model or ("1B" if options.device == "cuda" else "30M")
    if options.tiny:
        name, options.candidates, options.prompt, options.reply = "tiny", 8, 64, 8
    shape, stream = SHAPES[name], random.Random(0)
    prompt, *replies = (
        [stream.randrange(3, shape.vocabulary) for _ in range(count)]
        for count in (options.prompt, *[options.reply] * options.candidates)
    )
    if options.child:
        score, _, way = options.child.partition("/")
        run = SCORES[score](shape, options.device, prompt, replies)[way]
        common.answer({"mebibytes": common.peak_memory(run, options.device)})
        return
    rows = [
        measure(score, make(shape, options.device, prompt, replies), name, options) for score, make in SCORES.items()
    ]
    common.write_json(options.json, rows)
    shown = [{key: value for key, value in row.items() if not key.startswith("all_")} for row in rows]
    lines = [f"{row['score']}: {common.details(row['all_seconds'], row['all_mebibytes'])}" for row in rows]
    common.table(f"Scoring, {options.device}", shown, lines)


if __name__ == "__main__":
    main()
