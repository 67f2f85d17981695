"""What a training leaves behind, the same bytes for the same seed: weights, tokenizer, curve, summary, model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from rlhi.flow.whole import write_atomic
from rlhi.settings import Training
from rlhi.training.policy import quiet

CURVE = "curve.jsonl"
SUMMARY = "training.json"


VALIDATION = "validation.jsonl"


def write_weights(model: Any, tokenizer: Any, out: Path, state: Mapping[str, Any] | None = None) -> None:
    """Write safetensors weights (or the adapter), configuration, generation settings, tokenizer and chat template.

    `state` are the weights where the model itself does not hold them all.
    """
    out.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(str(out), **({} if state is None else {"state_dict": state}))
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    if bare.generation_config is not None:
        bare.generation_config.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))


def write_curve(rows: Sequence[Mapping[str, float]], out: Path, name: str = CURVE) -> None:
    """Write one line per optimizer step, or per measurement on held-out pairs."""
    write_atomic(out / name, b"".join(orjson.dumps(row) + b"\n" for row in rows))


def write_summary(summary: Mapping[str, Any], out: Path) -> None:
    """Write the summary, which says that all else is in place: it comes last."""
    write_atomic(out / SUMMARY, orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def read_summary(out: Path, identity: str) -> dict[str, Any] | None:
    """The summary of this very training, if it was finished."""
    try:
        summary = orjson.loads((out / SUMMARY).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None  # not finished: the training goes on from its checkpoints
    return summary if isinstance(summary, dict) and summary.get("identity") == identity else None


def base_name(model: str) -> str:
    """How a card names the base: a hub name as it is, a local folder by its last part only."""
    local = model.startswith((".", "/", "~")) or Path(model).exists()
    return Path(model).name if local else model


def write_card(summary: Mapping[str, Any], settings: Training, objective: str, seed: int, out: Path) -> None:
    """Write the model card."""
    base = base_name(settings.model)
    adapted = settings.method != "full"
    lora = f"LoRA (rank {settings.lora.r}, alpha {settings.lora.alpha})"
    method = {"full": "all weights", "lora": lora, "qlora": f"{lora} on a base in 4 bits"}[settings.method]
    rate = rate_of(settings, objective)
    rows = [
        ("objective", _objective(settings, objective)),
        ("trained", method),
        ("optimizer steps", summary["steps"]),
        ("pairs per step", settings.batch_size),
        ("passes over the pairs", settings.epochs),
        ("peak learning rate", f"{rate}, {settings.schedule}, warm-up {settings.warmup_ratio:.0%}"),
        ("weight decay", settings.weight_decay),
        ("gradient clipping", settings.max_grad_norm),
        ("longest pair, tokens", settings.max_length),
        ("precision", settings.precision),
        ("seed", seed),
    ]
    held = summary["held_out"] > 0
    dropped = ", ".join(f"{count} {reason}" for reason, count in summary["dropped"].items()) or "none"
    metrics = "\n".join(f"| {name.replace('_', ' ')} | {value:.6g} |" for name, value in summary["metrics"].items())
    adapter = "library_name: peft\n" if adapted else ""
    text = f"""---
base_model: {base}
{adapter}tags:
- rlhi
- {objective}
---
# {base}, trained by rlhi

Started from `{base}` and trained on preference pairs mined from conversations of its users. The user's persona stood
in the system message of every pair; give the model the persona of the user it answers.

## Data
{summary["pairs"]} pairs were trained on. Dropped: {dropped}. Shortened: {len(summary["shortened"])}.
{summary["validation"]}

## Settings
| setting | value |
|---|---|
{chr(10).join(f"| {name} | {value} |" for name, value in rows)}

{summary["step"]}

## Measured
| figure | value |
|---|---|
{metrics}

The loss of every optimizer step stands in `{CURVE}`{f", that of held-out pairs in `{VALIDATION}`" if held else ""}.

## Licence
The weights derive from `{base}`: its licence holds for them too. They were trained on conversations of people; what
these people were told and agreed to holds for any use of them.
"""
    write_atomic(out / "README.md", text.encode())


def _objective(settings: Training, objective: str) -> str:
    if objective == "sft":
        return objective
    parts = {"label smoothing": settings.label_smoothing, "NLL weight": settings.nll_weight}
    if objective == "simpo":
        parts["γ"] = settings.simpo_gamma
    name = "SimPO" if objective == "simpo" else objective.upper() if objective in ("dpo", "ipo") else objective
    return ", ".join([name, f"β = {settings.beta}", *(f"{part} = {value}" for part, value in parts.items() if value)])


def rate_of(settings: Training, objective: str) -> float:
    """Peak learning rate of an objective."""
    if objective == "sft" and settings.sft_learning_rate is not None:
        return settings.sft_learning_rate
    return settings.learning_rate
