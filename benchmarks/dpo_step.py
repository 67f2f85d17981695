"""One DPO step (forward and backward over the pairs of a conversation): trees, the plain step, and TRL.

python benchmarks/dpo_step.py [--json FILE]         30M Llama, CPU, float32
python benchmarks/dpo_step.py --device cuda         1B and 8B Llamas, random weights, bfloat16
python benchmarks/dpo_step.py --tiny                a few seconds, to see that it works

`TRL stock` is `DPOTrainer` with its defaults (a reference model in every step, gradient checkpointing, all pairs in
one padded batch), in the same precision. `TRL best` is the faster of two settings without checkpointing, with
precomputed reference log-probabilities: all pairs in a batch, or one pair at a time (its padding-free mode is switched
off in TRL 1.16). Ours, and the plain step, have the reference precomputed too, and multiply matrices as `rlhi train`
does (`rlhi.models.products`). Nothing includes the optimizer's update, which is the same for
all. Memory is the peak above weights and gradients, measured in a process of its own, and its column our share of TRL
best's. `bound` is what the fewer FLOPs alone allow against the plain step, which skips the prompts' logits as well. The
errors are ours against TRL; JSON has on a CPU also each one's against ours in float64 (where transformers' norms and
rotations stay in float32): TRL sums a reply's log-probabilities in float32, and that is what is left of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import common
import torch
from common import SHAPES, Shape, Triple
from torch import Tensor

from rlhi.models import products
from rlhi.models.products import FastLinear
from rlhi.settings import Training
from rlhi.training.objectives import OBJECTIVES
from rlhi.training.steps import PlainStep, TreeStep
from rlhi.training.tokenize import Encoded, Side
from rlhi.training.trainer import PairTrainer
from rlhi.training.trees.step import make_pass
from rlhi.training.trees.support import examine

ROWS = ((1024, 256, 1), (1024, 256, 2), (1024, 256, 4), (2048, 256, 4))
COLUMNS = {
    "model": "model",
    "prompt": "prompt",
    "compl.": "completion",
    "pairs": "pairs",
    "× TRL best": "speedup_vs_trl_best",
    "× TRL stock": "speedup_vs_trl_stock",
    "× plain": "speedup_vs_plain",
    "bound": "flop_bound_vs_plain",
    "memory": "peak_memory_ratio",
    "loss err.": "loss_error",
    "grad. err.": "gradient_error",
    "tokens/s": "tokens_per_second",
    "of peak": "share_of_peak",
}
"""Columns of the table; JSON has all."""
BETA = 0.1
SIDES: tuple[Side, ...] = ("chosen", "rejected")
OURS = ("trees", "plain")
TRL = ("TRL batch", "TRL single", "TRL stock")


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    shape: str
    prompt: int
    completion: int
    pairs: int
    layout: str
    device: str

    @property
    def sizes(self) -> Shape:
        """The model's sizes."""
        return SHAPES[self.shape]

    def triples(self) -> list[Triple]:
        """The conversation."""
        return common.conversation(self.prompt, self.completion, self.pairs, self.sizes.vocabulary, self.layout)


def encoded(case: Case) -> list[Encoded]:
    """The conversation as our pairs."""
    return [Encoded(f"{i:03}", "u", 1.0, *triple, "c") for i, triple in enumerate(case.triples())]


def reference_values(pairs: Sequence[Encoded]) -> dict[tuple[str, Side], float]:
    """Log-probabilities as a reference near the policy would give them; a step's cost does not depend on them."""
    return {
        (pair.pair_id, side): -10.0 * len(pair.completion(side)) - 3.0 * ((i + (side == "chosen")) % 3)
        for i, pair in enumerate(pairs)
        for side in SIDES
    }


def our_step(case: Case, model: Any, name: str) -> Callable[[], float]:
    """A step of ours as a function that returns its loss."""
    pairs = encoded(case)
    settings = Training(beta=BETA, micro_batch_size=1 if case.device == "cpu" else case.pairs, max_grad_norm=1e9)
    folder = Path(tempfile.mkdtemp())
    trainer = PairTrainer(
        model,
        settings,
        OBJECTIVES["dpo"],
        batches=[pairs],
        learning_rate=1e-6,
        seed=0,
        folder=folder,
        identity="benchmark",
    )
    trainer.references = reference_values(pairs)
    trainer.step = PlainStep(settings.micro_batch_size)
    if name == "trees":
        support = examine(trainer.model, max(pair.length(SIDES) for pair in pairs))
        if support.kernel is None:
            raise SystemExit(f"this model cannot be run on trees: {support.reason}")
        trainer.step = TreeStep(settings.max_tokens_per_pass, support.kernel, support.tiled)

    def run() -> float:
        return float(trainer.training_step(trainer.model, {"pairs": pairs}))

    return run


def trl_trainer(case: Case, model: Any, reference: Any) -> Any:
    """TRL's trainer on the conversation; the pairs' token ids are put in the place of those of its placeholders."""
    from datasets import Dataset, disable_progress_bars
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "w": 2}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    arguments = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=case.pairs,
        beta=BETA,
        max_length=None,
        bf16=False,
        precompute_ref_log_probs=reference is None,
        use_cpu=case.device == "cpu",
        report_to=[],
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    return DPOTrainer(
        model=model,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "w", "chosen": " w w", "rejected": " w"}]),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"),
    )


def trl_step(case: Case, trainer: Any, name: str) -> Callable[[], float]:
    """A step of TRL as a function that returns its loss, averaged over all pairs."""
    pairs = encoded(case)
    size = 1 if name == "TRL single" else case.pairs
    values = reference_values(pairs)
    rows = [
        {"prompt_ids": list(p.prompt), "chosen_ids": list(p.chosen), "rejected_ids": list(p.rejected)} for p in pairs
    ]
    batches = []
    for start in range(0, len(rows), size):
        batch = trainer.data_collator(rows[start : start + size])
        for side in SIDES:
            known = [values[pair.pair_id, side] for pair in pairs[start : start + size]]
            batch[f"ref_{side}_logps"] = torch.tensor(known)
        batches.append(batch)

    def run() -> float:
        trainer.precompute_ref_logps = name != "TRL stock"
        for module in trainer.model.modules():
            if isinstance(module, FastLinear):
                module.__class__ = torch.nn.Linear  # type: ignore[assignment]
            if hasattr(module, "config") and hasattr(module.config, "_attn_implementation"):
                module.config._attn_implementation = "sdpa"
        if name == "TRL stock":
            trainer.model.gradient_checkpointing_enable()
        else:
            trainer.model.gradient_checkpointing_disable()
        trainer.current_gradient_accumulation_steps = len(batches)
        loss = sum(float(trainer.training_step(trainer.model, dict(batch))) for batch in batches)
        trainer.model.gradient_checkpointing_disable()
        return loss

    return run


def steps(case: Case, names: Sequence[str]) -> tuple[Any, dict[str, Callable[[], float]]]:
    """The model, and the named steps on it."""
    from rlhi.training.trees.attention import install

    model = common.make_model(case.sizes, case.device)
    found: dict[str, Callable[[], float]] = {}
    if any(name in TRL for name in names):
        reference = common.perturb(common.make_model(case.sizes, case.device)) if "TRL stock" in names else None
        trainer = trl_trainer(case, model, reference)
        found |= {name: trl_step(case, trainer, name) for name in names if name in TRL}
    for name in names:
        if name not in OURS:
            continue
        run = our_step(case, model, name)

        def ours(run: Callable[[], float] = run, tree: bool = name == "trees") -> float:
            products.install(model)
            if tree:
                install(model)
            return run()

        found[name] = ours
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return model, found


Outcome = tuple[float, list[Tensor]]
"""A step's loss, and the gradient of each parameter."""


def outcome(model: Any, run: Callable[[], float]) -> Outcome:
    """Loss and gradients of a step."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    loss = run()
    return loss, [parameter.grad.to("cpu", copy=True) for parameter in model.parameters()]


def error(found: Outcome, wanted: Outcome) -> tuple[float, float]:
    """Relative difference of the losses, and the largest relative difference of a parameter's gradient."""
    pairs = [(a.double(), b.double()) for a, b in zip(found[1], wanted[1], strict=True)]
    worst = max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in pairs)
    return abs(found[0] - wanted[0]) / abs(wanted[0]), worst


def errors(case: Case, model: Any, ours: Callable[[], float], theirs: Callable[[], float]) -> dict[str, float]:
    """How far ours is from TRL's, and on a CPU each from ours in float64."""
    trees, trl = outcome(model, ours), outcome(model, theirs)
    found = dict(zip(("loss_error", "gradient_error"), error(trees, trl), strict=True))
    if case.device == "cpu":
        wide = common.make_model(case.sizes, case.device).double()
        wide.load_state_dict(model.state_dict())
        exact = outcome(wide, our_step(case, wide, "trees"))
        for name, mine in (("rlhi", trees), ("trl", trl)):
            loss, gradient = error(mine, exact)
            found |= {f"{name}_loss_error_to_float64": loss, f"{name}_gradient_error_to_float64": gradient}
    return found


def memories(case: Case, options: argparse.Namespace) -> dict[str, float | None]:
    """Peak memory of every variant in MiB, each in a process of its own; None where it needs more than the limit."""
    found: dict[str, float | None] = {}
    for name in (*OURS, *TRL):
        arguments = ["--child", json.dumps({"name": name, **case.__dict__}), "--limit", str(options.limit)]
        note(f"{describe(case)}: memory of {name}")
        answer = common.child(__file__, [*arguments, "--threads", str(options.threads)])
        found[name] = answer["mebibytes"] if answer else None
    return found


def describe(case: Case) -> str:
    """A case in words."""
    return f"{case.shape} {case.prompt}/{case.completion} ×{case.pairs}"


def note(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def flops(case: Case) -> tuple[float, float]:
    """FLOPs of a tree step and of a plain one, forward and backward."""
    triples = case.triples()
    sequences = [(prompt, reply) for prompt, *replies in triples for reply in replies]
    work = make_pass(sequences)
    seen = sum((b.query[1] - b.query[0]) * (b.key[1] - b.key[0]) // (2 if b.causal else 1) for b in work.layout.blocks)
    lengths = [len(prompt) + len(reply) for prompt, reply in sequences]
    plain = common.forward_flops(
        case.sizes, sum(lengths), sum(n * n // 2 for n in lengths), sum(len(reply) for _, reply in sequences)
    )
    return 3 * common.forward_flops(case.sizes, work.tokens, seen, len(work.at)), 3 * plain


def measure(case: Case, options: argparse.Namespace, peak: float) -> dict[str, Any]:
    """One row of the table."""
    memory = memories(case, options) if not options.no_memory else dict.fromkeys((*OURS, *TRL), 0.0)
    names = [name for name in (*OURS, *TRL) if memory[name] is not None]
    best_names = [name for name in ("TRL batch", "TRL single") if name in names]
    if not best_names:
        raise SystemExit(f"{describe(case)}: no setting of TRL runs within {options.limit} GiB")
    model, run = steps(case, names)
    differences = errors(case, model, run["trees"], run[best_names[0]])
    seconds = common.medians(
        common.timed(run, options.repeats, case.device, lambda text: note(f"{describe(case)}: {text}"))
    )
    best = min(best_names, key=lambda name: seconds[name])
    tree_flops, plain_flops = flops(case)
    unique = make_pass([(prompt, reply) for prompt, *replies in case.triples() for reply in replies]).tokens
    return {
        "model": case.shape,
        "prompt": case.prompt,
        "completion": case.completion,
        "pairs": case.pairs,
        "speedup_vs_trl_best": seconds[best] / seconds["trees"],
        "speedup_vs_trl_stock": seconds["TRL stock"] / seconds["trees"] if "TRL stock" in seconds else None,
        "speedup_vs_plain": seconds["plain"] / seconds["trees"],
        "flop_bound_vs_plain": plain_flops / tree_flops,
        "peak_memory_ratio": common.ratio(memory["trees"], memory[best]),
        **differences,
        "trl_best": best,
        "seconds": seconds["trees"],
        "tokens_per_second": sum(len(p) * 2 + len(c) + len(r) for p, c, r in case.triples()) / seconds["trees"],
        "distinct_tokens": unique,
        "share_of_peak": tree_flops / seconds["trees"] / peak,
        "all_seconds": seconds,
        "all_mebibytes": memory,
    }


def run_child(text: str, limit: float) -> None:
    """Measure one variant's memory and print it."""
    fields = json.loads(text)
    name = fields.pop("name")
    case = Case(**fields)
    if case.device == "cpu":
        common.limit_memory(limit)
    _, run = steps(case, [name])
    common.answer({"mebibytes": common.peak_memory(run[name], case.device)})


def cases(options: argparse.Namespace) -> list[Case]:
    """The rows to measure."""
    shapes = [options.model] if options.model else ["1B", "8B"] if options.device == "cuda" else ["30M"]
    rows: Sequence[Sequence[int]] = ROWS
    if options.tiny:
        shapes, rows = ["tiny"], ((64, 16, 1), (64, 16, 2))
    if options.rows:
        rows = [[int(part) for part in row.split("/")] for row in options.rows]
    return [Case(shape, row[0], row[1], row[2], options.layout, options.device) for shape in shapes for row in rows]


def main() -> None:
    """Measure all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=list(SHAPES), help="another size than the usual of the device")
    parser.add_argument("--rows", nargs="+", metavar="PROMPT/COMPLETION/PAIRS", help="other rows")
    parser.add_argument("--layout", choices=["turns", "same"], default="turns", help="a pair per turn, or one prompt")
    parser.add_argument("--limit", type=float, default=24.0, help="GiB that a variant may need on a CPU")
    parser.add_argument("--usual-products", action="store_true", help="no oneDNN in our steps, whatever the processor")
    common.add_options(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    if options.usual_products:
        products.better = cache(lambda: False)
    if options.child:
        run_child(options.child, options.limit)
        return
    peak = common.peak_flops(options.device)
    rows = []
    for case in cases(options):
        rows.append(measure(case, options, peak))
        common.write_json(options.json, rows)
    shown = [{name: row[key] for name, key in COLUMNS.items()} for row in rows]
    lines = [
        f"{row['model']} {row['prompt']}/{row['completion']} ×{row['pairs']}: "
        + ", ".join(
            f"{name} {row['all_seconds'][name]:.3g} s" + (f" {size:.0f} MiB" if size else "")
            if size is not None
            else f"{name} needs more than {options.limit:g} GiB"
            for name, size in row["all_mebibytes"].items()
        )
        for row in rows
    ]
    common.table(f"DPO step, {options.device}, layout {options.layout}, peak {peak / 1e9:.0f} GFLOP/s", shown, lines)


if __name__ == "__main__":
    main()
