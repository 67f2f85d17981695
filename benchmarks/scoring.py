"""Scores of many candidates of one prompt: the prompt computed once on a tree, and a plain batch of whole chats.

python benchmarks/scoring.py [--json FILE]          30M Llama, CPU, float32, 64 candidates, prompt 1024, reply 128
python benchmarks/scoring.py --tiny                 a few seconds, to see that it works

Two scores: the reward of a sequence-classification model, and the log-likelihood of each candidate. The plain batch is
what transformers does with whole chats as rows; for log-likelihoods it computes vocabulary logits for the replies only.
`cache` is our way for models that cannot be run on trees, and on a GPU: the prompt's keys and values are computed once
and copied to each row.
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

from rlhi.models import decoding, scoring
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


Scores = Callable[[], list[float]]


def reward_ways(shape: Shape, device: str, prompt: list[int], replies: list[list[int]]) -> dict[str, Scores]:
    """Rewards by a plain batch and by trees."""
    model = make_classifier(shape, device)
    chats = [[*prompt, *reply] for reply in replies]
    ids = torch.tensor(chats, device=device)

    @torch.inference_mode()
    def plain(rows: int) -> list[float]:
        found = [model(ids[i : i + rows], use_cache=False).logits[:, 0] for i in range(0, len(ids), rows)]
        return [float(value) for value in torch.cat(found)]

    way = scoring.reward_support(model, len(chats[0]))
    if way.kernel is None:
        raise SystemExit(f"this model cannot be run on trees: {way.reason}")
    ways: dict[str, Scores] = {f"plain {rows}": partial(plain, rows) for rows in PLAIN_ROWS if rows <= len(chats)}
    return ways | {"trees": lambda: scoring.rewards(model, chats, 32, way.kernel)}


def likelihood_ways(shape: Shape, device: str, prompt: list[int], replies: list[list[int]]) -> dict[str, Scores]:
    """Log-likelihoods by a plain batch, by copies of the prompt's keys, and by trees."""
    model = common.make_model(shape, device).eval()

    @torch.inference_mode()
    def plain(rows: int) -> list[float]:
        found: list[float] = []
        for start in range(0, len(replies), rows):
            part = [(prompt, reply) for reply in replies[start : start + rows]]
            found += [float(values.double().sum()) for values in token_logps(model, part)]
        return found

    way = scoring.support(model, len(prompt) + max(map(len, replies)))
    if way.kernel is None:
        raise SystemExit(f"this model cannot be run on trees: {way.reason}")
    ways: dict[str, Scores] = {f"plain {rows}": partial(plain, rows) for rows in PLAIN_ROWS if rows <= len(replies)}
    ways["cache"] = lambda: decoding.log_likelihoods(model, prompt, replies, 32)
    return ways | {"trees": lambda: scoring.log_likelihoods(model, prompt, replies, 32, way)}


def main() -> None:
    """Measure both scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), help="another size than the usual of the device")
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--reply", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way; the median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short texts")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    name = options.model or "30M"
    if options.tiny:
        name, options.candidates, options.prompt, options.reply = "tiny", 8, 64, 8
    shape, stream = SHAPES[name], random.Random(0)
    prompt, *replies = (
        [stream.randrange(3, shape.vocabulary) for _ in range(count)]
        for count in (options.prompt, *[options.reply] * options.candidates)
    )
    rows = []
    for score, make in (("reward", reward_ways), ("log-likelihood", likelihood_ways)):
        ways = make(shape, "cpu", prompt, replies)
        exact = ways[f"plain {min(PLAIN_ROWS[0], len(replies))}"]()
        error = max(abs(a - b) for a, b in zip(ways["trees"](), exact, strict=True))
        note = partial(print, score, file=sys.stderr)
        seconds = common.medians(common.timed(ways, options.repeats, "cpu", note))
        best = min((way for way in ways if way.startswith("plain")), key=lambda way: seconds[way])
        rows.append(
            {
                "score": score,
                "model": name,
                "candidates": options.candidates,
                "prompt": options.prompt,
                "reply": options.reply,
                "speedup_vs_plain": seconds[best] / seconds["trees"],
                "speedup_vs_cache": seconds["cache"] / seconds["trees"] if "cache" in seconds else None,
                "largest_difference": error,
                "plain_best": best,
                "plain_seconds": seconds[best],
                "seconds": seconds["trees"],
            }
        )
    common.write_json(options.json, rows)
    common.table("Scoring, CPU", rows)


if __name__ == "__main__":
    main()
