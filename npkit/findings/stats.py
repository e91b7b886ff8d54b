"""Statistics of paired scores: intervals by bootstrap, win rates, sign-flip tests, effect sizes.

The two scores of one prefix are compared with each other, so every function works on one number per prefix.
Average over picture seeds first: two pictures of one prefix are not two independent observations.
"""
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from npkit.errors import NpkitError

Pair = tuple[str, int]  # a prefix and the seed that its pictures start from
MAX_CELLS = 10_000_000  # resampled numbers held in memory at a time: 80 MB, whatever the number of prefixes


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval and the number of prefixes behind it."""
    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}], n={self.n}"


def paired_gains(scores: Mapping[Pair, float], baseline: Mapping[Pair, float]) -> dict[str, float]:
    """Return prefix -> mean gain over its picture seeds; both arguments map (prefix, seed) to a score."""
    found: dict[str, list[float]] = {}
    for (prefix, seed), score in scores.items():
        found.setdefault(prefix, []).append(score - baseline[prefix, seed])
    return {prefix: float(np.mean(differences)) for prefix, differences in found.items()}


def paired_bootstrap(differences: ArrayLike, rng: np.random.Generator, samples: int = 2000,
                     level: float = 0.95) -> Interval:
    """Return the mean of `differences` (one per prefix) with its percentile bootstrap interval.

    Prefixes are drawn with replacement `samples` times; the interval holds the middle `level` of the resampled
    means (Efron's percentile method, as in `scipy.stats.bootstrap`; for means of 30 or more it needs no correction).
    """
    values = _checked(differences)
    found = stats.bootstrap((values,), np.mean, n_resamples=samples, batch=max(1, MAX_CELLS // len(values)),
                            confidence_level=level, method="percentile", rng=rng).confidence_interval
    return Interval(float(values.mean()), float(found.low), float(found.high), len(values))


def mean_text(values: ArrayLike, rng: np.random.Generator) -> str:
    """Return the mean with its bootstrap interval as text; where there are fewer than two values, say how many."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return f"{values.mean():.3f}, n=1: no interval" if len(values) else "none, n=0"
    return str(paired_bootstrap(values, rng))


def win_rate(scores: ArrayLike, baseline: ArrayLike, level: float = 0.95) -> Interval:
    """Return the share of prefixes where `scores` beats `baseline`, a tie counting half, with Wilson's interval.

    Wilson's interval stays inside [0, 1] and keeps a width when every prefix is won, where a bootstrap has none.
    """
    wins = _checked((np.sign(np.subtract(scores, baseline)) + 1) / 2)  # 1, 1/2, 0: `binomtest` has no halves
    share, n = float(wins.mean()), len(wins)
    z = stats.norm.ppf((1 + level) / 2)
    centre, spread = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(share, float((centre - spread) / (1 + z**2 / n)), float((centre + spread) / (1 + z**2 / n)), n)


def sign_flip_p(differences: ArrayLike, rng: np.random.Generator, samples: int = 10_000) -> float:
    """Return the two-sided p-value of "the differences are as likely negative as positive".

    Every difference keeps its size and gets a random sign `samples` times; the p-value is the share of draws whose
    mean is at least as far from 0 as the one observed, which is counted among them, so that the share is never 0.
    Where all combinations of signs are no more than `samples`, they are counted instead of drawn, and p is exact.
    """
    values = _checked(differences)
    found = stats.permutation_test(
        (values,), _distance_from_zero, permutation_type="samples", n_resamples=samples, alternative="greater",
        batch=max(1, MAX_CELLS // len(values)), rng=rng)
    return float(found.pvalue)


def _distance_from_zero(values: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(values.mean(axis))


def effect_size(differences: ArrayLike) -> float:
    """Return the mean difference over the standard deviation of the differences (Cohen's d for pairs)."""
    values = _checked(differences)
    return float(values.mean() / values.std(ddof=1)) if values.std() else float("nan")


def _checked(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise NpkitError(f"an interval needs one number for each of at least two prefixes, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise NpkitError(f"{np.sum(~np.isfinite(values))} of {len(values)} scores are missing or infinite")
    return values
