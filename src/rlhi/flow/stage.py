"""A stage: frozen settings and one async method from a row to outputs, or to a drop with its reason.

A stage knows nothing of where it runs; executors call `run_row`, and only that, so they cannot disagree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from rlhi.errors import BudgetError, UsageError
from rlhi.models.base import ChatModel, Unreachable
from rlhi.records import Dropped, Failed, Record

In = TypeVar("In", bound=Record)
Out = TypeVar("Out", bound=Record)


@dataclass
class Context:
    """Live resources of one worker, built inside it and never pickled."""

    models: dict[str, ChatModel] = field(default_factory=dict)
    """Back end of each role, with its layers around it."""
    resources: dict[str, Any] = field(default_factory=dict)
    """Whatever else a stage shares between rows (a loaded local model), by name."""

    def model(self, role: str) -> ChatModel:
        """The back end bound to `role`. Raises `KeyError` naming the roles there are."""
        try:
            return self.models[role]
        except KeyError:
            raise KeyError(f"no model is bound to role {role!r}; bound are {sorted(self.models)}") from None


@dataclass(frozen=True)
class Drop:
    """Returned by a stage for a row that it leaves out on purpose."""

    reason: str
    detail: str = ""


class Stage(BaseModel, ABC, Generic[In, Out]):
    """Declare `class Label(Stage[Conversation, LabelledTurn])`; the fields are the stage's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """Name in the funnel, the manifest and the run folder."""
    version: ClassVar[int] = 1
    """Raised when a change of code changes what is written for the same input."""
    reads: ClassVar[type[Record]]
    """Type of a row."""
    writes: ClassVar[type[Record]]
    """Type of an output."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for base in cls.__mro__:
            args = getattr(base, "__pydantic_generic_metadata__", {}).get("args", ())
            if len(args) == 2 and not any(isinstance(arg, TypeVar) for arg in args):
                cls.reads, cls.writes = args
                return

    @abstractmethod
    async def run(self, row: In, ctx: Context) -> Sequence[Out] | Drop:
        """Map a row to outputs, or to a `Drop`. Raise to fail this row alone."""

    @abstractmethod
    def about(self, row: In) -> str:
        """What a row is about, for the person who reads a list of drops and failures."""


@dataclass(frozen=True)
class RowResult:
    """What became of one input row: outputs, a drop, or a failure; never nothing."""

    outputs: tuple[Record, ...] = ()
    dropped: Dropped | None = None
    failed: Failed | None = None


async def run_row(stage: Stage[Any, Any], row: Record, ctx: Context) -> RowResult:
    """Run a stage on a row and account for it.

    What no other row could survive (an unreachable server, an empty purse, a full disk) is raised, not recorded. A
    time-out is of its row alone, though Python counts it among the errors of the system.
    """
    try:
        made = await stage.run(row, ctx)
    except (Unreachable, UsageError, BudgetError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise
        failed = Failed(row=row.key, about=stage.about(row), cause=type(error).__name__, detail=str(error))
        return RowResult(failed=failed)
    if isinstance(made, Drop):
        return RowResult(dropped=Dropped(row=row.key, about=stage.about(row), reason=made.reason, detail=made.detail))
    if not made:
        raise TypeError(f"stage {stage.name} returned no output and no Drop for {stage.about(row)}")
    return RowResult(outputs=tuple(made))
