"""Tables: the whole analysis of every cast, written into an artifact, and its numbers as metrics."""
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from npkit.preferences import analysis

VALUES = {"win_rates": ("win_rate", "meeting", "rate"), "strengths": ("strength", "variant", "strength"),
          "judges": ("agreement", "judge", "agreement")}  # table -> name of the metric, what it is of, its column


def analyse(casts: Mapping[str, pd.DataFrame], scores: pd.DataFrame, order: Sequence[str], samples: int, seed: int
            ) -> dict[str, dict[str, pd.DataFrame]]:
    """Return table -> cast -> rows: win rates, strengths, alpha, biases and the judges' agreement with every cast."""
    rng = np.random.default_rng(seed)
    parts = {"win_rates": lambda votes: analysis.win_rates(votes, order),
             "strengths": lambda votes: analysis.strengths(votes, rng, samples, order),
             "alpha": lambda votes: analysis.alpha(votes, rng),
             "biases": analysis.biases,
             "judges": lambda votes: analysis.judge_agreement(votes, scores)}
    return {name: {cast: part(votes) for cast, votes in casts.items()} for name, part in parts.items()}


def save(tables: Mapping[str, Mapping[str, pd.DataFrame]], casts: Mapping[str, pd.DataFrame], folder: Path
         ) -> dict[str, float]:
    """Write the votes and every table (.parquet, a column `cast`) into an artifact's folder; return its metrics.

    Such as "win_rate/simulated public/prettier/ppo - sft"; a number that could not be computed is left out.
    """
    for name, by_cast in {"votes": casts, **tables}.items():
        rows = [rows.assign(cast=cast) for cast, rows in by_cast.items()]
        pd.concat(rows, ignore_index=True).to_parquet(folder / f"{name}.parquet", index=False)
    metrics = {f"num_votes/{cast}": len(votes) for cast, votes in casts.items()}
    for table, (metric, of, column) in VALUES.items():
        metrics |= {f"{metric}/{cast}/{row['question']}/{row[of]}": row[column]
                    for cast, rows in tables[table].items() for row in rows.to_dict("records")}
    for cast, rows in tables["alpha"].items():
        metrics |= {f"alpha/{cast}/{row.question}": row.alpha for row in rows.itertuples()}
    for cast, rows in tables["biases"].items():
        metrics |= {f"{name}/{cast}/{row['question']}": row[name] for row in rows.to_dict("records")
                    for name in ("left", "ties")}
    return {name: round(float(value), 6) for name, value in metrics.items() if np.isfinite(value)}
