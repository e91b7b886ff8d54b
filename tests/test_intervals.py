"""Intervals: numbers worked by hand, and the true mean held as often as promised, for each kind of table."""
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from npkit.errors import NpkitError
from npkit.findings import intervals
from npkit.findings.intervals import interval, interval_over_seeds, one_level, prediction, two_way

SQUARE = np.array([[1.0, 2.0, 6.0], [3.0, 6.0, 12.0]])  # mean squares by hand: seeds 24, prefixes 26, rest 2


def test_one_level_is_students_t():
    found = interval([1.0, 2.0, 3.0])
    assert found == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841, 3), abs=1e-4)  # 4.3027 / sqrt(3)
    values = np.random.default_rng(0).normal(0.3, 1, 30)
    assert float(one_level(values).p_value()) == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert interval(values)[1:3] == pytest.approx(tuple(ttest_1samp(values, 0).confidence_interval()))


def test_two_way_by_hand():
    assert intervals.mean_squares(SQUARE) == pytest.approx((24.0, 26.0, 2.0))
    found = two_way(SQUARE)
    assert found.mean == 5
    assert found.variances == pytest.approx([24 / 6, 24 / 6])
    # t(1) = 12.706 for the seeds and t(2) = 4.303 for the prefixes, of equal weight
    half = (12.7062 + 4.3027) / 2 * np.sqrt(8)
    low, high = found.ends()
    assert (float(low), float(high)) == pytest.approx((5 - half, 5 + half), abs=1e-3)


def test_p_value_is_where_the_interval_ends_at_zero():
    found = two_way(SQUARE)
    low, _ = found.ends(1 - float(found.p_value()))
    assert float(low) == pytest.approx(0, abs=1e-6)


def test_prefixes_without_a_part_of_their_own_leave_students_t_over_seeds():
    table = np.array([[0.0, 2.0, 1.0], [3.0, 1.0, 5.0], [4.0, 6.0, 2.0]])
    _, by_prefix, both = intervals.mean_squares(table)
    assert by_prefix < both
    assert interval_over_seeds(table, crossed=True)[:3] == pytest.approx(interval_over_seeds(table)[:3])


def test_nested_studies_count_alike_whatever_their_size():
    table = pd.DataFrame({"a": [1.0, np.nan], "b": [3.0, np.nan], "c": [np.nan, 4.0], "d": [np.nan, 4.0],
                          "e": [np.nan, 4.0]})
    found = interval_over_seeds(table)
    assert (found.mean, found.num_seeds, found.num_prefixes, found.covers) == (3.0, 2, 2, intervals.NESTED)
    assert found.high - found.mean == pytest.approx(12.7062, abs=1e-3)  # t(1) times the error, which is 1
    assert str(found) == "+3.000 [-9.706, 15.706], 2 seeds x 2 prefixes"


def test_one_seed_says_that_the_training_is_not_covered():
    found = interval_over_seeds(np.array([[1.0, 2.0, 3.0]]))
    assert "not the training" in found.covers
    assert found[:3] == pytest.approx(interval([1.0, 2.0, 3.0])[:3])


@pytest.mark.parametrize("crossed", [False, True])
def test_a_constant_judge_has_no_width(crossed):
    zero, same = (interval_over_seeds(np.full((3, 4), value), crossed=crossed) for value in (0.0, 0.1))
    assert (zero[:3], zero.p) == ((0.0, 0.0, 0.0), 1.0)
    assert (same.low, same.high, same.p) == (same.mean, same.mean, 0.0)
    assert interval([0.1] * 5)[:3] == pytest.approx((0.1, 0.1, 0.1))


def test_a_prediction_is_wider_than_an_interval_of_the_mean():
    # s = 1 and S = 3: 4.3027 sqrt(1/3 + 1/new)
    assert prediction([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 4.9683, 2 + 4.9683), abs=1e-3)
    assert prediction([1.0, 2.0, 3.0], new=2)[2] == pytest.approx(2 + 3.9278, abs=1e-3)
    assert np.isnan(prediction([1.0])[1:]).all()


@pytest.mark.parametrize(("call", "words"), [
    (lambda: interval([1.0]), "at least two prefixes"),
    (lambda: interval([1.0, np.nan]), "1 of 2 gains are missing"),
    (lambda: interval_over_seeds([[1.0, np.inf], [0.0, 1.0]]), "1 of 4 gains are missing or infinite"),
    (lambda: interval_over_seeds([[1.0, 2.0], [np.nan, np.nan]]), "1 of 2 seeds have no gain at all"),
    (lambda: interval_over_seeds(pd.DataFrame({"a cat": [1.0, np.nan], "b": [1.0, 2.0]}), crossed=True),
     "1 of 4 are missing .first: seed 1, 'a cat'"),
    (lambda: interval_over_seeds([[1.0], [2.0]], crossed=True), "two seeds and two prefixes, got 2 x 1"),
    (lambda: interval_over_seeds([[1.0]]), "at least two values"),
    (lambda: interval_over_seeds(pd.DataFrame()), "no gain at all")])
def test_bad_tables_are_refused_in_one_sentence(call, words):
    with pytest.raises(NpkitError, match=words):
        call()


def held(found: intervals.Estimate) -> float:
    """Return how often the intervals hold the true mean, 0."""
    low, high = found.ends()
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_hold_the_true_mean_as_often_as_promised(seeds):
    """2,000 repetitions: a Monte Carlo error of 0.5 %."""
    rng = np.random.default_rng(seeds)
    training, prefix, both = (deviation * rng.standard_normal((2000, *shape)) for deviation, shape in (
        (0.2, (seeds, 1)), (1.0, (1, 40)), (0.8, (seeds, 40))))
    nested = training + both + 0.5 * rng.standard_normal((2000, seeds, 40))
    assert 0.93 < held(one_level(nested.mean(-1))) < 0.97
    assert 0.93 < held(two_way(training + prefix + both)) < 0.98
    assert held(one_level((training + prefix + both).mean(-1))) < 0.91  # shared prefixes, left out: too rarely
    assert held(one_level(nested.reshape(2000, -1))) < 0.85  # trainings left out


def test_the_interval_of_skewed_gains_holds_their_mean():
    values = np.random.default_rng(0).gamma(4, 1, (4000, 24)) - 4  # skewness 1, more than our gains have
    assert 0.93 < held(one_level(values)) < 0.96


def test_the_p_value_is_at_most_five_percent_as_often_as_promised():
    rng = np.random.default_rng(1)
    tables = 0.2 * rng.standard_normal((1000, 5, 1)) + rng.standard_normal((1000, 1, 30)) + rng.standard_normal(
        (1000, 5, 30))
    assert 0.02 < float((two_way(tables).p_value() <= 0.05).mean()) < 0.07
