"""How often 95 % intervals hold the true mean, on data like ours: `python benchmarks/intervals.py`.

Trainings, prefixes, draws and pictures are simulated with the parts that the gains of real studies have, at the sizes
that are used, and every method is asked for its interval of each of 1,000 repetitions. Two kinds of data: `normal`, all
parts normal; `real`, in which a training has the residuals of one of the studies, drawn with replacement (skewed, and
wider in one study than in another), and the trainings differ as the studies' means do. What is asked:

* one: one training, whose prefixes alone vary; the true mean is that training's
* nested: every training has prefixes of its own; the true mean is that of all trainings and prefixes
* crossed: all trainings have the same prefixes; the true mean is again that of all trainings and prefixes
* tests: how often one of 28 true "no difference" is rejected (7 contrasts x 4 judges), alone and after Holm

The methods marked * are the kit's, called as they are. Bootstraps draw trainings, then prefixes within each; pictures
are averaged before, since to draw them as well would count their noise twice. Studies: the finished ones of --seeds.
"""
import argparse
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t

from npkit.errors import NpkitError
from npkit.findings.comparisons import holm
from npkit.findings.evaluation import CONTRASTS, paired_scores
from npkit.findings.intervals import Estimate, mean_squares, one_level, two_way
from npkit.study.artifacts import open_run
from npkit.study.profiles import parse_settings

REPETITIONS, RESAMPLES, FLIPS = 1000, 400, 1000
SEEDS, PREFIXES, PICTURES = (3, 5), (24, 48, 100, 200, 300), (1, 2, 3)
CELLS = (("oracle", "ppo", "prefix"), ("oracle", "ppo+nl", "ppo"), ("heldout", "ppo", "sft"),
         ("aesthetic", "sft", "prefix"))  # trainings that differ much and little, residuals skewed and not
# Shares of the variance of one gain within a training; the rest is of draws, and of prefixes in a training. Medians of
# eight variants and judges by `python benchmarks/variance.py` of 2 trainings x 24 prefixes x 2 draws x 2 pictures
IN_PREFIX, IN_PICTURE = 0.4, 0.2
GOOD = (0.93, 0.97)
COLUMNS = ["design", "residuals", "seeds", "prefixes", "pictures", "cell", "method", "coverage"]
Ends = tuple[np.ndarray, np.ndarray]
Studies = dict[str, list[pd.DataFrame]]  # judge -> a table a study: a row a prefix, a column a variant


class Population(NamedTuple):
    """What the gains of one judge and contrast are drawn from."""
    residuals: list[np.ndarray]  # of each study, around its mean
    between: float               # deviation of the trainings' true means
    shapes: np.ndarray           # deviations of the studies' means, all judges and contrasts, in units of their own


def differences(studies: Studies, judge: str, variant: str, baseline: str) -> list[np.ndarray]:
    """Return each study's differences between two variants, one a prefix."""
    return [(table[variant] - table[baseline]).to_numpy() for table in studies[judge]]


def populations(studies: Studies) -> dict[tuple[str, str, str], Population]:
    """Return what each of CELLS is drawn from."""
    means = [[values.mean() for values in differences(studies, judge, *pair)]
             for judge in studies for pair in CONTRASTS if "sft+beam" not in pair]
    shapes = np.concatenate([(each - np.mean(each)) / np.std(each, ddof=1) for each in means])
    found = {}
    for cell in CELLS:
        values = differences(studies, *cell)
        noise = np.mean([each.var(ddof=1) / len(each) for each in values])
        between = np.sqrt(max(0.0, np.var([each.mean() for each in values], ddof=1) - noise))
        found[cell] = Population([each - each.mean() for each in values], float(between), shapes)
    return found


def trainings(people: Population, kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return the true means of trainings, around 0."""
    if kind == "normal":
        return people.between * rng.standard_normal(shape)
    drawn = rng.choice(people.shapes, shape) + 0.3 * rng.standard_normal(shape)  # smoothed: 140 values are few
    return people.between * drawn / np.sqrt(people.shapes.var() + 0.3**2)


def residuals(people: Population, kind: str, study: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
              ) -> np.ndarray:
    """Return residuals of `shape`, whose first axes are those of `study`: of which study each training's are."""
    if kind == "normal":
        return np.sqrt(np.mean([each.var() for each in people.residuals])) * rng.standard_normal(shape)
    size = min(map(len, people.residuals))
    table = np.stack([rng.permutation(each)[:size] for each in people.residuals])
    table -= table.mean(1, keepdims=True)
    return table[study.reshape(study.shape + (1,) * (len(shape) - study.ndim)), rng.integers(size, size=shape)]


def cell_means(people: Population, kind: str, shape: tuple[int, int, int], pictures: int, crossed: bool,
               rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return gains (repetitions, trainings, prefixes), means over pictures, and the trainings' true means.

    A gain is the mean of its training, plus a part of the prefix, and one of prefix, training, draw and pictures, which
    is the smaller the more pictures there are. Without `crossed` the prefixes are each training's own, and both parts
    are one. Each part keeps the shape of a study's residuals, however many pictures it is a mean of.
    """
    repetitions, seeds, prefixes = shape
    study = rng.integers(len(people.residuals), size=(repetitions, seeds))
    means = trainings(people, kind, (repetitions, seeds), rng)
    variance = 1 - IN_PICTURE + IN_PICTURE / pictures - IN_PREFIX * crossed
    gains = means[..., None] + np.sqrt(variance) * residuals(people, kind, study, shape, rng)
    if crossed:
        common = residuals(people, kind, study[:, :1], (repetitions, 1, prefixes), rng)
        gains += np.sqrt(IN_PREFIX) * common
    return gains, means


def resampled(gains: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield for each place of a resample (resamples, repetitions, trainings): every training's resampled mean there."""
    repetitions, seeds, prefixes = gains.shape
    flat = gains.reshape(-1, prefixes).T.astype(np.float32)
    for _ in range(seeds):
        counts = rng.multinomial(prefixes, np.full(prefixes, 1 / prefixes), RESAMPLES).astype(np.float32)
        yield (counts @ flat / prefixes).reshape(RESAMPLES, repetitions, seeds)


def nested_bootstraps(gains: np.ndarray, rng: np.random.Generator) -> dict[str, Ends]:
    """Return the ends by three bootstraps that draw trainings, and prefixes within each drawn training."""
    seeds = gains.shape[1]
    chosen = rng.integers(seeds, size=(RESAMPLES, seeds))
    drawn = np.stack([np.take_along_axis(means, chosen[:, None, place, None], axis=2)[..., 0]
                      for place, means in enumerate(resampled(gains, rng))])  # (places, resamples, repetitions)
    mean, error = gains.mean((1, 2)), gains.mean(2).std(1, ddof=1) / np.sqrt(seeds)
    boot = drawn.mean(0)
    smooth = boot + error / np.sqrt(seeds) * rng.standard_normal(boot.shape)  # gives the variance (S-1)/S its rest
    ratio = (boot - mean) / np.maximum(drawn.std(0, ddof=1) / np.sqrt(seeds), 1e-9)
    return bootstrap_ends(boot, smooth, ratio, mean, error)


def prefix_bootstraps(gains: np.ndarray, rng: np.random.Generator) -> dict[str, Ends]:
    """Return the ends of a mean over prefixes (repetitions, prefixes) by three bootstraps."""
    n = gains.shape[1]
    counts = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    mean, error = gains.mean(1), gains.std(1, ddof=1) / np.sqrt(n)
    boot = counts @ gains.T
    errors = np.sqrt(np.maximum(counts @ (gains**2).T - boot**2, 0) / (n - 1))
    smooth = boot + error / np.sqrt(n) * rng.standard_normal(boot.shape)
    return bootstrap_ends(boot, smooth, (boot - mean) / np.maximum(errors, 1e-9), mean, error)


def bootstrap_ends(boot: np.ndarray, smooth: np.ndarray, ratio: np.ndarray, mean: np.ndarray, error: np.ndarray
                   ) -> dict[str, Ends]:
    low, high = np.quantile(ratio, (0.025, 0.975), axis=0)
    return {"percentile": tuple(np.quantile(boot, (0.025, 0.975), axis=0)),
            "smoothed": tuple(np.quantile(smooth, (0.025, 0.975), axis=0)),
            "bootstrap-t": (mean - high * error, mean - low * error)}


def satterthwaite(gains: np.ndarray) -> Ends:
    """Return the ends by the analysis of variance of `two_way`, with Satterthwaite's degrees of freedom."""
    seeds, prefixes = gains.shape[1:]
    by_seed, by_prefix, both = mean_squares(gains)
    squares = np.stack([np.maximum(by_seed, both), np.maximum(by_prefix, both), -both])
    total, dfs = squares.sum(0), np.array([seeds - 1, prefixes - 1, (seeds - 1) * (prefixes - 1)])
    half = t.ppf(0.975, total**2 / (squares**2 / dfs[:, None]).sum(0)) * np.sqrt(total / seeds / prefixes)
    mean = gains.mean((1, 2))
    return mean - half, mean + half


def over_prefixes(gains: np.ndarray) -> Estimate:
    """Return the mean by Student's t over all prefixes, as if trainings did not differ."""
    return one_level(gains.reshape(len(gains), -1))


def covered(ends: Ends, truth: np.ndarray) -> float:
    return float(((ends[0] <= truth) & (truth <= ends[1])).mean())


def one_case(people: Population, design: str, kind: str, sizes: tuple[int, int, int], rng: np.random.Generator
             ) -> dict[str, float]:
    """Return the coverage of each method, for one population, design and size (trainings, prefixes, pictures)."""
    seeds, prefixes, pictures = sizes
    gains, means = cell_means(people, kind, (REPETITIONS, seeds, prefixes), pictures, design == "crossed", rng)
    if design == "one":
        found = {**prefix_bootstraps(gains[:, 0], rng), "Student *": one_level(gains[:, 0]).ends()}
        return ({name: covered(ends, means[:, 0]) for name, ends in found.items()}
                | {"Student, of all trainings": covered(found["Student *"], np.zeros(REPETITIONS))})
    over_seeds = one_level(gains.mean(2)).ends()
    kit = {"Student over seeds *": over_seeds}
    if design == "crossed":
        kit = {"Student over seeds": over_seeds, "Satterthwaite": satterthwaite(gains),
               "two-way *": two_way(gains).ends()}
    found = nested_bootstraps(gains, rng) | kit | {"Student over prefixes": over_prefixes(gains).ends()}
    return {name: covered(ends, np.zeros(REPETITIONS)) for name, ends in found.items()}


def cases() -> list[tuple[str, str, int, int]]:
    """Return every design, kind of residuals, number of trainings and number of prefixes."""
    return [(design, kind, seeds, prefixes) for design in ("one", "nested", "crossed") for kind in ("normal", "real")
            for seeds in ((1,) if design == "one" else SEEDS) for prefixes in PREFIXES]


def coverage(people: dict[tuple[str, str, str], Population], out: Path | None) -> pd.DataFrame:
    """Return one row per case, number of pictures, cell and method with its coverage.

    `out` grows by a case at a time, and the cases that it has are not simulated again.
    """
    made = [pd.read_csv(out)] if out and out.is_file() else []
    known = set(made[0][COLUMNS[:4]].itertuples(index=False, name=None)) if made else set()
    for case in (case for case in cases() if case not in known):
        rng = np.random.default_rng(zlib.crc32(repr(case).encode()))
        made.append(pd.DataFrame(
            [(*case, pictures, " ".join(cell), method, share) for pictures in PICTURES for cell, each in people.items()
             for method, share in one_case(each, *case[:2], (*case[2:], pictures), rng).items()], columns=COLUMNS))
        if out:
            pd.concat(made).to_csv(out, index=False)
    return pd.concat(made, ignore_index=True)


def readable(rows: pd.DataFrame) -> str:
    """Return one design's table: a row a size, and each method's mean coverage (lowest-highest over the cells)."""
    groups = rows.groupby(["residuals", "seeds", "prefixes", "method"], sort=False)["coverage"]
    group = groups.agg(["mean", "min", "max"])
    cells = [f"{row.mean:.3f} ({row.min:.2f}-{row.max:.2f})" for row in group.itertuples(index=False)]
    wide = pd.Series(cells, index=group.index).unstack("method", sort=False)
    return wide.to_string()


def verdict(rows: pd.DataFrame) -> str:
    """Return in words how often the kit's methods cover, size by size and figure by figure, and where they do not."""
    kit = rows[rows["method"].str.endswith("*")]
    sizes = kit.groupby(COLUMNS[:4])["coverage"].mean()
    lines = [f"The kit's methods, {name}: {shares.between(*GOOD).sum()} of {len(shares)} within {GOOD[0]}-{GOOD[1]}, "
             f"lowest {shares.min():.3f}, highest {shares.max():.3f}."
             for name, shares in (("means of a size", sizes), ("single figures", kit["coverage"]))]
    bad = kit[~kit["coverage"].between(*GOOD)]
    return "\n".join([*lines, *(["The other figures:", bad.to_string(index=False)] if len(bad) else [])])


def null_differences(studies: Studies) -> tuple[list[np.ndarray], np.ndarray]:
    """Return each study's differences (prefixes, 28) around their means, and the covariance (28, 28) of the means."""
    tables = [np.stack(columns, axis=1) for columns in zip(
        *(differences(studies, judge, *pair) for judge in studies for pair in CONTRASTS))]
    return [table - table.mean(0) for table in tables], np.cov([table.mean(0) for table in tables], rowvar=False)


def any_rejected(p_values: np.ndarray, correct: bool) -> float:
    """Return the share of rows of p-values with one of at most 0.05, after Holm or not."""
    return float(np.mean([(holm(row) if correct else row).min() <= 0.05 for row in p_values]))


def sign_flips(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return p-values of (prefixes, tests) by random signs, those of a prefix alike in all tests."""
    signs = 2.0 * rng.integers(2, size=(FLIPS, len(values)), dtype=np.int8) - 1
    beyond = np.abs(signs @ values) >= np.abs(values.sum(0)) - 1e-9
    return (beyond.sum(0) + 1) / (FLIPS + 1)


def errors_of_tests(studies: Studies, rng: np.random.Generator) -> pd.DataFrame:
    """Return how often at least one of 28 true hypotheses of no difference is rejected."""
    tables, covariance = null_differences(studies)
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance)))  # the means of five studies: of rank 4
    rows = {}
    for seeds, prefixes in [(1, 24), (1, 200), (3, 200), (5, 24), (5, 200)]:
        p_values = {"Student": [], "sign flips": []}
        for _ in range(REPETITIONS):
            drawn = [table[rng.integers(len(table), size=prefixes)] for table in
                     (tables[number] for number in rng.integers(len(tables), size=seeds))]
            if seeds == 1:
                p_values["Student"].append(one_level(drawn[0].T).p_value())
                p_values["sign flips"].append(sign_flips(drawn[0], rng))
            else:
                effects = rng.standard_normal((seeds, len(covariance))) @ root.T
                means = np.stack([values.mean(0) for values in drawn]) + effects
                p_values["Student"].append(one_level(means.T).p_value())
        rows |= {(seeds, prefixes, name): {"one of 28, uncorrected": any_rejected(np.array(found), False),
                                           "after Holm": any_rejected(np.array(found), True),
                                           "a single test": float((np.array(found) <= 0.05).mean())}
                 for name, found in p_values.items() if found}
    return pd.DataFrame(rows).T.rename_axis(["seeds", "prefixes", "test"])


def studies_of(args: argparse.Namespace) -> Studies:
    """Return the scores of several studies, or say which is missing."""
    if args.scores:
        return by_judge([pd.read_parquet(path) for path in args.scores])
    runs = [open_run("evaluation", "tiny", seed, parse_settings(args.set)) for seed in args.seeds]
    if missing := [run for run in runs if not run.artifact]:
        raise NpkitError(f"{len(missing)} of {len(runs)} studies are not there yet: {missing[0].command()}")
    return by_judge([run.artifact.table("scores") for run in runs])


def by_judge(studies: list[pd.DataFrame]) -> Studies:
    return {judge: [paired_scores(rows, judge) for rows in studies] for judge in studies[0]["judge"].unique()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of the studies")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the studies")
    parser.add_argument("--scores", type=Path, nargs="+", metavar="FILE", help="in their place: scores.parquet of each")
    parser.add_argument("--out", type=Path, help="a CSV file of every figure; a second call goes on")
    args = parser.parse_args()
    begin = time.process_time()
    studies = studies_of(args)
    rows = coverage(populations(studies), args.out)
    num_studies = len(next(iter(studies.values())))
    print(f"{num_studies} studies; {REPETITIONS} repetitions a figure, whose Monte Carlo error is 0.007; in a cell "
          f"the mean (lowest-highest) over {len(CELLS)} judges and contrasts x {len(PICTURES)} numbers of pictures")
    for design, part in rows.groupby("design", sort=False):
        print(f"\n{design}\n{readable(part)}")
    print(f"\n{verdict(rows)}\n\nShare of repetitions with a true hypothesis rejected at 5 %\n"
          f"{errors_of_tests(studies, np.random.default_rng(0)).round(3).to_string()}\n\n"
          f"{time.process_time() - begin:.0f} s of one core")


if __name__ == "__main__":
    main()
