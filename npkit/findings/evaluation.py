"""Evaluation: all variants on the same test prefixes and picture seeds, judged, and compared prefix by prefix."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import linregress, spearmanr, t

from npkit.errors import NpkitError
from npkit.findings.stats import Interval, effect_size, paired_bootstrap, sign_flip_p, win_rate
from npkit.findings.texts import prefix_retained
from npkit.findings.variants import VARIANTS
from npkit.text.corpus import fold

if TYPE_CHECKING:
    from npkit.scoring.images import ImageModel  # for type hints only: these import torch, a table needs none
    from npkit.scoring.rewards import Scorer

BASELINES = ("prefix+boosters", "random", "frequent", "best-of-n")
EVALUATED = ("prefix", "human", *BASELINES[:3], "sft", BASELINES[3], *VARIANTS[3:])  # in the order of the tables
SHOWN = tuple(variant for variant in EVALUATED if variant not in ("prefix", "random", "sft+beam"))  # by the README
WITH_COMPLETION = "human (with a completion)"  # people's prompts on the prefixes to which they added words
# The scores are recalled, to confirm; the gaps are confirmed: section 3.3
PAPER_AESTHETIC = {"prefix": 5.64, "human": 5.92, "sft": 6.02, "sft+nl": 6.05, "ppo": 6.22, "ppo+nl": 6.27}
PAPER_GAPS = {("ppo+nl", "human"): 0.35, ("ppo+nl", "ppo"): 0.05}
LEARNT = (("ppo", "sft"), ("ppo+beam", "sft+beam"), ("ppo+nl", "sft+nl"))  # what PPO added, a pair a way of decoding
CONTRASTS = (*LEARNT, ("ppo+nl", "ppo+beam"), ("ppo+nl", "ppo"), ("ppo", "human"), ("ppo+nl", "human"),
             ("ppo", WITH_COMPLETION), ("ppo", "prefix+boosters"), ("ppo", "best-of-n"), ("best-of-n", "sft"))
GROUP = 16  # prefixes painted from one seed: their twelve variants are 192 pictures, six full batches of `tiny`


def picture_seeds(seed: int, num_seeds: int) -> list[int]:
    """Return `num_seeds` picture seeds for a study's seed, far from those that PPO was rewarded with."""
    return [1_000_000 * (seed + 1) + 10_000 * number for number in range(num_seeds)]


def evaluate(prompts_by_variant: Mapping[str, Sequence[str]], prefixes: Sequence[str], scorer: "Scorer",
             seeds: Sequence[int]) -> pd.DataFrame:
    """Return one row per (prefix, variant, seed, judge) with its prompt and score.

    All variants of a prefix are painted from the same seeds, so that their scores differ by words alone. Every group
    of `GROUP` prefixes adds its number to each seed, so that no result depends on one seed's starting noise.
    """
    prompts = pd.DataFrame(prompts_by_variant, index=pd.Index(prefixes, name="prefix"))
    parts = []
    for seed in seeds:
        for number, start in enumerate(range(0, len(prompts), GROUP)):
            part = prompts[start:start + GROUP].melt(ignore_index=False, var_name="variant", value_name="prompt")
            part = part.reset_index().assign(seed=seed + number)
            scores = scorer.scores(part["prefix"].tolist(), part["prompt"].tolist(), seed + number)
            parts += [part.assign(judge=judge, score=values.tolist()) for judge, values in scores.items()]
    return pd.concat(parts, ignore_index=True)


def truncated(prompts_by_variant: Mapping[str, Sequence[str]], image_model: "ImageModel") -> dict[str, float]:
    """Return the share of each variant's prompts whose end the text encoder cannot read, as metrics by variant."""
    return {f"truncated/{variant}": float(np.mean(np.array(image_model.num_tokens(prompts)) > image_model.max_tokens))
            for variant, prompts in prompts_by_variant.items()}


def paired_scores(rows: pd.DataFrame, judge: str) -> pd.DataFrame:
    """Return one judge's scores, one row per prefix and one column per variant, averaged over the picture seeds."""
    if judge not in set(rows["judge"]):
        raise NpkitError(f"no scores of judge {judge!r}; judges: {', '.join(rows['judge'].unique())}")
    chosen = rows[rows["judge"] == judge]
    scores = chosen.pivot_table(index="prefix", columns="variant", values="score", sort=False)
    return scores.rename_axis(columns=None)[chosen["variant"].unique()]


def gains(rows: pd.DataFrame, judge: str, baseline: str = "prefix") -> pd.DataFrame:
    """Return `paired_scores` minus the baseline's score of the same prefix, without the baseline's column."""
    scores = paired_scores(rows, judge)
    return scores.drop(columns=baseline).sub(scores[baseline], axis=0)


def with_completion(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return `paired_scores` with a column `WITH_COMPLETION` behind "human": missing where a person added no word.

    Without "human", or with fewer than two such prefixes, the scores stay as they are.
    """
    human = rows[rows["variant"] == "human"].drop_duplicates("prefix").set_index("prefix")["prompt"]
    added = [prefix for prefix, prompt in human.items() if fold(prompt) != fold(prefix)]
    if len(added) < 2:
        return scores
    columns = list(scores)
    place = columns.index("human") + 1
    return scores.assign(**{WITH_COMPLETION: scores["human"].where(scores.index.isin(added))})[
        [*columns[:place], WITH_COMPLETION, *columns[place:]]]


def results_table(rows: pd.DataFrame, rng: np.random.Generator, samples: int = 2000) -> pd.DataFrame:
    """Return one row per (judge, variant): mean score and gain over the prefix, each with its 95 % interval, and n.

    `WITH_COMPLETION` is a row of its own, over its own prefixes. Column `paper` holds the paper's aesthetic score, to
    confirm. `readable` and `text_table` print the table.
    """
    found = []
    for judge in rows["judge"].unique():
        scores = with_completion(rows, paired_scores(rows, judge))
        for variant in scores:
            mean = paired_bootstrap(scores[variant].dropna(), rng, samples)
            gain = paired_bootstrap((scores[variant] - scores["prefix"]).dropna(), rng, samples)
            paper = PAPER_AESTHETIC.get(variant) if judge == "aesthetic" else None
            found.append((judge, variant, *mean[:3], *gain[:3], mean.n, paper))
    return pd.DataFrame(found, columns=["judge", "variant", "mean", "mean_low", "mean_high", "gain", "gain_low",
                                        "gain_high", "n", "paper"]).astype({"paper": float})


def contrast_table(rows: pd.DataFrame, rng: np.random.Generator, samples: int = 2000) -> pd.DataFrame:
    """Return one row per (judge, pair of `CONTRASTS`): difference, win rate (both with 95 % intervals), effect, p.

    Pairs of which a variant was not evaluated are left out. Column `paper` holds the paper's two aesthetic gaps
    (section 3.3).
    """
    found = []
    for judge in rows["judge"].unique():
        scores = with_completion(rows, paired_scores(rows, judge))
        for variant, baseline in (pair for pair in CONTRASTS if {*pair} <= {*scores}):
            pair = scores[[variant, baseline]].dropna()
            difference = pair[variant] - pair[baseline]
            interval = paired_bootstrap(difference, rng, samples)
            found.append((judge, f"{variant} - {baseline}", *interval[:3],
                          *win_rate(pair[variant], pair[baseline])[:3], effect_size(difference),
                          sign_flip_p(difference, rng), interval.n,
                          PAPER_GAPS.get((variant, baseline)) if judge == "aesthetic" else None))
    return pd.DataFrame(found, columns=["judge", "contrast", "difference", "low", "high", "win_rate", "win_low",
                                        "win_high", "effect", "p", "n", "paper"]).astype({"paper": float})


def alarm(paid: ArrayLike, unpaid: ArrayLike) -> float:
    """Return the share of prefixes whose gain is above 0 by the paid judge and below 0 by one of the unpaid ones.

    `paid` has a gain a prefix, `unpaid` a row a judge and a column a prefix.
    """
    paid, unpaid = np.asarray(paid), np.asarray(unpaid)
    return float(((paid > 0) & (unpaid < 0).any(axis=0)).mean())


class Hacking(NamedTuple):
    """How far a judge's gains can be trusted: what the oracle says of the same prompts."""
    share: float  # of prefixes where the judge rises and the oracle falls
    correlation: float  # Spearman's, between the two gains
    n: int


def reward_hacking(rows: pd.DataFrame, variant: str, judge: str = "pickscore", oracle: str = "oracle") -> Hacking:
    """Compare a variant's gains in the eyes of a judge with its gains in the eyes of the oracle, prefix by prefix.

    The rank correlation is nan where all gains are alike, as those of a policy that adds nothing.
    """
    judged, true = gains(rows, judge)[variant], gains(rows, oracle)[variant]
    varies = judged.nunique() > 1 and true.nunique() > 1
    rank = float(spearmanr(judged, true).statistic) if varies else float("nan")
    return Hacking(alarm(judged, [true]), rank, len(judged))


def lengths(rows: pd.DataFrame, judge: str) -> pd.DataFrame:
    """Return one row per (prefix, variant) except the bare prefix: `words_added` to the prefix and `gain` over it."""
    gain = gains(rows, judge).melt(ignore_index=False, var_name="variant", value_name="gain").reset_index()
    prompts = rows.drop_duplicates(["prefix", "variant"])[["prefix", "variant", "prompt"]]
    found = gain.merge(prompts, on=["prefix", "variant"])
    found["words_added"] = found["prompt"].str.split().str.len() - found["prefix"].str.split().str.len()
    return found[["prefix", "variant", "words_added", "gain"]]


def at_equal_length(rows: pd.DataFrame, judge: str, variant: str = "ppo", baseline: str = "sft") -> Interval:
    """Return by how much `variant` beats `baseline` where both add equally many words, with a 95 % interval."""
    wide = lengths(rows, judge).pivot(index="prefix", columns="variant")
    return intercept(*(wide[name][variant] - wide[name][baseline] for name in ("words_added", "gain")))


def intercept(extra_words: ArrayLike, extra_gain: ArrayLike) -> Interval:
    """Return the extra gain where no words are extra, by the regression line through a point a prefix, and 95 %.

    It is nan where all prefixes have the same difference in words: length and policy cannot be told apart then.
    """
    words = np.asarray(extra_words, dtype=float)
    if (words == words[0]).all():
        return Interval(np.nan, np.nan, np.nan, len(words))
    line = linregress(words, extra_gain)
    half = t.ppf(0.975, len(words) - 2) * line.intercept_stderr
    return Interval(float(line.intercept), float(line.intercept - half), float(line.intercept + half), len(words))


def faithfulness_rows(rows: pd.DataFrame, judge: str = "") -> pd.DataFrame:
    """Return the rows of the judge of faithfulness; without one, rows that say 1 where a prompt keeps its prefix."""
    if judge:
        return rows[rows["judge"] == judge].reset_index(drop=True)
    chosen = rows[rows["judge"] == rows["judge"].iloc[0]].reset_index(drop=True)
    kept = [prefix_retained([prompt], [prefix]) for prefix, prompt in zip(chosen["prefix"], chosen["prompt"])]
    return chosen.assign(judge="prefix retained", score=kept)


def tradeoffs(rows: pd.DataFrame, faithful: pd.DataFrame, texts: pd.DataFrame, rng: np.random.Generator,
              samples: int = 2000) -> pd.DataFrame:
    """Return a row a variant: its gain, faithfulness and modifier entropy, each with `_low` and `_high` ends.

    `rows` are the scores of one judge, `faithful` the `faithfulness_rows`, `texts` the `text_table`.
    """
    (judge,), (faith,) = rows["judge"].unique(), faithful["judge"].unique()
    scores, seen = paired_scores(rows, judge), paired_scores(faithful, faith)
    bits = texts.set_index("variant")
    found = []
    for variant in scores:
        gain = paired_bootstrap(scores[variant] - scores["prefix"], rng, samples)
        found.append((variant, *gain[:3], *paired_bootstrap(seen[variant], rng, samples)[:3],
                      *bits.loc[variant, ["modifier_entropy", "entropy_low", "entropy_high"]]))
    names = [f"{name}{end}" for name in ("gain", "faithfulness", "entropy") for end in ("", "_low", "_high")]
    return pd.DataFrame(found, columns=["variant", *names])


def extremes(gain: pd.Series, number: int = 2) -> dict[str, list[str]]:
    """Return the prefixes with the best, the median and the worst gains, `number` of each, the best one first."""
    ranked = gain.sort_values(ascending=False, kind="stable").index.tolist()
    middle = (len(ranked) - number) // 2
    return {"best": ranked[:number], "median": ranked[middle:middle + number], "worst": ranked[-number:]}


def flat_metrics(table: pd.DataFrame, contrasts: pd.DataFrame) -> dict[str, float]:
    """Return the manifest's metrics, such as "aesthetic/ppo", "pickscore_gain_low/ppo", "ppo_minus_sft/pickscore".

    "num_prefixes/..." says of a row over fewer prefixes than the others how many it has.
    """
    metrics = {f"num_prefixes/{row.variant}": row.n for row in table.itertuples() if row.n < table["n"].max()}
    for row in table.itertuples():
        metrics[f"{row.judge}/{row.variant}"] = row.mean
        if row.variant != "prefix":
            metrics |= {f"{row.judge}_{name}/{row.variant}": getattr(row, name)
                        for name in ("gain", "gain_low", "gain_high")}
    for row in contrasts.itertuples():
        name = f"{row.contrast.replace(' - ', '_minus_')}/{row.judge}"
        metrics |= {name: row.difference, f"{name}_low": row.low, f"{name}_high": row.high,
                    f"{name}_win_rate": row.win_rate}
    return {name: round(float(value), 6) for name, value in metrics.items()}


def save_results(rows: pd.DataFrame, folder: Path, rng: np.random.Generator, samples: int = 2000, *,
                 faithful: str = "", extra: Sequence[str] = ()) -> dict[str, float]:
    """Write scores, faithfulness, table and contrasts (.parquet) into an artifact's folder; return its metrics.

    `faithful` is the judge of faithfulness among `rows`, "" where there is none; the judges `extra` are none of
    quality, and in no table.
    """
    told = faithfulness_rows(rows, faithful)
    rows = rows[~rows["judge"].isin(extra)].reset_index(drop=True)
    table, contrasts = results_table(rows, rng, samples), contrast_table(rows, rng, samples)
    for name, frame in {"scores": rows, "faithfulness": told, "table": table, "contrasts": contrasts}.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    shares = paired_scores(told, told["judge"].iloc[0]).mean()
    return flat_metrics(table, contrasts) | {f"faithfulness/{name}": round(float(share), 6)
                                             for name, share in shares.items()}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a `results_table` as people read it: variants down, a "gain [95 % interval]" per judge across, and n."""
    wide = table.set_index(["variant", "judge"])
    variants = table["variant"].unique()
    columns = {}
    for judge in table["judge"].unique():
        one = wide.xs(judge, level="judge").loc[variants]
        digits = 2 if one["gain"].abs().max() >= 0.1 else 4
        others = one.drop("prefix")[["gain", "gain_low", "gain_high"]]
        cell = f"{{:+.{digits}f}} [{{:.{digits}f}}, {{:.{digits}f}}]" if others.any(axis=None) else "constant"
        columns[judge] = {"prefix": "-"} | {row.Index: cell.format(*row[1:]) for row in others.itertuples()}
    columns["n"] = one["n"]
    return pd.DataFrame(columns, index=variants)


def beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean aesthetic scores with their intervals, ours beside the paper's, of the variants that it has."""
    ours = table.dropna(subset="paper").set_index("variant")
    cells = [f"{row.mean:.2f} [{row.mean_low:.2f}, {row.mean_high:.2f}]" for row in ours.itertuples()]
    return pd.DataFrame({"aesthetic, mean [95 %]": cells, "paper (to confirm)": ours["paper"].map("{:.2f}".format)},
                        index=ours.index.rename(None))


def text_table(table: pd.DataFrame) -> str:
    """Return the table as text of at most 120 columns, with the sentences that say how to read it."""
    wide = readable(table)
    gain = "Gain: score minus the score of the bare prefix, same picture seeds; 95 % intervals by paired bootstrap over"
    notes = [f"{gain} prefixes.", "n: how many test prefixes each number rests on."]
    if (wide == "constant").any(axis=None):
        notes.insert(1, "Constant: the judge scores every variant alike.")
    if WITH_COMPLETION in wide.index:
        notes.append(f"{WITH_COMPLETION}: without the prefixes to which people added no word.")
    return "\n".join([wide.to_string(line_width=120), "", *notes])
