"""Across seeds: the same study made several times from other seeds, and what its results have in common.

A seed decides the corpus, the split, SFT, PPO, the default clauses, the test prefixes and the pictures' noise. So the
results of two seeds are two independent draws of all that varies, and Student's t over the seeds covers all of it;
the interval of one study over its prefixes covers the choice of prefixes alone.
"""
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd

from npkit.errors import NpkitError
from npkit.findings import intervals
from npkit.findings.comparisons import holm
from npkit.findings.evaluation import EVALUATED, PAPER_AESTHETIC, PAPER_GAPS, SHOWN, paired_scores

CONTRAST = "ppo - sft"
PAPER_JUDGE = "aesthetic"  # by whose score the paper orders its systems
MARKERS = ("<!-- results: begin -->", "<!-- results: end -->")  # what lies between them in README is written
Metrics = Mapping[str, float]  # of the stage `evaluation`, as its manifest holds them


class Replication(NamedTuple):
    """How well intervals foretold what other studies found."""
    share: float  # of the cells, those whose interval holds the repeated value
    num_cells: int
    missed: pd.DataFrame  # the cells that do not


def mean_over_seeds(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of one number a seed, with the ends of its interval by Student's t; nan ends for one seed."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan"), float("nan")
    found = intervals.one_level(np.asarray(values, dtype=float))
    return float(found.mean), *map(float, found.ends(level))


def gain_table(found: Mapping[int, Metrics], judges: Sequence[str], new: int = 2) -> pd.DataFrame:
    """Return one row per (judge, variant): mean gain over the prefix with two intervals over the seeds.

    `low` and `high` are the ends of the interval of the mean, `next_low` and `next_high` those between which the mean
    of `new` further studies will fall; `replicates` says what each is good for.
    """
    rows = []
    for judge, variant in itertools.product(judges, variants_of(found, judges[0])):
        values = gains_of(found, judge, variant)
        rows.append((judge, variant, *mean_over_seeds(values), *intervals.prediction(values, new)[1:], len(values)))
    return pd.DataFrame(rows, columns=["judge", "variant", "gain", "low", "high", "next_low", "next_high", "seeds"])


def variants_of(found: Mapping[int, Metrics], judge: str) -> list[str]:
    """Return the variants that the studies have gains of, in the order of notebook 06, then others."""
    known = [name.partition("/")[2] for name in next(iter(found.values())) if name.startswith(f"{judge}_gain/")]
    return sorted(known, key=lambda variant: EVALUATED.index(variant) if variant in EVALUATED else len(EVALUATED))


def gains_of(found: Mapping[int, Metrics], judge: str, variant: str) -> list[float]:
    """Return a variant's gain over the prefix in each study; the prefix itself gains 0."""
    name = f"{judge}_gain/{variant}"
    if lacking := [seed for seed, metrics in found.items() if name not in metrics and variant != "prefix"]:
        raise NpkitError(f"the evaluation of seed {lacking[0]} has no {name}: all studies need the same variants and "
                         "judges; run notebook 06_evaluation again")
    return [0.0 if variant == "prefix" else metrics[name] for metrics in found.values()]


def gains_by_prefix(studies: Mapping[int, pd.DataFrame], judge: str, variant: str, baseline: str = "prefix"
                    ) -> pd.DataFrame:
    """Return a variant's gains over `baseline`, a row a seed and a column a prefix.

    `studies` maps a training seed to the rows of its scores.parquet; a prefix that a study lacks is nan there. The
    table is what `intervals.interval_over_seeds` takes.
    """
    tables = {seed: paired_scores(rows, judge) for seed, rows in studies.items()}
    return pd.DataFrame({seed: table[variant] - table[baseline] for seed, table in tables.items()}).T


def difference_table(found: Mapping[int, Metrics], judges: Sequence[str]) -> pd.DataFrame:
    """Return one row per (seed, judge) with `CONTRAST` and its interval over that study's prefixes."""
    name = CONTRAST.replace(" - ", "_minus_")
    rows = [(seed, judge, *(metrics[f"{name}/{judge}{end}"] for end in ("", "_low", "_high")))
            for seed, metrics in found.items() for judge in judges]
    return pd.DataFrame(rows, columns=["seed", "judge", "difference", "low", "high"])


def readable_gains(table: pd.DataFrame, ends: tuple[str, str] = ("low", "high")) -> pd.DataFrame:
    """Return a `gain_table` as people read it: variants down, judges across, "gain [95 %]" in each cell."""
    cells = table.assign(cell=[signed(*row) for row in table[["gain", *ends]].itertuples(index=False)])
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


def replicates(table: pd.DataFrame, repeated: pd.DataFrame, ends: tuple[str, str] = ("next_low", "next_high")
               ) -> Replication:
    """Return in how many cells of a `gain_table` the interval holds the gain of a table of other studies.

    The interval must be the one that promises this. `next_low` and `next_high` do: made for as many new studies as
    `repeated` has (`new` of `gain_table`), they hold its mean in 95 of 100 cases, if trainings differ by chance alone
    and normally. `low` and `high` promise to hold the mean over all seeds, not that of a few: the mean of two new
    studies lies in the interval of five in about 79 of 100 cases, that of one in about 68. Both figures are of many
    repetitions: the cells of one table rise and fall together, so that the share of a single repetition varies more
    than that of as many separate cells. Cells that are the same number without width in both tables are left out.
    """
    both = table.merge(repeated[["judge", "variant", "gain"]], on=["judge", "variant"], suffixes=("", "_repeated"),
                       how="outer", indicator=True)
    if (both["_merge"] != "both").any():
        raise NpkitError("a repetition has the same judges and variants as the table; these are in one of them alone: "
                         + ", ".join(both[both["_merge"] != "both"][["judge", "variant"]].agg(" ".join, axis=1)))
    if both[list(ends)].isna().any(axis=None):
        raise NpkitError("the table rests on one seed and has no intervals: make it from two seeds or more")
    low, high = both[ends[0]], both[ends[1]]
    varies = (low < high) | (both["gain_repeated"] != low)
    held = both["gain_repeated"].between(low, high)
    missed = both[varies & ~held].drop(columns="_merge").reset_index(drop=True)
    return Replication(float(held[varies].mean()), int(varies.sum()), missed)


def orderings(found: Mapping[int, Metrics], judge: str = PAPER_JUDGE) -> pd.DataFrame:
    """Return one row per pair of the paper's systems: by how much the one that the paper has higher is higher here.

    `low` and `high` are the ends of the difference's interval over the seeds (a study's two variants share its
    training and prefixes, so the difference is taken in each study first); `p` is Holm's over all pairs; `paper` the
    paper's difference, on the scale of another judge, so that only its sign can agree. `verdict` is "agrees" or
    "disagrees" where p is at most 0.05, else "open".
    """
    order = sorted(PAPER_AESTHETIC, key=PAPER_AESTHETIC.get)
    rows = []
    for lower, higher in itertools.combinations(order, 2):
        values = np.subtract(gains_of(found, judge, higher), gains_of(found, judge, lower))
        p = float(intervals.one_level(values).p_value()) if len(values) > 1 else float("nan")
        paper = PAPER_GAPS.get((higher, lower), PAPER_AESTHETIC[higher] - PAPER_AESTHETIC[lower])
        rows.append((f"{higher} - {lower}", paper, *mean_over_seeds(values), p,
                     order.index(higher) - order.index(lower) == 1))
    table = pd.DataFrame(rows, columns=["pair", "paper", "difference", "low", "high", "p", "adjacent"])
    if len(found) > 1:
        table["p"] = holm(table["p"])
    return table.assign(verdict=np.select([~(table["p"] <= 0.05), table["difference"] > 0], ["open", "agrees"],
                                          "disagrees"))


def readable_orderings(table: pd.DataFrame) -> pd.DataFrame:
    """Return `orderings` as people read them, a row a pair."""
    return pd.DataFrame({"paper": table["paper"].map("{:+.2f}".format),
                         "here": [signed(*row) for row in table[["difference", "low", "high"]].itertuples(index=False)],
                         "p (Holm)": ["<0.001" if p < 0.001 else f"{p:.3f}" for p in table["p"]],
                         "verdict": table["verdict"]}).set_axis(table["pair"]).rename_axis(None)


def summary(table: pd.DataFrame) -> str:
    """Return in words which of the paper's `orderings` ours agree with."""
    named = {verdict: ", ".join(rows["pair"]) for verdict, rows in table.groupby("verdict")}
    counts = table["verdict"].value_counts()
    order = " < ".join(sorted(PAPER_AESTHETIC, key=PAPER_AESTHETIC.get))
    text = f"Of the paper's {len(table)} orderings by the {PAPER_JUDGE} score ({order})"
    return text + "".join(
        f"{join}{counts[verdict]} {words}" + (f" ({named[verdict]})" if verdict != "agrees" else "")
        if verdict in named else f"{join}none {words}"
        for join, verdict, words in ((", ", "agrees", "clearly hold here"),
                                     (", ", "disagrees", "clearly the other way round"),
                                     (", and ", "open", "are open"))) + "."


def readme_block(found: Mapping[int, Metrics], judges: Sequence[str], num_prefixes: int, command: str, new: int = 2
                 ) -> str:
    """Return README's results as Markdown: the gains over the seeds, and which orderings of the paper they confirm.

    The gains have the interval that a rerun can be held against, that of the mean of `new` further studies; the
    differences have that of the mean, which says whether one variant is better than another.
    """
    gains, pairs = gain_table(found, judges, new), orderings(found)
    gains = gains[gains["variant"].isin(SHOWN)]
    above = (f"Gain over the bare prefix: mean of {len(found)} studies (seeds {' '.join(map(str, found))}), "
             f"{num_prefixes} test prefixes each. This block is written by `{command}`. In brackets: between these "
             f"numbers the mean of {new} further studies, made from other seeds, falls in 95 of 100 cases.")
    below = (f"{summary(pairs)} Clear: Holm's p over all of them is at most 0.05. The paper's numbers are on another "
             "scale, so that only signs can agree. In brackets: the 95 % interval of the difference by Student's t "
             f"over the seeds, which covers {intervals.NESTED}.")
    return "\n\n".join([
        fill(above, 120), fenced(readable_gains(gains, ("next_low", "next_high"))),
        fill(below, 120), fenced(readable_orderings(pairs[pairs["adjacent"]])),
        "<details><summary>The pairs that are not neighbours in the paper's order</summary>",
        fenced(readable_orderings(pairs[~pairs["adjacent"]])), "</details>"])


def fenced(table: pd.DataFrame) -> str:
    """Return a table as a Markdown block of text."""
    lines = [line.rstrip() for line in table.to_string().splitlines()]
    return "\n".join(["```", *lines, "```"])


def replace_block(path: Path, block: str) -> None:
    """Write `block` between the two MARKERS of a Markdown file, whole or not at all; raise where they are missing."""
    from npkit.study.artifacts import write_whole
    try:
        with path.open(encoding="utf-8", newline="") as file:  # line ends stay as they are
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NpkitError(f"--readme {str(path)!r} cannot be read: {reason}") from None
    begin, end = MARKERS
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise NpkitError(f"--readme {str(path)!r} needs the line {begin} once, and below it {end} once: what lies "
                         "between them is replaced by the table; nothing was written")
    head, tail = text.partition(begin)[0], text.partition(end)[2]
    try:
        write_whole(path, f"{head}{begin}\n{block}\n{end}{tail}")
    except OSError as error:
        raise NpkitError(f"--readme {str(path)!r} cannot be written: {error.strerror or error}") from None


def write_readme(path: Path, profile: str, seeds: Sequence[int], settings: Mapping[str, object]) -> str:
    """Write the table of the finished studies of all `seeds` into a Markdown file; return a sentence that says so."""
    from npkit.study.artifacts import open_run
    runs = [open_run("evaluation", profile, seed, settings) for seed in seeds]
    if missing := [run for run in runs if not run.artifact]:
        raise NpkitError(f"--readme needs all {len(runs)} studies, and seed {missing[0].seed} has not been evaluated: "
                         f"{missing[0].command()}; nothing was written")
    if len(runs) < 2:
        raise NpkitError("--readme needs at least two seeds: one study has no interval over seeds; nothing was written")
    numbers, options = " ".join(map(str, seeds)), replace(runs[0], seed=0).options
    command = f"npkit compare --seeds {numbers}{options} --readme {path.name}"
    found = {run.seed: run.artifact.metrics for run in runs}
    judges = [judge.name for judge in runs[0].config.judges]
    replace_block(path, readme_block(found, judges, runs[0].config.evaluation.num_prefixes, command))
    return f"{path}: the table of {len(runs)} studies is written"
