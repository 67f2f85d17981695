"""Trackers that follow a training live; what they write is beside the training's own files and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
"""Where TensorBoard's event files lie in the output folder."""


def callbacks(names: Sequence[str], out: Path) -> list[Any]:
    """Callbacks of transformers for the trackers `names`, whose packages must be installed."""
    from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

    kinds = {"tensorboard": TensorBoardCallback, "trackio": TrackioCallback, "wandb": WandbCallback}
    made = []
    for name in names:
        callback = kinds[name]()
        if name == "tensorboard":
            callback.logging_dir = str(out / FOLDER)
        made.append(callback)
    return made
