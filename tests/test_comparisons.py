"""Comparisons: Holm by hand, the numbers that rliable prints, and wins, ties and losses apart."""
import numpy as np
import pytest

from npkit.errors import NpkitError
from npkit.findings.comparisons import holm, interquartile_mean, probability_of_improvement, win_tie_loss
from npkit.findings.intervals import one_level

RUNS = np.array([[0.5, 1.0, 2.0], [1.5, 1.0, 0.0], [2.5, 3.0, 1.0]])
OTHERS = np.array([[0.0, 1.0, 1.0], [1.0, 2.0, 3.0]])


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.04, times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04; none may be below the one before it
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)  # ties stay tied
    assert holm([]).tolist() == []


def test_holm_keeps_the_chance_of_any_false_rejection():
    """28 true hypotheses whose tests share a part, 5 seeds: without Holm one is rejected in most repetitions."""
    rng = np.random.default_rng(0)
    p_values = one_level(rng.standard_normal((600, 28, 5)) + rng.standard_normal((600, 1, 5))).p_value()
    assert np.mean([row.min() <= 0.05 for row in p_values]) > 0.4
    assert np.mean([holm(row).min() <= 0.05 for row in p_values]) <= 0.05 + 2 * 0.009


@pytest.mark.parametrize("wrong", [[0.1, float("nan")], [1.1], [-0.1, 0.2], [[0.1, 0.2]]])
def test_what_is_no_list_of_p_values_is_refused(wrong):
    with pytest.raises(NpkitError, match="p-values from 0 to 1"):
        holm(wrong)


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean([0, 1, 2, 3, 4, 5, 6, 1000]) == 3.5  # of 2, 3, 4, 5
    assert interquartile_mean(RUNS) == pytest.approx(1.3)  # as rliable 1.2.0: aggregate_iqm


def test_probability_of_improvement_is_rliables():
    assert probability_of_improvement(RUNS, OTHERS) == pytest.approx(0.52777777)  # as rliable 1.2.0, ties a half
    assert probability_of_improvement([[1.0, 2.0, 3.0]], [[0.0, 2.0, 5.0]]) == 0.5  # win, tie, loss
    assert probability_of_improvement(OTHERS, OTHERS) == 0.5
    with pytest.raises(NpkitError, match=r"same tasks, got shapes \(3, 3\) and \(2,\)"):
        probability_of_improvement(RUNS, [1.0, 2.0])


def test_wins_ties_and_losses_are_told_apart():
    found = win_tie_loss([2, 2, 2, 2, 1, 1, 1, 0, 0, 0], [1] * 10)
    assert [share.mean for share in found] == [0.4, 0.3, 0.3]
    assert found.win[1:] == pytest.approx((0.1682, 0.6873, 10), abs=1e-4)  # Wilson's interval of 4 of 10
    assert str(found) == "win 0.40 [0.17, 0.69], tie 0.30 [0.11, 0.60], loss 0.30 [0.11, 0.60], n=10"
    constant = win_tie_loss([0.0] * 4, [0.0] * 4)
    assert (constant.win.mean, constant.tie.mean, constant.tie.high) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("values", [[1.0, float("nan")], []])
def test_missing_scores_are_refused(values):
    with pytest.raises(NpkitError, match="missing or infinite"):
        win_tie_loss(values, values)
    with pytest.raises(NpkitError, match="missing or infinite"):
        interquartile_mean(values)
