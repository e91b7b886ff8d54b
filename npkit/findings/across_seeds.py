"""Across seeds: the same study made several times from other seeds, and what its results have in common.

A seed decides the corpus, the split, SFT, PPO, the default clauses, the test prefixes and the pictures' noise. So the
results of two seeds are two independent draws of all that varies, and Student's t over the seeds covers all of it;
the interval of one study over its prefixes covers the choice of prefixes alone.
"""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import sem, t

from npkit.findings.variants import VARIANTS

CONTRAST = "ppo - sft"
Metrics = Mapping[str, float]  # of the stage `evaluation`, as its manifest holds them


def mean_over_seeds(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of one number a seed, with the ends of its interval by Student's t; nan ends for one seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    error = sem(values)
    if not error:  # all alike: an interval of no width, for which scipy gives nan
        return mean, mean, mean
    low, high = t.interval(level, len(values) - 1, loc=mean, scale=error)
    return mean, float(low), float(high)


def gain_table(found: Mapping[int, Metrics], judges: Sequence[str]) -> pd.DataFrame:
    """Return one row per (judge, variant): mean gain over the prefix and the ends of its interval over the seeds."""
    rows = [(judge, variant, *mean_over_seeds([metrics[f"{judge}_gain/{variant}"] for metrics in found.values()]))
            for judge in judges for variant in VARIANTS[1:]]
    return pd.DataFrame(rows, columns=["judge", "variant", "gain", "low", "high"])


def difference_table(found: Mapping[int, Metrics], judges: Sequence[str]) -> pd.DataFrame:
    """Return one row per (seed, judge) with `CONTRAST` and its interval over that study's prefixes."""
    name = CONTRAST.replace(" - ", "_minus_")
    rows = [(seed, judge, *(metrics[f"{name}/{judge}{end}"] for end in ("", "_low", "_high")))
            for seed, metrics in found.items() for judge in judges]
    return pd.DataFrame(rows, columns=["seed", "judge", "difference", "low", "high"])


def readable_gains(table: pd.DataFrame) -> pd.DataFrame:
    """Return a `gain_table` as people read it: variants down, judges across, "gain [95 %]" in each cell."""
    cells = table.assign(cell=[signed(row.gain, row.low, row.high) for row in table.itertuples()])
    wide = cells.pivot(index="variant", columns="judge", values="cell")
    return wide.loc[list(table["variant"].unique()), list(table["judge"].unique())].rename_axis(None, axis=1)


def readable_differences(table: pd.DataFrame) -> pd.DataFrame:
    """Return a `difference_table` as people read it: seeds down, judges across, then the mean, then the deviation."""
    columns = {}
    for judge, rows in table.groupby("judge", sort=False):
        cells = {str(row.seed): signed(row.difference, row.low, row.high) for row in rows.itertuples()}
        if len(rows) > 1:
            cells["mean"] = signed(*mean_over_seeds(rows["difference"]))
            cells["deviation"] = f"{rows['difference'].std():.2f}"
        columns[judge] = cells
    return pd.DataFrame(columns).rename_axis("seed")


def signed(value: float, low: float, high: float) -> str:
    """Return a difference and its interval as text; "constant" where a judge scored everything alike."""
    if np.isnan(low):
        return f"{value:+.2f}"
    return f"{value:+.2f} [{low:.2f}, {high:.2f}]" if value or low or high else "constant"
