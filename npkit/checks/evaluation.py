"""Exercise checks of notebook 06_evaluation: each names the likely slip in pairing, resampling or counting."""
import numpy as np

from npkit.checks import exercise


@exercise
def check_gains(student) -> str:
    """Exercise 6.1. Return "6.1 to do" or "6.1 passed"; raise AssertionError with a hint."""
    scores = {("a cat", 0): 3.0, ("a cat", 1): 5.0, ("a dog", 0): 1.0, ("a dog", 1): 2.0}
    baseline = {("a dog", 0): 0.5, ("a dog", 1): 1.0, ("a cat", 0): 1.0, ("a cat", 1): 1.0}
    got = student(scores, baseline)
    assert isinstance(got, dict), f"return a dictionary from prefix to gain, not {type(got).__name__}"
    if ("a cat", 0) in got:
        raise AssertionError("Two pictures of a prefix are not two prefixes: average a prefix's gains over its seeds.")
    slips = {(3.25, 0.5): "The dictionaries list the prefixes in different orders: pair by the key, not by position.",
             (-3.0, -0.75): "The sign is turned: a gain is the variant's score minus the baseline's.",
             (6.0, 1.5): "These are sums over the seeds: take the mean, or a prefix with more pictures counts more.",
             (4.0, 1.0): "One seed alone is left of each prefix: did a later one overwrite it? Average over all.",
             (2.0, 0.5): "One seed alone is left of each prefix: average over all of its seeds."}
    if (hint := slips.get((got.get("a cat"), got.get("a dog")))) is not None:
        raise AssertionError(hint)
    expected = {"a cat": 3.0, "a dog": 0.75}
    assert got == expected, f"expected {expected}, got {got}"
    got = student({("an owl", seed): score for seed, score in enumerate((1.0, 2.0, 6.0))},
                  {("an owl", seed): 1.0 for seed in range(3)})
    assert got == {"an owl": 2.0}, f"three seeds with the gains 0, 1 and 5 have the mean 2, got {got}"
    return "6.1 passed"


@exercise
def check_bootstrap_interval(student) -> str:
    """Exercise 6.2. Return "6.2 to do" or "6.2 passed"; raise AssertionError with a hint."""
    differences = np.random.default_rng(1).normal(0.5, 1.0, 64)
    low, high = student(differences, np.random.default_rng(0), 2000)
    width = (high - low) / (2 * 1.96 * differences.std() / 8)  # 1 for a right interval, as the normal formula shows
    if width < 0.01:
        raise AssertionError("Every resample has the same mean: draw prefixes WITH replacement.")
    if width > 4:
        raise AssertionError("Far too wide: take the quantiles of the resampled MEANS, not of the values themselves.")
    if 0.79 < width < 0.89:
        raise AssertionError("These ends hold the middle 90 %: for 95 % cut off 2.5 % on either side.")
    assert 0.9 < width < 1.1, f"the interval is {width:.2f} times as wide as it should be"
    assert low < differences.mean() < high, f"the mean {differences.mean():.2f} lies outside [{low:.2f}, {high:.2f}]"
    (low, high), again, other, one = (tuple(student(differences, np.random.default_rng(seed), samples))
                                      for seed, samples in ((0, 50), (0, 50), (1, 50), (0, 1)))
    assert (low, high) == again, "The same seed gives another interval each time: draw with `rng` alone."
    assert (low, high) != other, "Every seed gives the same interval: draw with the `rng` that is given."
    assert np.isclose(*one), f"One resample (samples = 1) has one mean: draw `samples` resamples, got {one}"
    low, _ = student(np.array([0.0] * 7 + [1.0]), np.random.default_rng(0), 2000)
    assert np.isclose(8 * low, np.round(8 * low)), (
        f"of seven zeros and a 1 every resample has a mean in eighths, your low end is {low:.3f}: take the quantiles "
        "of the resampled means, not their mean and deviation")
    return "6.2 passed"


@exercise
def check_win_rate(student) -> str:
    """Exercise 6.3. Return "6.3 to do" or "6.3 passed"; raise AssertionError with a hint."""
    scores, baseline = np.array([2.0, 1.0, 3.0, 0.0, 5.0]), np.array([1.0, 1.0, 3.0, 4.0, 4.0])  # win tie tie loss win
    got = student(scores, baseline)
    assert np.ndim(got) == 0, f"return one number, the share of the prefixes, not shape {np.shape(got)}"
    slips = {0.4: "A tie is not a loss: two equal pictures share the point.",
             0.8: "A tie is not a win: two equal pictures share the point.",
             2 / 3: "Ties are dropped: keep them in the count and give each half a point."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 0.6), f"expected 0.6, got {got}"
    return "6.3 passed"


@exercise
def check_alarm(student) -> str:
    """Exercise 6.4. Return "6.4 to do" or "6.4 passed"; raise AssertionError with a hint."""
    paid = np.array([1.0, -1, 2, 2, 2, 2, -1, 1, 1, 1, -1, 2])
    unpaid = np.array([[-2.0, -1, 1, -1, -1, -1, -1, 1, -2, 1, 2, -1], [2.0, -1, 2, -2, -1, 1, -1, -2, 1, 1, -2, 2]])
    got = student(paid, unpaid)
    assert np.ndim(got) == 0, f"return one number, the share of the prefixes, not shape {np.shape(got)}"
    slips = {2 / 12: "One unpaid judge that falls is enough: did you ask for all of them?",
             4 / 12: "Ask every unpaid judge by itself: in a mean, one judge can drown another.",
             6 / 12: "You asked the first unpaid judge alone: any row may ring the alarm.",
             7 / 9: "Divide by all prefixes, not by those where the paid judge rises.",
             1 / 12: "Turned round: count where the PAID judge rises and another falls, not the reverse.",
             8 / 12: "These are disagreements of either kind: the paid judge must RISE.",
             10 / 12: "The paid judge must RISE: you count all prefixes on which an unpaid judge falls.",
             9 / 24: "Count prefixes, not pairs of a prefix and a judge: any(axis=0)."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 7 / 12), f"expected {7 / 12:.3f}, got {got:.3f}"
    got = student(np.array([0.0, 1.0, 1.0, 1.0]), np.array([[-1.0, 0.0, -1.0, 1.0]]))
    assert np.isclose(got, 1 / 4), f"a gain of 0 neither rises nor falls: expected 0.25, got {got:.3f}"
    return "6.4 passed"


@exercise
def check_gain_at_equal_length(student) -> str:
    """Exercise 6.5. Return "6.5 to do" or "6.5 passed"; raise AssertionError with a hint."""
    extra_words = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    extra_gain = 0.5 + 0.25 * extra_words + np.array([0.1, -0.1, 0.0, -0.1, 0.1])
    slope, start = np.polyfit(extra_words, extra_gain, 1)
    got = student(extra_words, extra_gain)
    assert np.ndim(got) == 0, f"return one number, the gain where no words are extra, not shape {np.shape(got)}"
    slips = {slope: "This is the slope, what one more word brings: return where the line stands at no extra words.",
             extra_gain.mean(): "This is the mean gain, words and all: fit a line and read it at no extra words.",
             np.polyfit(extra_gain, extra_words, 1)[1]: "The axes are swapped: words are x, the gain is y.",
             (extra_gain * extra_words).sum() / (extra_words**2).sum():
                 "This line was forced through zero: let it begin where it likes, that is what you are asked for."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, start), f"expected {start:.3f}, got {got:.3f}"
    return "6.5 passed"
