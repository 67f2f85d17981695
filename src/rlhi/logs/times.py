"""Times as logs write them, brought to one form: ISO 8601 in UTC, `2025-04-23T19:38:37Z`.

A number of 100 000 000 or more is an epoch time, in seconds, milliseconds, microseconds or nanoseconds by its size. A
smaller number cannot be the time of a chat with a model: it is an offset in seconds from a moment that the log does
not tell (RealHumanEval counts from the start of a user's session). It is written as a time from 1970-01-01T00:00:00Z
on, so that a user's conversations keep their order, and the conversation is flagged `relative_time`: its date means
nothing. Where a conversation has a real time beside such offsets in its messages, it began at the real one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

FIRST_EPOCH = 1e8
"""Seconds; 3 March 1973."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (_EPOCH + timedelta(seconds=FIRST_EPOCH)).strftime("%Y-%m-%dT%H:%M:%S")
_TOO_LARGE = 1e19
"""Nanoseconds; the year 2286."""
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (FIRST_EPOCH, 1.0), (0.0, 1.0))


def normalise(value: Any) -> tuple[str | None, bool]:
    """Return a time as ISO 8601 in UTC (null for null and ""), and whether it was only an offset.

    A time without a zone is taken as UTC; microseconds are written where there are some. Raises `ValueError` for what
    is no time.
    """
    if value is None or value == "":
        return None, False
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no time")
    if isinstance(value, int | float):
        return _from_number(value)
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, datetime):
        return _iso(value), False
    if isinstance(value, date):
        return _iso(datetime(value.year, value.month, value.day)), False
    raise ValueError(f"a time is text or a number, got {type(value).__name__}")


def order(time: str | None) -> str:
    """Sort key of a time in our form, none first: as text, `…37.5Z` would stand before `…37Z`."""
    return (time or "").removesuffix("Z")


def is_offset(time: str) -> bool:
    """Whether a time in our form stands for a mere offset."""
    return order(time) < _FIRST


def _iso(moment: datetime) -> str:
    if type(moment) is not datetime:  # pandas writes nanoseconds
        moment = datetime.combine(moment.date(), moment.time(), moment.tzinfo)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat() + "Z"


def _from_number(number: float) -> tuple[str, bool]:
    if not 0 <= number < _TOO_LARGE:
        raise ValueError(f"{str(number)[:60]} is no time")
    divisor = next(divisor for least, divisor in _UNITS if number >= least)
    return _iso(_EPOCH + timedelta(seconds=number / divisor)), number < FIRST_EPOCH


def _from_text(text: str) -> tuple[str, bool]:
    number = _number(text)
    if number is not None and number >= FIRST_EPOCH:
        return _from_number(number)
    try:
        return _iso(datetime.fromisoformat(text.removesuffix(" UTC"))), False
    except (ValueError, OverflowError):
        if number is None:
            raise ValueError(f"{text[:60]!r} is no ISO 8601 time and no number") from None
        return _from_number(number)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
