"""Where a model in this process runs, and in which precision. Both follow from the settings and the machine."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from rlhi.settings import Model

_GPU_FILES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""Device files of which at least one is there where Linux reaches a GPU."""


@cache
def has_gpu() -> bool:
    """Whether PyTorch computes on a GPU here; it is imported only where that is possible at all."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in _GPU_FILES):
        return False
    import torch

    return torch.cuda.is_available()


def placement(settings: Model) -> tuple[str, str]:
    """Device and precision."""
    device = settings.device
    if device == "auto":
        device = "cuda" if has_gpu() else "cpu"
    dtype: str = settings.dtype
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    return device, dtype


def full_name(settings: Model, fingerprint: str) -> str:
    """What tells a model in this process from every other: name, digest of its files, and a precision below float32."""
    dtype = placement(settings)[1]
    return f"{Path(settings.model).name}@{fingerprint}" + ("" if dtype == "float32" else f"+{dtype}")
