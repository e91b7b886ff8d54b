"""Exercise checks of notebook 07_ablations: each names the likely slip in units, corrections, signs or laws."""
import numpy as np
from scipy.stats import sem, t

from npkit.checks import exercise

UNPAIRED = ("The two arms of a seed share its prefixes and pictures: subtract within the seed first, then look at the "
            "spread of the differences.")
UNIT = ("Your unit is the prefix. All prefixes of a seed share one training, so they are not independent: average them "
        "first, one number a seed.")
DEVIATION = ("np.std divides by the number of seeds; with `ddof=1` by one less, which makes up for the mean being "
             "estimated from the same seeds.")
SPREAD = "This is the spread of single seeds: that of their mean is smaller by the square root of their number."
NORMAL = "1.96 belongs to many seeds: with few, Student's t has wider tails (`t.ppf`)."
ONE_SIDED = "These ends hold 90 %: 2.5 % lie on either side, so ask for 0.975."
FREEDOM = "The degrees of freedom are one less than the number of seeds."


@exercise
def check_seed_interval(student) -> str:
    """Exercise 7.1. Return "7.1 to do" or "7.1 passed"; raise AssertionError with a hint."""
    rng = np.random.default_rng(7)
    easy, luck = rng.normal(1, 2, (4, 1)), rng.normal(0, 0.3, (2, 4, 1))
    arm, baseline = easy + luck + rng.normal(0, 1, (2, 4, 9)) + np.array([0.8, 0]).reshape(2, 1, 1)
    got = student(arm, baseline)
    assert np.shape(got) == (3,), f"return three numbers, mean, low and high, not shape {np.shape(got)}"
    mean, low, high = map(float, got)
    by_seed = (arm - baseline).mean(axis=1)
    if np.isclose(mean, -by_seed.mean()):
        raise AssertionError("The sign is turned: a difference is the arm minus the baseline.")
    assert np.isclose(mean, by_seed.mean()), f"the mean difference is {by_seed.mean():.3f}, got {mean:.3f}"
    assert high > low, "the low end comes before the high one: return mean, low, high"
    assert np.isclose(low + high, 2 * mean), f"the mean {mean:.3f} is not the middle of [{low:.3f}, {high:.3f}]"
    reach, right = (high - low) / 2, t.ppf(0.975, 3) * sem(by_seed)
    for slip, hint in reaches_of_slips(arm, baseline):
        if np.isclose(reach, slip):
            raise AssertionError(hint)
    assert np.isclose(reach, right), f"the interval should reach {right:.3f} to either side, not {reach:.3f}"
    return "7.1 passed"


def reaches_of_slips(arm: np.ndarray, baseline: np.ndarray) -> list[tuple[float, str]]:
    """Return how far the interval of each slip reaches to either side, with its hint."""
    differences, seeds = arm - baseline, len(arm)
    by_seed, by_prefix, last = differences.mean(axis=1), differences.mean(axis=0), seeds - 1
    apart = np.hypot(sem(arm.mean(axis=1)), sem(baseline.mean(axis=1)))
    return [(t.ppf(0.975, last) * apart, UNPAIRED), (t.ppf(0.975, 2 * last) * apart, UNPAIRED),
            (t.ppf(0.975, differences.size - 1) * sem(differences, axis=None), UNIT),
            (t.ppf(0.975, len(by_prefix) - 1) * sem(by_prefix), UNIT),
            (t.ppf(0.975, last) * by_seed.std() / np.sqrt(seeds), DEVIATION),
            (t.ppf(0.975, last) * by_seed.std(ddof=1), SPREAD), (1.96 * sem(by_seed), NORMAL),
            (t.ppf(0.95, last) * sem(by_seed), ONE_SIDED), (t.ppf(0.975, seeds) * sem(by_seed), FREEDOM)]


DIVIDED = ("A line through gain / d lets near points count more than far ones: fit the gain itself, with the columns d "
           "and -d times the penalty.")
BONFERRONI = ("This is Bonferroni's correction: only the smallest is multiplied by the number of all, the next by one "
              "less, and so on.")
FALSE_FINDS = ("This controls the share of false finds (Benjamini and Hochberg): Holm multiplies by how many p-values "
               "are left, and divides by nothing.")
SLIPS_OF_HOLM = (
    ([0.005, 0.048, 0.06, 0.08, 0.3], "Sorted: each corrected p-value goes back to the place that it came from."),
    ([0.2, 0.005, 1.0, 0.06, 0.1], BONFERRONI), ([0.2, 0.005, 1.5, 0.06, 0.1], BONFERRONI),
    ([0.16, 0.001, 1.5, 0.024, 0.06], "The factors run the wrong way: the SMALLEST p-value gets the largest one."),
    ([0.05, 0.005, 0.3, 0.03, 0.1 / 3], FALSE_FINDS),
    ([0.12, 0.006, 0.6, 0.06, 0.08], "Each factor is one too large: the smallest of m is multiplied by m."),
    ([0.04, 0.004, 0.0, 0.036, 0.04], "Each factor is one too small: the largest p-value is multiplied by 1."))


@exercise
def check_holm(student) -> str:
    """Exercise 7.2. Return "7.2 to do" or "7.2 passed"; raise AssertionError with a hint."""
    given, right = [0.04, 0.001, 0.3, 0.012, 0.02], [0.08, 0.005, 0.3, 0.048, 0.06]
    got = list(map(float, student(list(given))))
    assert len(got) == 5, f"return one corrected p-value for each given one, got {len(got)}"
    for slip, hint in SLIPS_OF_HOLM:
        if np.allclose(got, slip):
            raise AssertionError(hint)
    assert np.allclose(got, right), f"of {given} expected {right}, got {got}"
    given, right = [0.011, 0.01, 0.6, 0.9], [0.04, 0.04, 1.0, 1.0]
    got = list(map(float, student(list(given))))
    if np.isclose(got[0], 0.033):
        raise AssertionError("0.011 became smaller than 0.01 did: go from the smallest up, and let none fall below the "
                             "one before it.")
    assert max(got) <= 1, f"a p-value is never above 1, got {max(got):.2f}: cut it there"
    assert np.allclose(got, right), f"of {given} expected {right}, got {got}"
    return "7.2 passed"


@exercise
def check_interaction(student) -> str:
    """Exercise 7.3. Return "7.3 to do" or "7.3 passed"; raise AssertionError with a hint."""
    got = student(0.1, 0.6, 0.4, 1.5)
    assert np.ndim(got) == 0, f"of four numbers return one number, not shape {np.shape(got)}"
    slips = {1.4: "This is what both clauses bring together: take off what each brings alone.",
             0.2: "This compares the two clauses with each other: the interaction asks what they do TOGETHER.",
             -0.6: "The sign is turned: an interaction is above 0 where both bring MORE than each alone.",
             0.5: "`both` holds the gain of no clause once, `one` and `other` hold it twice: give it back once.",
             0.4: "`one` and `other` still hold the gain of no clause: a clause alone brings one - none, other - none.",
             0.3: "Half of it: some books halve it; in this course the interaction is the whole difference.",
             0.8: "This is the mean effect of the first clause, with the other and without: SUBTRACT the two.",
             0.7: "This is the mean effect of the second clause, with the first and without: SUBTRACT the two."}
    for slip, hint in slips.items():
        if np.isclose(got, slip):
            raise AssertionError(hint)
    assert np.isclose(got, 0.6), f"expected 0.6, got {got}"
    got = student(*(np.array([value, 0.0]) for value in (0.1, 0.6, 0.4, 1.5)))
    assert np.shape(got) == (2,), "of four arrays return an array, one interaction a prefix: neither float() nor sum()"
    return "7.3 passed"


@exercise
def check_fit_law(student) -> str:
    """Exercise 7.4. Return "7.4 to do" or "7.4 passed"; raise AssertionError with a hint."""
    kl, gain = np.array([0.25, 1.0, 2.25, 4.0, 6.25]), np.array([0.6, 0.8, 1.3, 1.2, 1.4])
    d = np.sqrt(kl)
    for kind, penalty in (("best-of-n", d), ("rl", np.log(d))):
        got = student(kl.copy(), gain.copy(), kind)
        assert np.shape(got) == (2,), f"return two numbers, alpha and beta, not shape {np.shape(got)}"
        right = least_squares(d, gain, penalty)
        for slip, hint in slips_of_law(kl, gain, kind, right):
            if np.allclose(got, slip):
                raise AssertionError(hint)
        assert np.allclose(got, right), f"of {kind} expected alpha {right[0]:.3f} and beta {right[1]:.3f}, got {got}"
    return "7.4 passed"


def least_squares(d: np.ndarray, gain: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Return alpha and beta of d (alpha - beta penalty) by least squares."""
    return np.linalg.lstsq(np.stack([d, -d * penalty], 1), gain)[0]


def slips_of_law(kl: np.ndarray, gain: np.ndarray, kind: str, right: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """Return what each slip gives for alpha and beta, with its hint."""
    d = np.sqrt(kl)
    own, others = (d, np.log(d)) if kind == "best-of-n" else (np.log(d), d)
    slope, start = np.polyfit(own, gain / d, 1)
    line, top = np.polyfit(own, gain, 1)
    curve = np.polyfit(d, gain, 2)
    return [(right * [1, -1], "beta has the wrong sign: the law SUBTRACTS beta times the penalty."),
            (right[::-1], "Return alpha first, then beta."),
            (least_squares(kl, gain, kl if kind == "best-of-n" else np.log(kl)),
             "The distance d is the square ROOT of the KL."),
            (least_squares(d, gain, others), "This is the other kind's law: best-of-n has beta d, rl beta log d."),
            (np.array([start, -slope]), DIVIDED),
            (np.array([top, -line]), "The law has a factor d in front: its columns are d and -d times the penalty."),
            (np.array([curve[1], -curve[0]]), "At d = 0 nothing is gained: fit without a constant term.")]
