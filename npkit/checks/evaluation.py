"""Exercise checks of notebook 06_evaluation: each names the likely slip in pairing, resampling or counting."""
import numpy as np


def check_gains(student) -> str:
    """Exercise 6.1. Return "6.1 to do" or "6.1 passed"; raise AssertionError with a hint."""
    scores, baseline = {"a cat": 3.0, "a dog": 1.0, "a fox": 2.0}, {"a dog": 0.5, "a fox": 2.5, "a cat": 1.0}
    try:
        got = student(scores, baseline)
    except NotImplementedError:
        return "6.1 to do"
    assert isinstance(got, dict), f"return a dictionary from prefix to gain, not {type(got).__name__}"
    if list(got.values()) == [2.5, -1.5, 1.0]:
        raise AssertionError("The dictionaries list the prefixes in different orders: pair by prefix, not by position.")
    if got == {"a cat": -2.0, "a dog": -0.5, "a fox": 0.5}:
        raise AssertionError("The sign is turned: a gain is the variant's score minus the baseline's.")
    expected = {"a cat": 2.0, "a dog": 0.5, "a fox": -0.5}
    assert got == expected, f"expected {expected}, got {got}"
    return "6.1 passed"


def check_bootstrap_interval(student) -> str:
    """Exercise 6.2. Return "6.2 to do" or "6.2 passed"; raise AssertionError with a hint."""
    differences = np.random.default_rng(1).normal(0.5, 1.0, 64)
    try:
        low, high = student(differences, np.random.default_rng(0), 2000)
    except NotImplementedError:
        return "6.2 to do"
    width = (high - low) / (2 * 1.96 * differences.std() / 8)  # 1 for a right interval, as the normal formula shows
    if width < 0.01:
        raise AssertionError("Every resample has the same mean: draw prefixes WITH replacement.")
    if width > 4:
        raise AssertionError("Far too wide: take the quantiles of the resampled MEANS, not of the values themselves.")
    if 0.79 < width < 0.89:
        raise AssertionError("These ends hold the middle 90 %: for 95 % cut off 2.5 % on either side.")
    assert 0.9 < width < 1.1, f"the interval is {width:.2f} times as wide as it should be"
    assert low < differences.mean() < high, f"the mean {differences.mean():.2f} lies outside [{low:.2f}, {high:.2f}]"
    return "6.2 passed"


def check_win_rate(student) -> str:
    """Exercise 6.3. Return "6.3 to do" or "6.3 passed"; raise AssertionError with a hint."""
    scores, baseline = np.array([2.0, 1.0, 3.0, 0.0, 5.0]), np.array([1.0, 1.0, 3.0, 4.0, 4.0])  # win tie tie loss win
    try:
        got = student(scores, baseline)
    except NotImplementedError:
        return "6.3 to do"
    slips = {0.4: "A tie is not a loss: two equal pictures share the point.",
             0.8: "A tie is not a win: two equal pictures share the point.",
             2 / 3: "Ties are dropped: keep them in the count and give each half a point."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 0.6), f"expected 0.6, got {got}"
    return "6.3 passed"


def check_fooled(student) -> str:
    """Exercise 6.4. Return "6.4 to do" or "6.4 passed"; raise AssertionError with a hint."""
    judged, true = np.array([1.0, 2.0, 1.0, -1.0, -2.0, 1.0, -1.0, -3.0]), np.array([-1.0, 1.0, -2.0, 1, 1, 1, -1, 1])
    try:
        got = student(judged, true)
    except NotImplementedError:
        return "6.4 to do"
    slips = {5 / 8: "These are all disagreements: a fooled judge RISES while the oracle falls.",
             3 / 8: "Turned round: count where the judge rises and the oracle falls, not the reverse.",
             2 / 4: "Divide by all prefixes, not by those where the judge rises."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 2 / 8), f"expected 0.25, got {got}"
    return "6.4 passed"
