"""What a log format must bring: a `Reader` that turns one row into a `RawConversation`, or says why it cannot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

RawRole = Literal["system", "user", "assistant", "tool"]


class BadRecord(Exception):
    """A row that cannot be used. It ends in quarantine under `reason`; the run goes on."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        """Short name, counted in the funnel."""
        self.detail = detail
        """What was wrong, with field and value, for a person."""


@dataclass(slots=True)
class RawMessage:
    """A message as the log has it, its role and time already in our words."""

    role: RawRole
    """Who speaks; `tool` = a call to a tool or what it gave back, which the cleaning leaves out."""
    content: str
    """The text, in Unicode without NUL or lone surrogates."""
    timestamp: str | None = None
    """ISO 8601 in UTC; null where the log does not tell."""


@dataclass(slots=True)
class RawConversation:
    """A conversation as the log has it, before any cleaning."""

    messages: list[RawMessage]
    """In the order of the log."""
    conversation_id: str | None = None
    """The log's own id."""
    user_id: str | None = None
    """The log's stable user id."""
    timestamp: str | None = None
    """Time of the whole conversation, ISO 8601 in UTC."""
    language: str | None = None
    """Name or code of the language, as the log writes it."""
    model: str = ""
    """The model that answered, as the log names it."""
    flags: set[str] = field(default_factory=set)
    """What the log says of it, or what the reader had to leave out."""
    asides: list[BadRecord] = field(default_factory=list)
    """What else the row holds that is no part of the conversation: each is counted as a record in quarantine."""


@runtime_checkable
class Reader(Protocol):
    """One log format. Found by name through `rlhi.logs.readers`."""

    @property
    def name(self) -> str:
        """Name in recipes (`logs.format`)."""
        ...

    @property
    def key(self) -> str:
        """The column that holds the messages; a row that has it is this format's, be it broken."""
        ...

    def matches(self, row: dict[str, Any]) -> bool:
        """Whether a row looks like this format: quick, without side effects, never raising."""
        ...

    def columns(self, present: Collection[str]) -> Collection[str]:
        """Which of a table's columns `read` needs: the others are not even decoded."""
        ...

    def read(self, row: dict[str, Any]) -> RawConversation:
        """Read a row. Raises `BadRecord`."""
        ...


@runtime_checkable
class OwnedReader(Protocol):
    """A format whose files are one person's: a row does not say whose."""

    def owner(self, file: str) -> tuple[str, bool]:
        """The user id of all rows of `file` (a path or a hub's name), and whether it was found, not made up."""
        ...
