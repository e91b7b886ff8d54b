"""Comparisons of many systems: Holm's correction, and measures that do not hang on a few extreme scores."""
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, mannwhitneyu, trim_mean

from npkit.errors import NpkitError
from npkit.findings.stats import Interval


def holm(p_values: ArrayLike) -> np.ndarray:
    """Return Holm's adjusted p-values, in the order given.

    If each hypothesis with an adjusted p of at most 0.05 is rejected, one that is true is rejected with a chance of at
    most 5 %, whatever the tests have to do with each other (Holm, Scandinavian Journal of Statistics 6, 1979). scipy
    has Benjamini and Hochberg alone, which bounds another thing (the share of false ones among the rejected). Four
    lines of our own are fewer than a dependency on statsmodels, with whose `multipletests` they agree.
    """
    values = np.asarray(p_values, dtype=float)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise NpkitError(f"Holm's correction takes a list of p-values from 0 to 1, got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))  # the smallest p times their number
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def interquartile_mean(scores: ArrayLike) -> float:
    """Return the mean of the middle half of all scores, of any shape: the lowest and highest quarters are left out.

    Same number as `rliable`'s `aggregate_iqm` (Agarwal et al. 2021, arXiv 2108.13264), which makes the same call of
    scipy. `rliable` itself is no dependency: it brings arch, statsmodels and absl for this call and for an interval by
    percentile bootstrap over the runs, which holds the true mean too rarely at three to five runs
    (`benchmarks/intervals.py`). For an interval, pass each seed's interquartile mean to `across_seeds.mean_over_seeds`.
    """
    return float(trim_mean(checked(scores), 0.25, axis=None))


def probability_of_improvement(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Return how probable it is that a run of `scores` beats a run of `baseline` on a task, a tie counting half.

    Both are tables (runs, tasks); runs are trainings, which are not paired, and tasks are the same for both, such as
    judges, or prefixes that all trainings share. Of each task all pairs of runs are compared (the U of Mann and
    Whitney), and the tasks are averaged. Same number as `rliable`'s function of this name. With one run it is the win
    rate over the tasks.
    """
    ours, theirs = checked(scores), checked(baseline)
    if ours.ndim != 2 or theirs.ndim != 2 or ours.shape[1] != theirs.shape[1]:
        raise NpkitError(f"scores and baseline are tables (runs, tasks) of the same tasks, got shapes {ours.shape} and "
                         f"{theirs.shape}")
    wins = mannwhitneyu(ours, theirs, axis=0, method="asymptotic").statistic  # the method is of a p that we do not use
    return float(np.mean(wins) / len(ours) / len(theirs))


class WinTieLoss(NamedTuple):
    """The shares of prefixes that are won, tied and lost, each with its interval; the shares sum to 1."""
    win: Interval
    tie: Interval
    loss: Interval

    def __str__(self) -> str:
        shares = (f"{name} {share.mean:.2f} [{share.low:.2f}, {share.high:.2f}]"
                  for name, share in self._asdict().items())
        return f"{', '.join(shares)}, n={self.win.n}"


def win_tie_loss(scores: ArrayLike, baseline: ArrayLike, level: float = 0.95) -> WinTieLoss:
    """Return the shares of prefixes where `scores` is above, equal to and below `baseline`, by Wilson's intervals.

    Ties are frequent where a variant adds nothing to some prefixes: `stats.win_rate`, which counts a tie half, is 0.5
    both for two variants that always tie and for two that win in turns; here they differ. The intervals cover the
    choice of prefixes, not the training.
    """
    signs = np.sign(checked(scores) - checked(baseline))
    if signs.ndim != 1:
        raise NpkitError(f"win rates need one number a prefix, got shape {signs.shape}")
    return WinTieLoss(*(share(int((signs == sign).sum()), len(signs), level) for sign in (1, 0, -1)))


def share(count: int, n: int, level: float) -> Interval:
    """Return `count` of `n` as a share with Wilson's interval."""
    ends = binomtest(count, n).proportion_ci(level, method="wilson")
    return Interval(count / n, float(ends.low), float(ends.high), n)


def checked(scores: ArrayLike) -> np.ndarray:
    """Return the scores as an array; raise where one is missing or infinite, or where there is none."""
    values = np.asarray(scores, dtype=float)
    if not values.size or not np.isfinite(values).all():
        raise NpkitError(f"{np.sum(~np.isfinite(values))} of {values.size} scores are missing or infinite")
    return values


def own_baseline(arm: str, baseline: str) -> str:
    """Return the baseline that an arm is compared with: the one of its own group, where names are "group: arm".

    So "tastes 1: ppo" is compared with "tastes 1: sft" where the baseline is "tastes 0: sft": gains by two publics are
    on two scales.
    """
    group, colon, _ = arm.partition(": ")
    return f"{group}: {baseline.partition(': ')[2]}" if colon and ": " in baseline else baseline
