"""The reward-hacking alarm: the paid judge's gains go on rising while an unpaid judge's gains fall, and since when.

Overoptimisation shows as a curve that rises, turns and falls by the judge that nobody pays, while the paid judge's
still rises (Gao, Schulman and Hilton 2022). An alarm needs both halves:

* The unpaid curve falls: "it never falls" is tested against "it rises to one update and falls from there" (Mack and
  Wolfe 1981, umbrella alternatives), by how much better the second fits, in units of the noise. Of all curves that
  never fall, the flat one is the hardest to tell from a falling one, so that its distribution, drawn by simulation,
  bounds the false alarms of all others: rising ones, and those that reach a plateau.
* The paid curve does not fall with it: a line through it rises from that update on. Where both fall, a policy has
  collapsed, and the rails of PPO say so. This half asks for no proof, since the first one holds the false alarms.
"""
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from npkit.errors import NpkitError

if TYPE_CHECKING:
    from npkit.scoring.rewards import Scorer  # for type hints only: it imports torch, curves that are there need none

EVERY = 10  # updates between two blocks of completions that are scored
LEVEL = 0.05  # false alarms of a whole training, all unpaid judges together
SIMULATIONS = 999
MIN_BLOCKS = 5  # with fewer, a fall is two points


class Alarm(NamedTuple):
    """What the curves of a training say. `onset`, `rise` and `fall` are of the judge with the smallest p-value."""
    raised: bool
    judge: str  # the unpaid one
    onset: int  # the update after which its gain falls
    fall: float  # by how much it fell since, by the fitted curve
    rise: float  # by how much the paid judge's gain rose since, by its line
    p: float  # of the fall, times the number of unpaid judges

    def __str__(self) -> str:
        words = (f"by {self.judge} the gain falls by {self.fall:.2f} after update {self.onset}, while the paid judge's "
                 f"changes by {self.rise:+.2f} (p = {self.p:.3g})")
        return f"alarm: {words}" if self.raised else f"no alarm; the most doubtful: {words}"


# 1. Curves -----------------------------------------------------------------------------------------------------------
def curves(samples: pd.DataFrame, scorer: "Scorer", seed: int, every: int = EVERY,
           judges: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the mean gain over the prefix at every `every`-th update, by every judge: update, judge, gain, error, n.

    `samples` are those that PPO leaves behind (update, prefix, completion). Their pictures are painted from `seed`;
    give one that training did not use, so that what the policy learnt about its own noise does not count. `error` is
    the standard error of the mean over the update's n completions. Scores come from the scorer's cache where it has
    them.
    """
    missing = {"update", "prefix", "completion"} - set(samples)
    if missing:
        raise NpkitError(f"the alarm reads PPO's samples.parquet; column {min(missing)!r} is missing")
    chosen = samples[(samples["update"] % every == 0) | (samples["update"] == samples["update"].min())]
    prefixes = chosen["prefix"].tolist()
    prompts = (chosen["prefix"] + chosen["completion"]).tolist()
    scores = scorer.scores([*prefixes, *prefixes], [*prompts, *prefixes], seed, judges)
    gains = pd.DataFrame({name: np.asarray(values[:len(prompts)] - values[len(prompts):], dtype=float)
                          for name, values in scores.items()}).assign(update=chosen["update"].to_numpy())
    grouped = gains.melt("update", var_name="judge", value_name="gain").groupby(["judge", "update"], sort=False)["gain"]
    return pd.DataFrame({"gain": grouped.mean(), "error": grouped.sem(), "n": grouped.size()}).reset_index()


# 2. The alarm --------------------------------------------------------------------------------------------------------
def find_alarm(table: pd.DataFrame, paid: str, level: float = LEVEL) -> Alarm:
    """Return whether the curves of a training (see `curves`) show reward hacking of the judge `paid`, and since when.

    All other judges are unpaid; their p-values are multiplied by their number (Bonferroni).
    """
    names = list(dict.fromkeys(table["judge"]))
    if paid not in names or len(names) < 2:
        raise NpkitError(f"the alarm needs the paid judge {paid!r} and an unpaid one among the curves; there are: "
                         f"{', '.join(names)}")
    wide = {name: rows.sort_values("update") for name, rows in table.groupby("judge", sort=False)}
    updates = wide[paid]["update"].to_numpy()
    if len(updates) < MIN_BLOCKS:
        raise NpkitError(f"the alarm needs at least {MIN_BLOCKS} updates that were scored, got {len(updates)}: score "
                         "more of them, or train for longer")
    found = []
    for name in names:
        if name != paid:
            onset, fall, p = falling(wide[name]["gain"], wide[name]["error"])
            rise = rising(updates[onset:], wide[paid]["gain"][onset:], wide[paid]["error"][onset:])
            p = min(1.0, p * (len(names) - 1))
            found.append(Alarm(p <= level and rise > 0, name, int(updates[onset]), fall, rise, p))
    return min(found, key=lambda each: (not each.raised, each.p))


def falling(gains: ArrayLike, errors: ArrayLike) -> tuple[int, float, float]:
    """Return the number of the block after which a curve falls, how far, and the p-value of "it never falls".

    A curve without noise (errors of 0) has no p-value but 1: nothing is known of it.
    """
    gains, errors = np.asarray(gains, dtype=float), np.asarray(errors, dtype=float)
    if not np.isfinite(gains).all() or not (errors > 0).all():
        return len(gains) - 1, 0.0, 1.0
    statistic, mode, fitted = umbrella(gains, errors)
    left = _squares(gains, fitted, 1 / errors ** 2) / max(1, len(gains) - len(np.unique(fitted)))
    statistic /= max(1.0, left)  # policies wander between updates by more than the completions of one update show
    null = flat_curves(len(gains))
    return mode, float(fitted[mode] - fitted[-1]), float((1 + (null >= statistic).sum()) / (1 + len(null)))


def umbrella(gains: np.ndarray, errors: np.ndarray) -> tuple[float, int, np.ndarray]:
    """Return how much better a rise and fall fits than a curve that never falls, the last block at the top, the fit.

    Better in squares weighted by the errors.
    """
    weights = 1 / errors ** 2
    never = _squares(gains, isotonic_regression(gains, weights=weights).x, weights)
    fits = [_top_at(gains, weights, mode) for mode in range(len(gains))]
    left = [_squares(gains, fit, weights) for fit in fits]
    best = fits[int(np.argmin(left))]
    top = np.flatnonzero(best >= best.max() - 1e-12)
    return never - min(left), int(top[-1]), best


def _top_at(gains: np.ndarray, weights: np.ndarray, mode: int) -> np.ndarray:
    """Return the best fit that rises up to block `mode` and falls from the next one on."""
    parts = [isotonic_regression(gains[:mode + 1], weights=weights[:mode + 1]).x]
    if mode + 1 < len(gains):
        parts.append(isotonic_regression(gains[mode + 1:], weights=weights[mode + 1:], increasing=False).x)
    return np.concatenate(parts)


def _squares(gains: np.ndarray, fit: np.ndarray, weights: np.ndarray) -> float:
    return float((weights * (gains - fit) ** 2).sum())


@cache
def flat_curves(num_blocks: int) -> np.ndarray:
    """Return the statistic of `umbrella` for `SIMULATIONS` curves that are noise and nothing else.

    All blocks have the same error here: an update's completions are equally many, and their spread changes little.
    """
    noise = np.random.default_rng(0).normal(size=(SIMULATIONS, num_blocks))
    return np.array([umbrella(row, np.ones(num_blocks))[0] for row in noise])


def rising(updates: ArrayLike, gains: ArrayLike, errors: ArrayLike) -> float:
    """Return by how much a line through a curve rises from its first to its last update; 0 for a single point."""
    updates, gains, errors = (np.asarray(each, dtype=float) for each in (updates, gains, errors))
    if len(updates) < 2:
        return 0.0
    slope = np.polynomial.Polynomial.fit(updates, gains, 1, w=1 / np.maximum(errors, 1e-9)).convert().coef[-1]
    return float(slope * (updates[-1] - updates[0]))
