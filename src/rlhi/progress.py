"""How long work tells of itself: the library speaks to this protocol, the command line draws it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the course of a run."""

    def start(self, name: str, total: int | None) -> None:
        """A stage begins; `total` rows or steps, None where unknown."""

    def advance(self, done: int = 1) -> None:
        """So many more rows or steps are done."""

    def finish(self, name: str, summary: str) -> None:
        """A stage has ended, or was found done: a line on it."""

    def note(self, text: str) -> None:
        """Something a person should know."""


class Silent:
    """Says nothing."""

    def start(self, name: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, done: int = 1) -> None:
        """Nothing."""

    def finish(self, name: str, summary: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
