"""Interactions: which clauses help beside which, from the gains under every subset of the categories.

The subsets of six categories are a full factorial design: the effect of a category is the mean, over the subsets of the
others, of the gain with it less the gain without it; the interaction of two is the mean, over the subsets of the other
four, of what both together gain more than each alone (Box, Hunter and Hunter, "Statistics for Experimenters").
"""
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from npkit.findings.across_seeds import mean_over_seeds
from npkit.text.keywords import CATEGORIES

Subset = frozenset[str]


def subset_of(arm: str) -> Subset:
    """Return the categories that an arm such as "style + vibe" demands; "none" demands none."""
    return frozenset(() if arm == "none" else arm.split(" + "))


def effect(gains: Mapping[Subset, float], chosen: Sequence[str]) -> float:
    """Return the effect of one category, or the interaction of several, from the gain of every subset."""
    others = [name for name in CATEGORIES if name not in chosen]
    values = []
    for size in range(len(others) + 1):
        for rest in combinations(others, size):
            values += [sum((-1) ** (len(chosen) - count) * gains[frozenset((*rest, *part))]
                           for count in range(len(chosen) + 1) for part in combinations(chosen, count))]
    return float(np.mean(values))


def effect_table(rows: pd.DataFrame, judge: str) -> pd.DataFrame:
    """Return one row per category and per pair: its effect on the gain by `judge` over the seeds, with 95 %.

    Seeds that have not all subsets are left out.
    """
    by_seed = []
    for _, part in rows.groupby("seed"):
        gains = {subset_of(row["arm"]): float(np.mean(row[f"gain/{judge}"])) for _, row in part.iterrows()}
        if len(gains) == 2 ** len(CATEGORIES):
            by_seed.append(gains)
    found = [(one, other, *mean_over_seeds([effect(gains, [*dict.fromkeys((one, other))]) for gains in by_seed]))
             for number, one in enumerate(CATEGORIES) for other in CATEGORIES[number:]] if by_seed else []
    return pd.DataFrame(found, columns=["one", "other", "effect", "low", "high"])


def conflicts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs whose interaction's interval lies below 0: together they give less than apart."""
    pairs = table[table["one"] != table["other"]]
    return pairs[pairs["high"] < 0].sort_values("effect")


def matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Return the effects as a square: a category's own on the diagonal, the interactions beside it."""
    wide = table.pivot(index="one", columns="other", values="effect").reindex(index=CATEGORIES, columns=CATEGORIES)
    return wide.fillna(wide.T)
