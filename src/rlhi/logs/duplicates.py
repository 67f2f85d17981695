"""One of each: the same words of the same user once, and one conversation per id.

Which one stays, its content says, never its place in the files. Of the same words, the earliest stays (one without a
time last). Of one id, the fullest stays: logs that are written again as a chat grows repeat an id with more messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlhi.logs import times
from rlhi.logs.clean import Clean
from rlhi.logs.rows import fault
from rlhi.records import Quarantined, digest


@dataclass(slots=True)
class Placed:
    """A clean conversation and where it was read."""

    clean: Clean
    """The conversation."""
    file: str
    """Path of the file."""
    line: int
    """As in `Quarantined`."""
    said: str
    """Digest of what was said, and by whom."""

    @property
    def order(self) -> tuple[object, ...]:
        """Earliest first; then by all that distinguishes two conversations, the place last of all."""
        one = self.clean
        time = (one.started_at is None, times.order(one.started_at))
        return (*time, one.conversation_id, one.user_id, self.said, one.model, one.language, one.flags, *self.place)

    @property
    def place(self) -> tuple[str, int]:
        """File and line."""
        return self.file, self.line


def placed(clean: Clean, file: str, line: int) -> Placed:
    """Put a conversation with its place; users without an id count as one."""
    user = "" if "no_user_id" in clean.flags else clean.user_id
    return Placed(clean, file, line, digest([user, clean.content()]))


def unique(found: Iterable[Placed]) -> tuple[list[Placed], list[Quarantined]]:
    """Keep one of each. The result depends on the conversations alone, not on the order in which they come."""
    by_words: dict[str, Placed] = {}
    by_id: dict[str, Placed] = {}
    kept, refused = list[Placed](), list[Quarantined]()
    for one in sorted(found, key=lambda one: (-len(one.clean.messages), one.order)):
        if (same := by_words.get(one.said)) is not None:
            refused.append(_refused(one, "duplicate", f"the same user said the same in {_at(same)}"))
        elif (same := by_id.get(one.clean.conversation_id)) is not None:
            refused.append(_refused(one, "duplicate_id", f"another conversation has its id: {_at(same)}"))
        else:
            by_words[one.said] = by_id[one.clean.conversation_id] = one
            kept.append(one)
    return kept, refused


def _at(one: Placed) -> str:
    return f"{one.clean.conversation_id} ({one.file}:{one.line})"


def _refused(one: Placed, reason: str, detail: str) -> Quarantined:
    return fault(one.file, one.line, reason, detail, f"{one.clean.conversation_id}: {one.clean.messages[0].content}")
