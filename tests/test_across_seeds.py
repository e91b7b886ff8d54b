"""Across seeds: means and intervals worked by hand, and an interval that covers as often as it says."""
import numpy as np
import pytest

from npkit.findings import across_seeds
from npkit.findings.variants import VARIANTS


def metrics_of(gain: float) -> dict[str, float]:
    gains = {f"oracle_gain/{variant}": gain + 0.1 * number for number, variant in enumerate(VARIANTS[1:])}
    return gains | {"ppo_minus_sft/oracle": gain, "ppo_minus_sft/oracle_low": gain - 1,
                    "ppo_minus_sft/oracle_high": gain + 1}


def test_the_interval_of_three_seeds_is_students():
    mean, low, high = across_seeds.mean_over_seeds([1.0, 2.0, 3.0])
    assert (mean, round(high - mean, 3)) == (2.0, 2.484)  # 4.303 of Student's t, times 1 / sqrt(3)
    assert mean - low == pytest.approx(high - mean)


def test_the_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.7, 0.3, (1000, 5))
    covered = [low <= 0.7 <= high for _, low, high in map(across_seeds.mean_over_seeds, draws)]
    assert 0.93 < np.mean(covered) < 0.97


def test_seeds_that_agree_have_an_interval_of_no_width():
    assert across_seeds.mean_over_seeds([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert across_seeds.signed(*across_seeds.mean_over_seeds([0.0, 0.0])) == "constant"


def test_one_seed_has_no_interval():
    table = across_seeds.gain_table({0: metrics_of(1.0)}, ["oracle"])
    assert across_seeds.readable_gains(table).loc["human", "oracle"] == "+1.00"
    assert list(across_seeds.readable_differences(
        across_seeds.difference_table({0: metrics_of(1.0)}, ["oracle"])).index) == ["0"]


def test_tables_hold_every_variant_and_every_seed():
    found = {seed: metrics_of(gain) for seed, gain in {0: 1.0, 3: 2.0, 5: 3.0}.items()}
    gains = across_seeds.readable_gains(across_seeds.gain_table(found, ["oracle"]))
    assert list(gains.index) == list(VARIANTS[1:])
    assert gains.loc["human", "oracle"] == "+2.00 [-0.48, 4.48]"
    differences = across_seeds.readable_differences(across_seeds.difference_table(found, ["oracle"]))
    assert differences["oracle"].tolist() == ["+1.00 [0.00, 2.00]", "+2.00 [1.00, 3.00]", "+3.00 [2.00, 4.00]",
                                              "+2.00 [-0.48, 4.48]", "1.00"]


def test_a_judge_that_scores_everything_alike_says_so():
    assert across_seeds.signed(0.0, 0.0, 0.0) == "constant"
