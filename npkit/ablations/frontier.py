"""Frontier: what the paid judge and the public say as a policy moves away from SFT, and the laws fitted to it."""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from npkit.ablations.laws import Fit, fit_law
from npkit.findings.across_seeds import mean_over_seeds, signed

BEST_OF_N = "best-of-n"


def points(rows: pd.DataFrame, arms: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per (arm, seed, place on the curve): KL in nats a text, and the mean gain by every judge."""
    chosen = rows[rows["arm"].isin(arms)] if len(arms) else rows
    columns = [name for name in rows if name.startswith("curve/") and name != "curve/update"]
    parts = [pd.DataFrame({name.removeprefix("curve/"): row[name] for name in columns}).assign(
        arm=row["arm"], seed=row["seed"]) for _, row in chosen.iterrows() if isinstance(row.get("curve/kl"), Sequence
                                                                                     | np.ndarray)]
    return pd.concat(parts, ignore_index=True)


def fits(table: pd.DataFrame, judge: str) -> dict[str, list[Fit]]:
    """Return for reinforcement learning and for best-of-n one fitted law a seed, of the gains by `judge`."""
    kinds = {"rl": table[table["arm"] != BEST_OF_N], "best-of-n": table[table["arm"] == BEST_OF_N]}
    return {kind: [fit_law(part["kl"], part[judge], kind) for _, part in found.groupby("seed")]
            for kind, found in kinds.items() if len(found)}


def fit_table(found: Mapping[str, Sequence[Fit]]) -> pd.DataFrame:
    """Return the laws as people read them: coefficients and peak over the seeds with 95 %, and the typical error."""
    rows = {}
    for kind, each in found.items():
        peaks = [fit.peak for fit in each if fit.peak <= fit.largest]  # one beyond the data is a guess; nan is none
        rows[kind] = {name: signed(*mean_over_seeds([getattr(fit, name) for fit in each])) for name in ("alpha", "beta")
                      } | {"peaks at d =": f"{np.median(peaks):.1f}" if peaks else "not within the data",
                           "seeds with a peak": f"{len(peaks)} of {len(each)}",
                           "residual": f"{np.mean([fit.residual for fit in each]):.2f}",
                           "largest d measured": f"{max(fit.largest for fit in each):.1f}"}
    return pd.DataFrame(rows).T.rename_axis("law")
