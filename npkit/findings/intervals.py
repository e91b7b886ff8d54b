"""Intervals: the mean of some gains, and how far the mean of all that was not drawn may lie from it.

A study draws at random: the training (corpus, SFT and PPO depend on its seed), the test prefixes, the clauses or the
samples of each prompt, and the noise of the pictures. An interval covers what differs between the numbers that it is
made of, and nothing else:

* one training: `interval`, one number a prefix. It covers prefixes, draws and pictures; **not the training**.
* several studies, each with prefixes of its own (the five studies of README): `interval_over_seeds(table)`. The means
  of the studies are independent draws of all of this together, so Student's t over them covers all of it.
* several trainings judged on the same prefixes (the arms of an ablation): `interval_over_seeds(table, crossed=True)`.
  The trainings share their prefixes, so that Student's t over them would leave out the prefixes. A two-way analysis of
  variance covers both.

`benchmarks/intervals.py` measures how often these, three kinds of bootstrap and Satterthwaite's approximation hold the
true mean.
"""
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t

from npkit.errors import NpkitError
from npkit.findings.stats import Interval

ONE_TRAINING = "prefixes, draws and pictures of one training; not the training"
NESTED = "trainings, prefixes, draws and pictures"
CROSSED = "trainings, prefixes, draws and pictures, where the trainings share their prefixes"


class Estimate(NamedTuple):
    """A mean, and the independent parts of its variance (..., parts) with the degrees of freedom of each part."""
    mean: np.ndarray
    variances: np.ndarray
    df: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """The standard error of the mean."""
        return np.sqrt(self.variances.sum(-1))

    def quantile(self, tail: ArrayLike) -> np.ndarray:
        """Return Student's t beyond which a share `tail` lies; of several parts the mean, weighted by variance.

        The weighted mean is Cochran's (Cochran and Cox, Experimental Designs, 1957, section 4.14).
        """
        total = self.variances.sum(-1, keepdims=True)
        equal = np.full_like(self.variances, 1 / self.variances.shape[-1])
        weights = np.divide(self.variances, total, out=equal, where=total > 0)
        return (weights * t.isf(np.asarray(tail)[..., None], self.df)).sum(-1)

    def ends(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return both ends of the interval; where the error is 0 both are the mean."""
        half = self.quantile((1 - level) / 2) * self.error
        return self.mean - half, self.mean + half

    def p_value(self) -> np.ndarray:
        """Return the two-sided p-value of "the mean is 0"; where the error is 0 it is 1 for a mean of 0, else 0.

        It is the p at which the interval of level 1 - p ends at 0. One part has a formula; several are searched by
        halving.
        """
        far = np.where(self.mean == 0, 0.0, np.inf)
        ratio = np.divide(np.abs(self.mean), self.error, out=far, where=self.error > 0)
        each = t.sf(ratio[..., None], self.df)  # the parts' own tails hold the answer between them
        low, high = each.min(-1), each.max(-1)
        for _ in range(60 if len(self.df) > 1 else 0):
            middle = (low + high) / 2
            beyond = self.quantile(middle) > ratio
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return 2 * high


class SeedInterval(NamedTuple):
    """A mean over training seeds with its interval, and in words what the interval covers."""
    mean: float
    low: float
    high: float
    num_seeds: int
    num_prefixes: int  # of a seed; of the smallest where they differ
    p: float  # two-sided, of "the mean is 0", to be given to `comparisons.holm`
    covers: str

    def __str__(self) -> str:
        seeds = f"{self.num_seeds} seed{'s' * (self.num_seeds > 1)}"
        return f"{self.mean:+.3f} [{self.low:.3f}, {self.high:.3f}], {seeds} x {self.num_prefixes} prefixes"


def interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean of one number a prefix with its interval by Student's t.

    It covers the choice of prefixes, with the draw and the picture of each, of one training; not the training. On
    resampled gains of our studies Student's t holds the true mean more often than the percentile bootstrap at 24 and
    48 prefixes, and as often as the bootstrap-t, which needs a generator. For shares of 0 and 1 take
    `stats.win_rate`: its interval has a width where all are won. Where nearly all values are 0 or one is far from the
    others, no method is to be trusted below 100 values.
    """
    values = finite(values)
    if values.ndim != 1 or len(values) < 2:
        raise NpkitError(f"an interval needs one number for each of at least two prefixes, got shape {values.shape}")
    found = one_level(values)
    return Interval(float(found.mean), *map(float, found.ends(level)), len(values))


def interval_over_seeds(table: pd.DataFrame | ArrayLike, *, crossed: bool = False, level: float = 0.95) -> SeedInterval:
    """Return the mean gain over training seeds with its interval; `table` has a row a seed and a column a prefix.

    Average over the picture seeds of a prefix first. In a table of studies, each with its own prefixes, the cells of
    the others' prefixes are nan, and each seed counts alike. `crossed` says that all rows share their prefixes, in
    which case no cell may be nan. A difference between two arms is one too: pass the table of differences. A single
    row has the interval of its prefixes, and `covers` says that the training is not covered.
    """
    cells = pd.DataFrame(table).astype(float)
    counts = cells.notna().sum(axis=1)
    if cells.empty or not counts.all():
        raise NpkitError(f"{int((counts == 0).sum())} of {len(cells)} seeds have no gain at all: leave them out")
    finite(cells.to_numpy()[cells.notna().to_numpy()])
    if len(cells) == 1:
        found, covers = one_level(cells.iloc[0].dropna().to_numpy()), ONE_TRAINING
    elif crossed:
        found, covers = two_way(complete(cells).to_numpy()), CROSSED
    else:
        found, covers = one_level(cells.mean(axis=1).to_numpy()), NESTED
    low, high = found.ends(level)
    return SeedInterval(float(found.mean), float(low), float(high), len(cells), int(counts.min()),
                        float(found.p_value()), covers)


def prediction(values: ArrayLike, new: int = 1, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of one number a seed, and the ends between which the mean of `new` further seeds will fall.

    The interval of a mean says where the mean over all seeds may be; it need not hold what a few new seeds give, for
    they vary around that mean themselves. This one does: s sqrt(1/S + 1/new) in place of s sqrt(1/S), for S seeds of
    deviation s (Hahn and Meeker, Statistical Intervals, 1991, section 4.7). One seed has nan ends.
    """
    values = finite(values)
    if len(values) < 2:
        return float(values.mean()), float("nan"), float("nan")
    half = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) * np.sqrt(1 / len(values) + 1 / new)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def one_level(values: np.ndarray) -> Estimate:
    """Return the mean over the last axis of independent values, with the variance of that mean."""
    n = values.shape[-1]
    if n < 2:
        raise NpkitError(f"an interval needs at least two values, got {n}")
    spread = np.ptp(values, axis=-1) > 0  # of equal values the variance is 0, not what rounding makes of it
    variance = np.where(spread, values.var(-1, ddof=1), 0.0) / n
    return Estimate(values.mean(-1), variance[..., None], np.array([n - 1.0]))


def two_way(cells: np.ndarray) -> Estimate:
    """Return the mean of tables (..., seeds, prefixes) where both are random, with the variance of that mean.

    With the mean squares of the two-way analysis of variance, the seeds' part is MS_seeds / (seeds x prefixes), the
    prefixes' part (MS_prefixes - MS_both) / (seeds x prefixes), 0 where that is below 0. Each cell is a mean over
    draws and pictures, so that replications need no term of their own.
    """
    seeds, prefixes = cells.shape[-2:]
    if seeds < 2 or prefixes < 2:
        raise NpkitError(f"a crossed table needs at least two seeds and two prefixes, got {seeds} x {prefixes}")
    by_seed, by_prefix, both = mean_squares(cells)
    parts = np.stack([by_seed, np.maximum(0, by_prefix - both)], axis=-1) / (seeds * prefixes)
    varies = np.ptp(cells, axis=(-2, -1)) > 0
    return Estimate(cells.mean((-2, -1)), np.where(varies[..., None], parts, 0.0),
                    np.array([seeds - 1.0, prefixes - 1.0]))


def mean_squares(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean squares of tables (..., seeds, prefixes): of the seeds, the prefixes, and what is left."""
    seeds, prefixes = cells.shape[-2:]
    mean = cells.mean((-2, -1), keepdims=True)
    rows, columns = cells.mean(-1, keepdims=True) - mean, cells.mean(-2, keepdims=True) - mean
    rest = cells - mean - rows - columns
    return ((rows**2).sum((-2, -1)) * prefixes / (seeds - 1), (columns**2).sum((-2, -1)) * seeds / (prefixes - 1),
            (rest**2).sum((-2, -1)) / (seeds - 1) / (prefixes - 1))


def complete(cells: pd.DataFrame) -> pd.DataFrame:
    """Return a crossed table, or say which cell is missing."""
    if cells.isna().any(axis=None):
        seed, prefix = cells.isna().stack().idxmax()
        missing = int(cells.isna().sum().sum())
        raise NpkitError(f"a crossed table needs a gain of every seed for every prefix; {missing} of {cells.size} are "
                         f"missing (first: seed {seed}, {prefix!r})")
    return cells


def finite(values: ArrayLike) -> np.ndarray:
    """Return the values as an array; raise where one is missing or infinite, or where there is none."""
    values = np.asarray(values, dtype=float)
    if not values.size or not np.isfinite(values).all():
        raise NpkitError(f"{np.sum(~np.isfinite(values))} of {values.size} gains are missing or infinite")
    return values
