"""Many sampled replies to one prompt: the prompt read once, and TRL's generation.

python benchmarks/generation.py [--json FILE]       30M Llama, CPU, float32, 64 replies of 128 tokens, prompt 1024
python benchmarks/generation.py --device cuda       1B Llama, random weights, bfloat16
python benchmarks/generation.py --tiny              a few seconds, to see that it works

TRL's online trainers (GRPO and its kin) give `model.generate` the prompt once per reply. `stock` is that call with
their defaults; `static` has a static cache, their setting for speed; `continuous` is their
`use_transformers_continuous_batching`, which is for GPUs and measured only there. The best of them counts. Ours is what
the in-process back end does with `n` replies. All write the same number of tokens at temperature 1. `equal` is the
share of tokens that are the same at temperature 0. Memory is the peak above the weights, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import common
import numpy as np
import torch
from common import SHAPES, Shape

from rlhi.models import products
from rlhi.models.batching import Pool
from rlhi.models.decoding import Row, write

NO_END = -1
"""An end-of-text token that no model writes: all replies have the same length."""
ROWS = 32
"""Rows of our batches, the back end's default."""

Texts = list[list[int]]


@dataclass(frozen=True)
class Case:
    """What is written."""

    shape: str
    replies: int
    prompt: int
    length: int
    device: str

    @property
    def sizes(self) -> Shape:
        """The model's sizes."""
        return SHAPES[self.shape]

    def flops(self, prompts: int) -> float:
        """FLOPs of all replies where the prompt is read `prompts` times."""
        steps = self.length - 1
        seen = self.replies * (steps * self.prompt + steps * steps // 2)
        read = common.forward_flops(self.sizes, self.prompt, self.prompt**2 // 2, 1)
        return prompts * read + common.forward_flops(self.sizes, self.replies * steps, seen, self.replies * steps)


def ours(case: Case, model: Any, prompt: tuple[int, ...]) -> Callable[[float], Texts]:
    """The in-process back end's way."""
    products.install(model)
    on_cpu = case.device == "cpu"

    def run(rows: Any, stopped: Callable[[], bool]) -> None:
        write(model, rows, ROWS, frozenset(), stopped)

    pool = Pool(run, ROWS, torch.get_num_threads() if on_cpu else 1, on_cpu)

    def texts(temperature: float) -> Texts:
        streams = (np.random.Generator(np.random.Philox(key=number)) for number in range(case.replies))
        rows = [Row(prompt, case.length, temperature, 1.0, stream.random(case.length)) for stream in streams]
        return [row.tokens for row in pool.submit(rows).result()]

    return texts


def trl(case: Case, model: Any, prompt: tuple[int, ...], way: str) -> Callable[[float], Texts]:
    """The call of TRL's trainers."""
    from transformers import GenerationConfig

    rows = [list(prompt)] * case.replies
    ids = torch.tensor(rows, device=model.device)

    def texts(temperature: float) -> Texts:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        config = GenerationConfig(
            max_new_tokens=case.length,
            eos_token_id=NO_END if way == "continuous" else None,
            pad_token_id=0,
            cache_implementation="static" if way == "static" else None,
            **sampling,
        )
        torch.manual_seed(0)
        if way == "continuous":
            answers = model.generate_batch(rows, generation_config=config, progress_bar=False)
            return [list(answer.generated_tokens) for answer in answers.values()]
        found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        texts: Texts = found[:, len(prompt) :].tolist()
        return texts

    return texts


def ways(case: Case) -> dict[str, Callable[[], Callable[[float], Texts]]]:
    """What makes each way, the model included."""
    prompt = common.conversation(case.prompt, 2, 1, case.sizes.vocabulary)[0][0]
    model, mine = (common.make_model(case.sizes, case.device).eval() for _ in range(2))
    found: dict[str, Callable[[], Callable[[float], Texts]]] = {"ours": partial(ours, case, mine, prompt)}
    for way in ("stock", "static", *(["continuous"] if case.device == "cuda" else [])):
        found[way] = partial(trl, case, model, prompt, way)
    return found


def memory(case: Case, way: str) -> float:
    """Peak memory of a way in MiB, above the weights."""
    run = ways(case)[way]()
    return common.peak_memory(lambda: run(1.0), case.device)


def main() -> None:
    """Measure all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=list(SHAPES), help="another size than the usual of the device")
    parser.add_argument("--replies", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128, help="tokens of a reply")
    common.add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    shape = options.model or ("1B" if options.device == "cuda" else "30M")
    if options.tiny:
        shape, options.replies, options.prompt, options.length = "tiny", 8, 64, 8
    case = Case(shape, options.replies, options.prompt, options.length, options.device)
    if options.child:
        common.answer({"mebibytes": memory(case, options.child)})
        return
    runs = {way: make() for way, make in ways(case).items()}
    wanted, texts = ([token for text in runs[way](0.0) for token in text] for way in ("stock", "ours"))
    timed: dict[str, Callable[[], object]] = {way: partial(run, 1.0) for way, run in runs.items()}
    note = partial(print, file=sys.stderr)
    seconds = common.medians(common.timed(timed, options.repeats, case.device, note))
    mebibytes = common.memories(__file__, list(runs), options)
    best = min((way for way in runs if way != "ours"), key=lambda way: seconds[way])
    row = {
        "model": shape,
        "replies": case.replies,
        "prompt": case.prompt,
        "length": case.length,
        "speedup_vs_trl_best": seconds[best] / seconds["ours"],
        "speedup_vs_trl_stock": seconds["stock"] / seconds["ours"],
        "flop_bound": case.flops(case.replies) / case.flops(-(-case.replies // ROWS)),
        "peak_memory_ratio": common.ratio(mebibytes["ours"], mebibytes[best]),
        "equal": sum(a == b for a, b in zip(texts, wanted, strict=True)) / len(wanted),
        "trl_best": best,
        "tokens_per_second": case.replies * case.length / seconds["ours"],
        "share_of_peak": case.flops(-(-case.replies // ROWS)) / seconds["ours"] / common.peak_flops(case.device),
        "all_seconds": seconds,
        "all_mebibytes": mebibytes,
    }
    common.write_json(options.json, [row])
    shown = {name: value for name, value in row.items() if not name.startswith("all_")}
    common.table(f"Generation, {case.device}", [shown], [common.details(seconds, mebibytes)])


if __name__ == "__main__":
    main()
