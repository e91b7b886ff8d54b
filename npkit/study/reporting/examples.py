"""Examples: the tables and examples of the report, from the files that each stage has left in its artifact."""
import pandas as pd

from npkit.findings import evaluation
from npkit.findings.intervals import interval
from npkit.study.artifacts import Artifact, Run
from npkit.text.corpus import SPLITS

SHOWN = ("prefix", "human", "sft", "ppo", "ppo+nl")  # of the variants, beside a prefix's best and worst


# 1. Tables -----------------------------------------------------------------------------------------------------------
def tables_of(run: Run) -> list[tuple[str, pd.DataFrame]]:
    """Return the tables of a stage with their captions."""
    artifact = run.artifact
    match run.stage:
        case "glyphworld":
            return [("Mean utility of the pictures, in standard deviations, with its 95 % interval over prefixes",
                     utility_table(artifact.table("oracle")))]
        case "data":
            return [("Prompts, prefixes and words by purpose", split_table(artifact.table("prompts")))]
        case "reward":
            return [("Agreement with a held-out vote", agreement_table(artifact))]
        case "ppo":
            return [("PPO's rollouts: means of an update", rollout_table(artifact))]
        case "neurologic":
            return [("Decoded prompts by variant", decoded_table(artifact.table("decoded")))]
        case "evaluation":
            table = artifact.table("table")
            return [(f"Gain over the prefix. {reading_of(table)}", evaluation.readable(table)),
                    ("Differences between two variants, with 95 % intervals", contrast_table(artifact))]
        case "preference":
            return [("Win rates in %, with 95 % intervals over prefixes", win_rate_table(artifact.table("win_rates")))]
    return []


def win_rate_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return meetings down, questions and casts across, "rate [low, high]" in each cell."""
    cells = ["{:.0f} [{:.0f}, {:.0f}]".format(*row)
             for row in (100 * rows[["rate", "low", "high"]]).itertuples(index=False)]
    wide = rows.assign(cell=cells, column=rows["question"] + ", " + rows["cast"])
    return wide.pivot(index="meeting", columns="column", values="cell").loc[
        rows["meeting"].unique(), wide["column"].unique()].rename_axis(None).rename_axis(None, axis=1)


def utility_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean utility of each way to write a prompt, with its interval by Student's t."""
    cells = {}
    for variant, utilities in rows.groupby("variant", sort=False)["oracle"]:
        mean, low, high, num = interval(utilities)
        cells[variant] = {"utility [95 %]": f"{mean:.2f} [{low:.2f}, {high:.2f}]", "n": num}
    return pd.DataFrame(cells.values(), index=list(cells))


def agreement_table(artifact: Artifact) -> pd.DataFrame:
    """Return how often judges and raters agree with a vote."""
    names = {"judge": "the lesson's judge", "shipped": "the shipped judge", "single_rater": "a single rater",
             "ceiling": "a judge that knows the utility"}
    shares = {words: artifact.metrics[f"reward/{name}"] for name, words in names.items()
              if f"reward/{name}" in artifact.metrics}
    return pd.DataFrame({"agreement": [f"{share:.1%}" for share in shares.values()]}, index=list(shares))


def rollout_table(artifact: Artifact) -> pd.DataFrame:
    """Return the first, a middle and the last update of PPO: gain, KL, entropy and how many completions differ."""
    rows = pd.read_json(artifact.path / "metrics.jsonl", lines=True)
    names = {"objective/score": "gain", "objective/kl": "KL to SFT (nats)", "policy/entropy": "entropy (nats)",
             "objective/distinct_share": "distinct completions"}
    rows = rows.dropna(subset=[name for name in names if name in rows]).set_index("update")
    chosen = rows.iloc[sorted({0, len(rows) // 4, len(rows) // 2, len(rows) - 1})]
    found = chosen[[name for name in names if name in rows]].rename(columns=names).map("{:.2f}".format)
    return found.rename_axis(None).rename(index=lambda update: f"update {update}")


def decoded_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what each variant writes: words, log-probability, and how often nothing."""
    groups = rows.assign(words=rows["completion"].str.split().str.len(), empty=rows["completion"] == "").groupby(
        "variant", sort=False)
    return pd.DataFrame({"words added": groups["words"].mean().map("{:.1f}".format),
                         "log-probability (nats)": groups["logprob"].mean().map("{:.1f}".format),
                         "nothing added": groups["empty"].mean().map("{:.0%}".format)}).rename_axis(None)


def split_table(prompts: pd.DataFrame) -> pd.DataFrame:
    """Return a row a split: prompts, different prefixes, and the mean number of words of both parts."""
    words = prompts.assign(**{f"words of the {part}": prompts[part].str.split().str.len()
                              for part in ("prefix", "completion")})
    groups = words.groupby("split", sort=False)
    means = groups[["words of the prefix", "words of the completion"]].mean().map("{:.1f}".format)
    counts = groups.agg(prompts=("prompt", "size"), prefixes=("prefix", "nunique")).map("{:,}".format)
    return counts.join(means).rename_axis(None).reindex([split for split in SPLITS if split in counts.index])


def contrast_table(artifact: Artifact) -> pd.DataFrame:
    """Return pairs of variants down, judges across, "difference [low, high]" in each cell."""
    rows = artifact.table("contrasts")
    numbers = rows[["difference", "low", "high"]].round(2) + 0.0  # no "-0.00"
    cells = ["{:+.2f} [{:.2f}, {:.2f}]".format(*row) for row in numbers.itertuples(index=False)]
    wide = rows.assign(cell=cells).pivot(index="contrast", columns="judge", values="cell")
    return wide.loc[rows["contrast"].unique(), rows["judge"].unique()].rename_axis(None).rename_axis(None, axis=1)


def reading_of(table: pd.DataFrame) -> str:
    """Return the sentences under the printed table, which say how to read it."""
    text, wide = evaluation.text_table(table), evaluation.readable(table).to_string(line_width=120)
    return " ".join(text.removeprefix(wide).split()) if text.startswith(wide) else ""


# 2. Examples ---------------------------------------------------------------------------------------------------------
def examples_of(run: Run) -> pd.DataFrame | None:
    """Return some rows of what a stage has made; None where it makes nothing that can be read."""
    artifact = run.artifact
    match run.stage:
        case "glyphworld":
            rows = artifact.table("oracle")
            return rows.groupby("variant", sort=False).head(2)[["variant", "prompt", "oracle"]].round(2)
        case "data":
            return artifact.table("prompts").groupby("split", sort=False).head(1)[["split", "prefix", "completion"]]
        case "ppo":
            return last_rollout(artifact.table("samples"))
        case "neurologic":
            rows = artifact.table("decoded")[["prefix", "variant", "completion", "logprob"]]
            return rows[rows["prefix"] == rows["prefix"].iloc[0]].round(2)
        case "evaluation":
            return best_and_worst(artifact.table("scores"), next(iter(run.config.ppo.weights)))
        case "preference":
            rows = artifact.table("votes").groupby(["cast", "question"], sort=False).head(2)
            return rows[["rater", "question", "prefix", "left", "choice", "first", "second", "seconds"]]
    return None


def last_rollout(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the best, the median and the worst completions of PPO's first and last rollouts."""
    parts = []
    for update in dict.fromkeys((samples["update"].min(), samples["update"].max())):
        rows = samples[samples["update"] == update].sort_values("score", ascending=False)
        parts.append(rows.iloc[[0, len(rows) // 2, len(rows) - 1]].assign(which=["best", "median", "worst"]))
    return pd.concat(parts)[["update", "which", "prefix", "completion", "score"]].round(2)


def best_and_worst(scores: pd.DataFrame, judge: str, variant: str = "ppo") -> pd.DataFrame | None:
    """Return the prompts of the prefixes on which `variant` gains most, in the middle, and least, by the paid judge."""
    if judge not in set(scores["judge"]) or variant not in set(scores["variant"]):
        return None
    gains = evaluation.gains(scores, judge)
    order = gains[variant].sort_values(ascending=False).index
    prompts = scores.drop_duplicates(["prefix", "variant"]).set_index(["prefix", "variant"])["prompt"]
    rows = [{"by gain of ppo": which, "variant": name, "prompt": prompts[prefix, name],
             f"gain by {judge}": "" if name == "prefix" else f"{gains.loc[prefix, name]:+.2f}"}
            for which, prefix in zip(("best", "median", "worst"), (order[0], order[len(order) // 2], order[-1]))
            for name in SHOWN if (prefix, name) in prompts.index]
    return pd.DataFrame(rows)
