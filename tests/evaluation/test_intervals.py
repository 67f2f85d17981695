"""Intervals hold the truth as often as they claim to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhi.evaluation.intervals import difference_interval, win_rate_interval


def interval(users: list[tuple[float, float]], resamples: int = 400, seed: int = 0) -> tuple[float, float]:
    sums, counts = (np.array(column, dtype=np.float64) for column in zip(*users, strict=True))
    return win_rate_interval(sums, counts, resamples, np.random.default_rng(seed))


def test_one_user_says_nothing_of_others() -> None:
    assert interval([(9, 10)]) == (0.0, 1.0)


def test_users_who_are_all_alike_count_once_each() -> None:
    """Wilson's interval for 20 of 20: 20 / (20 + 1.96²) to 1; for 2 of 4 it is 0.5 ± 0.35."""
    low, high = interval([(7, 7)] * 20)
    assert low == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6) and high == 1
    low, high = interval([(3, 6)] * 4)
    assert (low, high) == pytest.approx((0.150, 0.850), abs=1e-3)


def test_more_turns_of_the_same_users_do_not_narrow_the_interval() -> None:
    few = interval([(1, 2), (2, 2), (1, 2), (0, 2), (2, 2), (1, 2)])
    many = interval([(100, 200), (200, 200), (100, 200), (0, 200), (200, 200), (100, 200)])
    assert many == pytest.approx(few, abs=1e-9)


def test_more_users_do() -> None:
    users = [(4.0, 6.0), (2.0, 5.0), (6.0, 6.0), (3.0, 6.0), (5.0, 7.0)]
    widths = [high - low for low, high in (interval(users * times) for times in (1, 4, 16))]
    assert widths[0] > 1.5 * widths[1] > 2.25 * widths[2] > 0


def test_it_mirrors_when_wins_become_losses() -> None:
    users = [(4.0, 6.0), (2.0, 5.0), (6.0, 6.0), (3.0, 6.0), (5.0, 7.0), (1.0, 2.0)]
    low, high = interval(users, resamples=20_000)
    other = interval([(n - s, n) for s, n in users], resamples=20_000)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), min_size=1, max_size=30))
def test_it_lies_in_0_to_1_and_holds_the_win_rate(users: list[tuple[int, int]]) -> None:
    clusters = [(min(won, of) / 1.0, float(of)) for won, of in users]
    low, high = interval(clusters, resamples=100)
    rate = sum(s for s, _ in clusters) / sum(n for _, n in clusters)
    assert 0 <= low <= rate + 1e-12 and rate - 1e-12 <= high <= 1


def coverage(users: int, rate: float, spread: float, evaluations: int, rng: np.random.Generator) -> float:
    """Share of simulated evaluations whose interval holds the true rate.

    Each user has a taste of their own (beta-distributed with intra-class correlation `spread`), a number of turns of
    their own (geometric, mean 7), and ties on a fifth of them.
    """
    a, b = rate * (1 - spread) / spread, (1 - rate) * (1 - spread) / spread
    held = 0
    for _ in range(evaluations):
        counts = rng.geometric(0.15, users)
        ties = rng.binomial(counts, 0.2)
        sums = rng.binomial(counts - ties, rng.beta(a, b, users)) + 0.5 * ties
        low, high = win_rate_interval(sums, counts.astype(np.float64), 500, rng)
        held += low <= 0.8 * rate + 0.1 <= high
    return held / evaluations


def test_coverage_is_near_95_percent() -> None:
    """500 evaluations: 95 % ± 2.6 points at 99 % confidence of the simulation itself."""
    assert 0.92 <= coverage(25, 0.7, 0.15, 500, np.random.default_rng(1)) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(("users", "rate", "spread"), [(15, 0.5, 0.1), (15, 0.7, 0.2), (25, 0.7, 0.2), (40, 0.85, 0.1)])
def test_coverage_over_many_evaluations(users: int, rate: float, spread: float) -> None:
    """4000 evaluations: the simulation's own error is below 1 point."""
    assert 0.93 <= coverage(users, rate, spread, 4000, np.random.default_rng(2)) <= 0.97


def of_differences(users: list[tuple[float, float]], resamples: int = 400) -> tuple[float, float]:
    sums, counts = (np.array(column, dtype=np.float64) for column in zip(*users, strict=True))
    return difference_interval(sums, counts, resamples, np.random.default_rng(0))


def test_a_difference_of_one_user_says_nothing_and_like_users_count_once_each() -> None:
    """Of 20 users up to 1.96² / (20 + 1.96²) may be unlike the ones seen, by up to 2."""
    assert of_differences([(3, 10)]) == (-1, 1)
    unlike = 1.959964**2 / (20 + 1.959964**2)
    assert of_differences([(5, 5)] * 20) == pytest.approx((1 - 2 * unlike, 1), abs=1e-6)
    assert of_differences([(0, 5)] * 20) == pytest.approx((-unlike, unlike), abs=1e-6)
    assert of_differences([(-5, 5)] * 20) == pytest.approx((-1, -1 + 2 * unlike), abs=1e-6)


def test_two_users_who_nearly_agree_prove_no_difference() -> None:
    low, high = of_differences([(39, 50), (40, 50)])
    assert low < 0 < 0.79 < high <= 1


def test_a_difference_is_as_sure_as_the_win_rate_it_maps_to() -> None:
    """(d + 1) / 2 lies in 0 to 1: on the same draws the interval of one maps to that of the other."""
    users = [(won, 7.0) for won in (3.0, 5.0, 2.0, 6.0, 4.0, 1.0, 5.0, 3.5, 2.5, 6.5, 4.5, 0.5)]
    low, high = interval(users)
    assert of_differences([(2 * won - of, of) for won, of in users]) == pytest.approx((2 * low - 1, 2 * high - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(1, 8)), min_size=1, max_size=30))
def test_a_difference_lies_in_its_interval(users: list[tuple[int, int]]) -> None:
    clusters = [(float(max(-of, min(of, won))), float(of)) for won, of in users]
    low, high = of_differences(clusters, resamples=100)
    mean = sum(s for s, _ in clusters) / sum(n for _, n in clusters)
    assert -1 <= low <= mean + 1e-12 and mean - 1e-12 <= high <= 1


def test_the_difference_is_covered_near_95_percent() -> None:
    """500 evaluations of 25 users, each with a taste for the own persona and one for another's: 95 % ± 2.6 points."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(500):
        counts = rng.geometric(0.15, 25)
        ours, wrong = (rng.binomial(counts, rng.beta(8 * rate, 8 * (1 - rate), 25)) for rate in (0.8, 0.55))
        low, high = difference_interval((ours - wrong).astype(np.float64), counts.astype(np.float64), 500, rng)
        held += low <= 0.25 <= high
    assert 0.92 <= held / 500 <= 0.98
