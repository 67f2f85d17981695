"""What a training needs besides rlhi itself, asked before anything is computed."""

from __future__ import annotations

import os
from importlib.util import find_spec

from rlhi.errors import UsageError
from rlhi.settings import Training


def check(settings: Training) -> None:
    """Raise `UsageError` where a package, a device or a setting of the launcher is missing."""
    for name in settings.report_to:
        if find_spec(name) is None:
            raise UsageError(f"training.report_to: the package {name} is not installed; pip install {name}")
    if settings.method == "qlora":
        _check_qlora()
    if _on("ACCELERATE_USE_FSDP") and _on("FSDP_CPU_RAM_EFFICIENT_LOADING"):
        raise UsageError(
            "fsdp_cpu_ram_efficient_loading is on, so only one process would hold the weights that the reference is "
            "computed with; set it to false in accelerate's configuration"
        )


def _check_qlora() -> None:
    if find_spec("bitsandbytes") is None:
        raise UsageError("training.method=qlora needs bitsandbytes, which is not installed; pip install 'rlhi[qlora]'")
    if _on("ACCELERATE_USE_FSDP") or _on("ACCELERATE_USE_DEEPSPEED"):
        raise UsageError("training.method=qlora goes with neither FSDP nor DeepSpeed; use training.method=lora")
    import torch

    if not torch.cuda.is_available():
        raise UsageError("training.method=qlora needs a CUDA device, and torch sees none; use training.method=lora")


def _on(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")
