"""Several processes at work on one run, as `accelerate launch` and `torchrun` start them: one writes, all train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def count() -> int:
    """How many processes were started together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


_state = {"met": False}


def speaks(before_meeting: bool) -> bool:
    """Whether this process tells of an error of its own.

    What stops a process before all have met stops the others of its machine for the same reason: the first of them
    tells. Later each tells of what happened to it alone.
    """
    return not before_meeting or _state["met"] or is_main() or os.environ.get("LOCAL_RANK", "0") == "0"


def name() -> str:
    """What a message of this process begins with: nothing in the main one, `[rank 3] ` in another."""
    return "" if is_main() else f"[rank {os.environ['RANK']}] "


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
        _state["met"] = True


def part() -> None:
    """Leave the others when all work is done: a process that ends while its connections are open may crash."""
    if _state["met"]:
        from accelerate import PartialState

        PartialState().destroy_process_group()
        _state["met"] = False


@contextmanager
def main_first() -> Iterator[None]:
    """The main process carries out a block before all others do."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()
