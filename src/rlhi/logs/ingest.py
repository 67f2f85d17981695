"""Logs in, clean and split conversations out; what could not be used, and why, beside them."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from rlhi.logs import languages, readers
from rlhi.logs.clean import clean
from rlhi.logs.duplicates import Placed, placed, unique
from rlhi.logs.files import rows
from rlhi.logs.gather import mapped
from rlhi.logs.readers.base import RawMessage
from rlhi.logs.rows import Row, printable
from rlhi.logs.split import split
from rlhi.recipe import Logs
from rlhi.records import Conversation, Message, Quarantined, Role

STEP = 1000
"""Records that one call of `on_progress` tells of."""
_MESSAGE = set(Message.model_fields)
_CONVERSATION = set(Conversation.model_fields)


@dataclass(frozen=True)
class Ingested:
    """What became of the logs: `read == len(conversations) + len(rows of quarantined with line > 0)`."""

    conversations: list[Conversation]
    """Clean and split, by user, time (none first) and id."""
    quarantined: list[Quarantined]
    """What could not be used, by file and line. Line 0 = a whole file without one readable record."""
    read: int
    """Records met: lines, elements or rows, and the branches that a row's tree has beside its conversation; where each
    row is a message, conversations. The piece at which a stream breaks off counts as one."""
    reasons: dict[str, int]
    """Entries of `quarantined` by reason, most frequent first."""
    users: int
    """Users among the conversations."""


@contextmanager
def _collector_paused() -> Iterator[None]:
    """All that is read stays alive: the collector would walk it again and again, which took half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_collector_paused()
def ingest(settings: Logs, seed: int, on_progress: Callable[[int], None] | None = None) -> Ingested:
    """Read, clean and split the logs of a recipe.

    `on_progress` is told of so many more records that were read, `Ingested.read` in all. The result depends on the
    content of the files, `settings` and `seed` alone. Raises `UsageError` for a path, a format or a language that there
    is not, or for a mapping file that does not fit them.
    """
    formats = readers.chosen(settings)
    languages.check(settings.languages)
    found: list[Placed] = []
    quarantined: list[Quarantined] = []
    read = told = 0

    def columns(present: Collection[str]) -> Collection[str]:
        return {name for reader in formats for name in reader.columns(present)}

    source = rows(settings.paths, columns)
    for reader in formats:
        if isinstance(reader, readers.MappedReader):
            source = mapped(source, reader)
    for row in source:
        for one in _each(row, formats, settings) if isinstance(row, Row) else (row,):
            read += one.line > 0
            if isinstance(one, Placed):
                found.append(one)
            else:
                quarantined.append(one)
        if on_progress and read - told >= STEP:
            on_progress(read - told)
            told = read
    kept, refused = unique(found)
    quarantined = sorted([*quarantined, *refused], key=lambda q: (q.file, q.line))
    conversations = _split(kept, settings, seed)
    if on_progress and read > told:
        on_progress(read - told)
    return Ingested(
        conversations=conversations,
        quarantined=quarantined,
        read=read,
        reasons=dict(sorted(Counter(q.reason for q in quarantined).items(), key=lambda item: (-item[1], item[0]))),
        users=len({conversation.user_id for conversation in conversations}),
    )


def _each(row: Row, formats: tuple[readers.Reader, ...], settings: Logs) -> Iterator[Placed | Quarantined]:
    """Read and clean one row: its conversation, and what else it holds; a reader that fails costs this row alone."""
    if not isinstance(row.data, dict):
        yield row.fault("not_an_object", f"a record is a JSON object, got {type(row.data).__name__}")
        return
    asides: list[readers.BadRecord] = []
    try:
        reader = readers.detect(formats, row.data)
        raw = reader.read(row.data)
        asides = raw.asides
        if raw.user_id is None and isinstance(reader, readers.OwnedReader):
            raw.user_id, known = reader.owner(row.file)
            raw.flags |= set() if known else {"unknown_owner"}
        yield placed(clean(raw, settings), row.file, row.line)
    except readers.BadRecord as bad:
        yield row.fault(bad.reason, bad.detail)
    except Exception as error:
        yield row.fault("reader_error", f"{type(error).__name__}: {error}")
    for aside in asides:
        yield row.fault(aside.reason, aside.detail)


def _split(kept: list[Placed], settings: Logs, seed: int) -> list[Conversation]:
    """The records; they are built without validation, since cleaning has made each field what the record wants."""
    source = {id(one.clean): printable(f"{one.file}:{one.line}") for one in kept}
    return [
        Conversation.model_construct(
            _CONVERSATION,
            conversation_id=one.conversation_id,
            user_id=one.user_id,
            started_at=one.started_at,
            language=one.language,
            model=one.model,
            source=source[id(one)],
            split=part,
            messages=tuple(_message(message) for message in one.messages),
            flags=one.flags,
        )
        for one, part in split((one.clean for one in kept), settings, seed)
    ]


def _message(raw: RawMessage) -> Message:
    role = cast(Role, raw.role)  # cleaning has left out `tool`
    return Message.model_construct(_MESSAGE, role=role, content=raw.content, timestamp=raw.timestamp)
