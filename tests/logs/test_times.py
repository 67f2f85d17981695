"""Times in the forms that logs have."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhi.logs.times import normalise, order


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2025-04-23 19:38:37", "2025-04-23T19:38:37Z"),
        ("2025-04-23T19:38:37Z", "2025-04-23T19:38:37Z"),
        ("2025-04-23T21:38:37+02:00", "2025-04-23T19:38:37Z"),
        ("2025-04-23 19:38:37 UTC", "2025-04-23T19:38:37Z"),
        ("2025-04-23T19:38:37.25", "2025-04-23T19:38:37.250000Z"),
        ("2025-04-23T19:38:37.123456789Z", "2025-04-23T19:38:37.123456Z"),
        ("2025-04-23", "2025-04-23T00:00:00Z"),
        (1_000_000_000, "2001-09-09T01:46:40Z"),
        (1_000_000_000.5, "2001-09-09T01:46:40.500000Z"),
        (1_000_000_000_000, "2001-09-09T01:46:40Z"),
        (1_000_000_000_000_000, "2001-09-09T01:46:40Z"),
        (1_000_000_000_000_000_000, "2001-09-09T01:46:40Z"),
        ("1000000000", "2001-09-09T01:46:40Z"),
        (datetime(2025, 4, 23, 19, 38, 37), "2025-04-23T19:38:37Z"),
        (datetime(2025, 4, 23, 21, 38, 37, tzinfo=timezone(timedelta(hours=2))), "2025-04-23T19:38:37Z"),
        (date(2025, 4, 23), "2025-04-23T00:00:00Z"),
    ],
)
def test_absolute_times(written: Any, meant: str) -> None:
    assert normalise(written) == (meant, False)


def test_pandas_nanoseconds_are_cut() -> None:
    pandas = pytest.importorskip("pandas")
    assert normalise(pandas.Timestamp("2025-04-23T19:38:37.000000001"))[0] == "2025-04-23T19:38:37Z"


@pytest.mark.parametrize("written", [None, ""])
def test_no_time(written: Any) -> None:
    assert normalise(written) == (None, False)


@pytest.mark.parametrize(
    "wrong", ["yesterday", "23/04/2025", "nan", -1, float("nan"), float("inf"), 10**400, 1e300, True, [], {}, b"2025"]
)
def test_what_is_no_time_is_said_to_be_none(wrong: Any) -> None:
    with pytest.raises(ValueError, match="time"):
        normalise(wrong)


@given(st.lists(st.floats(0, 90_000), min_size=2))
def test_offsets_keep_their_order(offsets: list[float]) -> None:
    told = [normalise(offset) for offset in sorted(offsets)]
    assert all(relative for _, relative in told)
    times = [order(time) for time, _ in told]
    assert times == sorted(times)


@given(
    st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)), st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1))
)
def test_order_is_that_of_time(one: datetime, other: datetime) -> None:
    told = [order(normalise(moment.isoformat())[0]) for moment in (one, other)]
    assert (told[0] < told[1]) == (one < other)
    again = normalise(normalise(one.isoformat())[0])[0]
    assert again is not None and datetime.fromisoformat(again) == one.replace(tzinfo=UTC)


def test_order_within_a_second() -> None:
    assert order(None) < order("2025-04-23T19:38:37Z") < order("2025-04-23T19:38:37.500000Z")
