"""One process at a time changes a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhi.errors import UsageError

LOCK = ".lock"


@contextmanager
def alone(folder: Path, note: Callable[[str], None]) -> Iterator[None]:
    """Hold a run folder, which is made if need be. The lock is the kernel's: it ends with the process, however it ends.

    Where the file system knows no locks, `note` is told so and the block runs without. Raises `UsageError` where
    another process holds the folder.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process works on {folder}: wait until it has ended or stop it, then run this again"
            ) from None
        except OSError as error:
            note(f"{folder} cannot be locked ({error.strerror}): see that no second process works on it")
        yield
