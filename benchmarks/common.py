"""What the benchmarks share: models of known shapes, conversations, clocks, memory, FLOPs and tables."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

USER_TURN = 64
"""Tokens of a user's turn between two replies."""
END = 1
"""Token that ends a reply."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Llama."""

    hidden: int
    layers: int
    inner: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool

    @property
    def body(self) -> int:
        """Weights of all layers."""
        head = self.hidden // self.heads
        attention = self.hidden * head * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner)


SHAPES = {
    "tiny": Shape(64, 2, 128, 4, 2, 500, True),
    "30M": Shape(512, 6, 1536, 8, 4, 32_000, True),
    "1B": Shape(2048, 16, 8192, 32, 8, 128_256, True),
    "8B": Shape(4096, 32, 14_336, 32, 8, 128_256, False),
}


def make_config(shape: Shape, **changes: Any) -> Any:
    """The configuration of a Llama of this shape."""
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.inner,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=32_768,
        tie_word_embeddings=shape.tied,
        pad_token_id=0,
        eos_token_id=END,
        bos_token_id=None,
        **changes,
    )


def make_model(shape: Shape, device: str, seed: int = 0) -> Any:
    """A random Llama: float32 on a CPU, bfloat16 on a GPU."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(make_config(shape), dtype=dtype_of(device))
    return model.to(device)


def dtype_of(device: str) -> torch.dtype:
    """Precision of a benchmark on a device."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def perturb(model: Any, share: float = 0.3, seed: int = 1) -> Any:
    """Change every weight by `share` of its tensor's spread: a policy and a reference that differ."""
    stream = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=stream, device=weight.device, dtype=weight.dtype)
            weight.add_(noise * weight.std().nan_to_num(0.0).clamp_min(1e-3), alpha=share)
    return model


Triple = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def conversation(prompt: int, completion: int, pairs: int, vocabulary: int, layout: str = "turns") -> list[Triple]:
    """Token ids (prompt, chosen, rejected) of the pairs of a conversation.

    With `turns` there is a pair at each of its turns, as mining conversations gives them: the rejected reply is the one
    that was sent, and the conversation goes on from it with a user's turn. With `same` all pairs answer one prompt.
    """
    stream = random.Random(42)

    def text(count: int) -> tuple[int, ...]:
        return tuple(stream.randrange(3, vocabulary) for _ in range(count))

    found: list[Triple] = []
    history = text(prompt)
    for _ in range(pairs):
        chosen, rejected = ((*text(completion - 1), END) for _ in range(2))
        found.append((history, chosen, rejected))
        if layout == "turns":
            history = (*history, *rejected, *text(USER_TURN))
    return found


def forward_flops(shape: Shape, tokens: int, seen: int, logits: int) -> float:
    """FLOPs of a forward pass: `tokens` in the layers, `seen` pairs of query and key, `logits` rows of the head."""
    attention = 4 * shape.hidden * shape.layers * seen
    return 2.0 * shape.body * tokens + attention + 2.0 * shape.hidden * shape.vocabulary * logits


def peak_flops(device: str) -> float:
    """FLOP/s of a large matrix product on this machine."""
    size = 8192 if device == "cuda" else 1536
    a, b = (torch.randn(size, size, device=device, dtype=dtype_of(device)) for _ in range(2))
    return 2.0 * size**3 / statistics.median(timed({"product": lambda: a @ b}, 7, device)["product"])


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(
    variants: Mapping[str, Callable[[], object]], repeats: int, device: str, note: Callable[[str], None] | None = None
) -> dict[str, list[float]]:
    """Seconds of each run of each variant; the variants take turns in changing order, after one run to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(repeats + 1):
        order = list(variants)
        random.Random(number).shuffle(order)
        for name in order:
            if note:
                note(f"{name}, run {number} of {repeats}")
            synchronize(device)
            began = time.perf_counter()
            variants[name]()
            synchronize(device)
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median of each variant's runs."""
    return {name: statistics.median(values) for name, values in seconds.items()}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(field)))


def peak_memory(run: Callable[[], object], device: str) -> float:
    """MiB that `run` needs at its peak above what is there before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return float((torch.cuda.max_memory_allocated() - before) / 2**20)
    if not sys.platform.startswith("linux"):
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 2**20
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # makes the present size the highest one
    before_kib = _status("VmRSS")
    run()
    return (_status("VmHWM") - before_kib) / 2**10


def limit_memory(gibibytes: float) -> None:
    """Make this process fail where it needs more."""
    if hasattr(resource, "RLIMIT_DATA"):
        size = int(gibibytes * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def child(script: str, arguments: Sequence[str]) -> dict[str, Any] | None:
    """The JSON that a benchmark prints last when run with these arguments in its own process; None where it fails."""
    source = str(Path(__file__).resolve().parents[1] / "src")
    paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        print(f"{' '.join(arguments)}: {reason}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all benchmarks have."""
    parser.add_argument("--repeats", type=int, default=5, help="runs of each way; the median counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short texts")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--child", help=argparse.SUPPRESS)


def memories(script: str, ways: Sequence[str], options: argparse.Namespace) -> dict[str, float | None]:
    """Peak MiB of every way, from a child with `--child WAY`; None where it failed or `--no-memory` was given."""
    found: dict[str, float | None] = dict.fromkeys(ways)
    for way in () if options.no_memory else ways:
        said = child(script, [*sys.argv[1:], "--child", way])
        found[way] = said["mebibytes"] if said else None
    return found


def answer(said: Mapping[str, Any]) -> None:
    """Say it to the process that started this child."""
    print(json.dumps(said))


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """Our share of theirs; None where one is not known."""
    return None if ours is None or not theirs else ours / theirs


def details(seconds: Mapping[str, float], mebibytes: Mapping[str, float | None]) -> str:
    """A line with each way's own figures."""
    sizes = {way: f" {size:.0f} MiB" if size is not None else "" for way, size in mebibytes.items()}
    return ", ".join(f"{way} {value:.3g} s{sizes.get(way, '')}" for way, value in seconds.items())


def table(title: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> None:
    """Show rows on stdout."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title)
    for name in rows[0]:
        shown.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        shown.add_row(*(_cell(value) for value in row.values()))
    console = Console(width=max(120, Console().width))
    console.print(shown)
    for note in notes:
        console.print(note)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2e}" if 0 < abs(value) < 1e-2 else f"{value:.2f}"
    return "–" if value is None else str(value)


def write_json(path: str | None, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON."""
    if path:
        Path(path).write_text(json.dumps(list(rows), indent=2) + "\n")
