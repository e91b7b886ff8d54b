"""What `npkit optimize --min-gain` keeps, and whether it pays: `python benchmarks/keep_if_better.py`.

The first test prefixes of a study are optimised as the command does it, by the PPO policy and by SFT's. The paid judge
decides over 8 pictures of each prompt whether the user's own prompt is kept. GlyphWorld's public (`oracle`), which
decides nothing, then says what either way gains over the plain prompts, on pictures from other seeds. Intervals are
Student's t over prefixes. `--coverage` asks of real gains how often the interval behind the decision holds: it draws 8
of 48 pictures of each of 20 prompts with replacement, 200 times, and counts how often the mean of the 48 lies inside.
A study must have been run; scores are cached, so that a second run takes seconds.
"""
import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd

from npkit import optimize as engine
from npkit.findings.ledger import mean_over_pictures, readable, scores_by_seed
from npkit.findings.variants import test_prefixes
from npkit.optimize import Optimized
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import Run, open_run
from npkit.wishes import Wishes, read_wishes

FRESH = 4  # pictures of each prompt that the public looks at
POPULATION, DRAWS = 48, 200  # of --coverage


def decisions(found: Sequence[Optimized], scorer: Scorer, wishes: Wishes, run: Run, min_gain: float) -> list[Optimized]:
    """Return what `--min-gain` makes of the prompts."""
    return engine.keep_if_better(found, scorer, wishes, run.config.ppo.weights, min_gain=min_gain,
                                 seeds=engine.measuring_seeds(run.seed, None))


def gains(found: Sequence[Optimized], scorer: Scorer, judge: str, seeds: Sequence[int]) -> np.ndarray:
    """Return the gain (prompts, seeds) of each optimised prompt over the plain one."""
    rows = []
    for each in found:
        scores, _ = scores_by_seed(scorer, each.prompt, [each.prompt, each.written], seeds, [judge])
        rows.append(scores[judge][1] - scores[judge][0])
    return np.array(rows)


def compare(policy: str, run: Run, scorer: Scorer, prefixes: Sequence[str], args: argparse.Namespace) -> list[dict]:
    """Return a row for each threshold: share kept, and the gain by the public with and without it."""
    wishes = read_wishes(run.config, seed=None if args.no_defaults else run.seed)
    found = engine.optimize(prefixes, engine.trained_policy(run, policy), wishes, run.config)
    fresh = engine.measuring_seeds(run.seed + 50, FRESH)
    off, rows = gains(found, scorer, args.judge, fresh).mean(1), []
    for min_gain in args.min_gain:
        answers = decisions(found, scorer, wishes, run, min_gain)
        kept = np.array([each.decision.kept or each.optimized == each.prompt for each in answers])
        on = np.where(kept, 0.0, off)
        worse = f"{np.mean(off < 0):.0%} -> {np.mean(on < 0):.0%}"
        rows.append({"policy": policy, "min gain": f"{min_gain:g}", "kept": f"{kept.mean():.0%}",
                     "off": readable(mean_over_pictures(off)), "on": readable(mean_over_pictures(on)),
                     "on - off": readable(mean_over_pictures(on - off)), "worse than the plain prompt": worse,
                     "of the kept, off": f"{off[kept].mean():+.2f}" if kept.any() else "-"})
    if args.coverage:
        print(f"{policy}: of 95 % intervals over 8 pictures hold the mean of {POPULATION}: "
              f"{coverage(gains(found[:20], scorer, next(iter(run.config.ppo.weights)), population(run))):.1%}")
    return rows


def population(run: Run) -> list[int]:
    """Return the picture seeds of --coverage."""
    return engine.measuring_seeds(run.seed, POPULATION)


def coverage(values: np.ndarray) -> float:
    """Return how often the interval over 8 gains drawn from a prompt's row holds the row's mean."""
    rng = np.random.default_rng(0)
    hits = []
    for row in values[np.ptp(values, axis=1) > 0]:
        for drawn in rng.choice(row, (DRAWS, 8)):
            interval = mean_over_pictures(drawn)
            hits.append(interval.low <= row.mean() <= interval.high)
    return float(np.mean(hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", default=["ppo", "sft"])
    parser.add_argument("--prefixes", type=int, default=60)
    parser.add_argument("--min-gain", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--judge", default="oracle", help="who says what was gained (default oracle)")
    parser.add_argument("--no-defaults", action="store_true", help="decode without default clauses")
    parser.add_argument("--coverage", action="store_true", help="how often the interval over 8 pictures holds")
    args = parser.parse_args()
    run = open_run("neurologic", "tiny")
    prefixes = test_prefixes(run.input("data").dataset("prompts"), args.prefixes, run.seed)
    scorer = engine.load_scorer(run.config, run.device)
    scorer = Scorer(scorer.image_model, scorer.judges, scorer.cache)  # keeps no pictures: there are thousands
    rows = [row for policy in args.policies for row in compare(policy, run, scorer, prefixes, args)]
    print(f"gain over the plain prompt by {args.judge}, {len(prefixes)} test prefixes, {FRESH} pictures each that no "
          "decision saw\n")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
