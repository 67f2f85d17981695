"""TRL's `DPOTrainer` as the tests compare with it: one padded batch on a CPU, nothing written, nothing cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhi.records import PreferencePair
from rlhi.training.policy import load_tokenizer


def dpo_trainer(
    model: Any, reference: Any, base: Path, pairs: Sequence[PreferencePair], out: Path, **changes: Any
) -> Any:
    """The trainer on `pairs` in their order; `base` has the tokenizer, `changes` go to its `DPOConfig`."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    columns = ("prompt", "chosen", "rejected")
    dumped = (pair.model_dump(mode="json") for pair in pairs)
    arguments = trl.DPOConfig(
        output_dir=str(out),
        beta=0.3,
        max_length=None,
        per_device_train_batch_size=len(pairs),
        gradient_checkpointing=False,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        average_tokens_across_devices=False,
        **changes,
    )
    return trl.DPOTrainer(
        model=model,
        ref_model=reference,
        args=arguments,
        train_dataset=Dataset.from_list([{key: row[key] for key in columns} for row in dumped]),
        processing_class=load_tokenizer(str(base)),
    )
