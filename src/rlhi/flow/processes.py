"""Several processes at work on one run, as `accelerate launch` and `torchrun` start them: one writes, all train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def count() -> int:
    """How many processes were started together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return os.environ.get("RANK", "0") == "0"


def on_cpu() -> bool:
    """Whether several processes have to share the work on a CPU, over gloo: the launcher does not say so by itself."""
    import torch

    return count() > 1 and not torch.cuda.is_available()


def wait() -> None:
    """Go on when every process has come to this place."""
    if count() > 1:
        from accelerate import PartialState

        PartialState(cpu=on_cpu()).wait_for_everyone()


@contextmanager
def main_first() -> Iterator[None]:
    """The main process carries out a block before all others do."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()
