"""Intervals, win rates and sign flips: numbers worked by hand, and intervals that cover what they promise."""
import numpy as np
import pytest

from npkit.errors import NpkitError
from npkit.findings import stats


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_bootstrap_of_two_values_has_the_two_values_as_ends(rng):
    # The mean of two draws from {0, 1} is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: 2.5 % and 97.5 % are 0 and 1.
    assert stats.paired_bootstrap([0, 1], rng) == stats.Interval(0.5, 0.0, 1.0, 2)
    # The middle 40 % lies inside the half of the resamples whose mean is 1/2.
    assert stats.paired_bootstrap([0, 1], rng, level=0.4) == stats.Interval(0.5, 0.5, 0.5, 2)


def test_gains_are_paired_by_prefix_and_seed_and_averaged_over_seeds():
    scores = {("a cat", 0): 3.0, ("a cat", 1): 5.0, ("a dog", 0): 1.0}
    baseline = {("a dog", 0): 0.5, ("a cat", 1): 1.0, ("a cat", 0): 2.0}
    assert stats.paired_gains(scores, baseline) == {"a cat": 2.5, "a dog": 0.5}


def test_bootstrap_agrees_with_the_normal_interval(rng):
    differences = rng.normal(0.3, 1, 400)
    found = stats.paired_bootstrap(differences, rng, samples=5000)
    half = 1.96 * differences.std() / np.sqrt(400)
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.01)


def test_bootstrap_depends_on_the_generator_alone():
    differences = np.arange(30.0)
    first, again, other = (stats.paired_bootstrap(differences, np.random.default_rng(s), 500) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_large_samples_are_resampled_in_batches(rng, monkeypatch):
    monkeypatch.setattr(stats, "MAX_CELLS", 100)
    assert stats.paired_bootstrap(np.ones(60), rng, samples=50) == stats.Interval(1, 1, 1, 60)
    assert stats.sign_flip_p(np.ones(60), rng, samples=50) == pytest.approx(1 / 51)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_intervals_cover_the_true_mean(rng, draw):
    """Of 300 studies with 60 prefixes about 95 % catch the true mean; the binomial noise of that share is 1.3 %."""
    covered = 0
    for _ in range(300):
        sample = rng.normal(1, 1, 60) if draw == "normal" else rng.exponential(1, 60)
        found = stats.paired_bootstrap(sample, rng, samples=400)
        covered += found.low <= 1 <= found.high
    assert 0.89 <= covered / 300 <= 0.99


def test_win_rate_counts_a_tie_as_half():
    # 8 wins of 10: Wilson's interval as printed in textbooks, [0.490, 0.943].
    found = stats.win_rate([1] * 8 + [0] * 2, [0.5] * 10)
    assert found == pytest.approx((0.8, 0.4902, 0.9433, 10), abs=1e-4)
    assert stats.win_rate([1, 2, 0, 5], [1, 1, 1, 5]).mean == 0.5  # tie, win, loss, tie


def test_win_rate_of_a_clean_sweep_is_still_uncertain():
    found = stats.win_rate([1, 1, 1, 1], [0, 0, 0, 0])
    assert found.high == pytest.approx(1)
    assert found.low == pytest.approx(0.5101, abs=1e-4)  # 4 / (4 + 1.96 ** 2)


def test_sign_flips_of_three_equal_differences(rng):
    # Only 2 of the 8 sign patterns (+++ and ---) are as extreme as ours: p = 1/4, exactly.
    assert stats.sign_flip_p([1, 1, 1], rng) == 0.25
    assert stats.sign_flip_p([1, 1, 1, 0.5], rng, samples=16) == 0.125
    assert stats.sign_flip_p([1] * 20, rng, samples=1000) == pytest.approx(1 / 1001)  # drawn: 1,000 of a million
    assert stats.sign_flip_p([1, -1, 2, -2], rng) == 1.0  # a mean of 0 is the least extreme there is


def test_sign_flips_reject_five_percent_of_true_nulls(rng):
    rejected = np.mean([stats.sign_flip_p(rng.normal(0, 1, 20), rng, 200) < 0.05 for _ in range(400)])
    assert 0.02 <= rejected <= 0.09


def test_effect_size_is_in_standard_deviations():
    assert stats.effect_size([1, 2, 3]) == pytest.approx(2.0)
    assert np.isnan(stats.effect_size([1, 1, 1]))


@pytest.mark.parametrize(("values", "words"), [([1.0], "at least two"), ([[1.0, 2.0]], r"shape \(1, 2\)"),
                                               ([1.0, float("nan")], "1 of 2 scores are missing")])
def test_bad_scores_are_refused_in_one_sentence(rng, values, words):
    with pytest.raises(NpkitError, match=words):
        stats.paired_bootstrap(values, rng)


def test_a_mean_of_few_values_says_how_few():
    rng = np.random.default_rng(0)
    assert stats.mean_text([], rng) == "none, n=0"
    assert stats.mean_text([True], rng) == "1.000, n=1: no interval"
    assert stats.mean_text([2.0, 2.0], rng) == "2.000 [2.000, 2.000], n=2"
