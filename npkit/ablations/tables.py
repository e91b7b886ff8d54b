"""Tables: the rows of an ablation as intervals over training seeds, as differences to the baseline, and in sentences.

Every seed is a study of its own, with its corpus, prefixes, clauses and pictures, so the seeds' means are independent
draws of all that varies, and Student's t over them covers all of it. Arms of one seed share their prefixes and picture
seeds: a difference is taken prefix by prefix first, then averaged, then compared over the seeds.
"""
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from npkit.ablations.arms import Ablation
from npkit.ablations.engine import Trial, path_of, rows_of, trials_of
from npkit.errors import NpkitError
from npkit.findings.across_seeds import mean_over_seeds, signed
from npkit.findings.comparisons import holm, own_baseline
from npkit.findings.intervals import one_level
from npkit.study.artifacts import NOTEBOOKS
from npkit.study.profiles import load_profile

OURS = NOTEBOOKS.parent / "figures"  # the committed tables of our own runs
TEXT_COLUMNS = ("coverage", "bans_broken", "price", "episodes", "kl", "perplexity", "distinct_share", "words_added",
                "parameters", "processor_seconds_a_prompt", "training_seconds")
COLUMNS = ("judge", "arm", "gain", "low", "high", "difference", "difference_low", "difference_high", "p", "seeds")
LEVEL = 0.05  # family-wise error of the sentences that call an arm better or worse


def judges_of(rows: pd.DataFrame) -> list[str]:
    """Return the judges that an ablation's rows have gains of, in the order of the profile."""
    return [name.removeprefix("gain/") for name in rows if name.startswith("gain/")]


def seed_means(rows: pd.DataFrame, judge: str) -> pd.DataFrame:
    """Return the mean gain over the prefixes, a row a seed and a column an arm; a gain that is no number raises."""
    means = rows.assign(mean=[float(np.mean(values)) for values in rows[f"gain/{judge}"]])
    if not np.isfinite(means["mean"]).all():
        wrong = means[~np.isfinite(means["mean"])].iloc[0]
        raise NpkitError(f"the gains by {judge} of the arm {wrong['arm']}, seed {wrong['seed']}, are no finite "
                         "numbers: remove that row from the file, and it is made anew")
    return means.pivot(index="seed", columns="arm", values="mean")[list(dict.fromkeys(rows["arm"]))]


def gain_table(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return one row per (judge, arm): gain and difference to the baseline over the seeds, each with 95 %, and p.

    `p` is that of a t-test over the seeds that the difference is 0, corrected for the number of arms by Holm's method;
    nan for one seed.
    """
    found = []
    for judge in judges_of(rows):
        means = seed_means(rows, judge)
        others = pd.DataFrame({arm: means[arm] - means.get(own_baseline(arm, baseline), np.nan) for arm in means})
        p = corrected({arm: p_value(others[arm].dropna()) for arm in means if arm != own_baseline(arm, baseline)})
        found += [(judge, arm, *mean_over_seeds(means[arm].dropna()), *mean_over_seeds(others[arm].dropna()),
                   p.get(arm, np.nan), means[arm].count()) for arm in means]
    return pd.DataFrame(found, columns=list(COLUMNS))


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p of a mean difference of 0 over the seeds; nan where there are fewer than two."""
    return float(one_level(np.asarray(differences, dtype=float)).p_value()) if len(differences) > 1 else float("nan")


def corrected(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values by arm, corrected for their number by Holm's method; nan, of a single seed, stays nan."""
    known = [arm for arm, p in p_values.items() if not np.isnan(p)]
    return {**p_values, **dict(zip(known, holm([p_values[arm] for arm in known]).tolist(), strict=True))}


def text_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the rows say beside the gains, an arm a line: means over the seeds."""
    columns = [name for name in TEXT_COLUMNS if name in rows]
    plain = rows[["arm"]].assign(**{name: [np.mean(value) for value in rows[name]] for name in columns})
    return plain.groupby("arm", sort=False).mean()


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a `gain_table` as people read it: arms down, judges across, "gain [95 %]" in each cell."""
    cells = table.assign(cell=[signed(row.gain, row.low, row.high) for row in table.itertuples()])
    wide = cells.pivot(index="arm", columns="judge", values="cell")
    return wide.loc[list(dict.fromkeys(table["arm"])), list(dict.fromkeys(table["judge"]))].rename_axis(None, axis=1)


def results(ablation: Ablation, profile: str, num_seeds: int = 3) -> tuple[pd.DataFrame, str]:
    """Return an ablation's `gain_table` and where it comes from: from the runs of this machine, or the committed one.

    The runs of this machine count once every arm of `num_seeds` seeds is done. The committed table is of `tiny`; where
    there is none, the table is empty.
    """
    if path_of(ablation, profile).exists():  # else there is nothing that keys, which take time, could be looked up in
        trials = trials_of(ablation, profile, range(num_seeds), {})
        rows = rows_of(trials)
        if len(rows) == len(trials):
            return gain_table(rows, ablation.baseline), f"{num_seeds} seeds, run on this machine"
    ours = OURS / f"07_{ablation.name}.csv"
    if profile == "tiny" and ours.exists():
        return pd.read_csv(ours), f"our run; npkit ablate {ablation.name} makes your own"
    return pd.DataFrame(columns=list(COLUMNS)), f"not run yet; npkit ablate {ablation.name} does it"


# In sentences --------------------------------------------------------------------------------------------------------
def payer(ablation: Ablation, profile: str) -> str:
    """Return the judge that pays the arms of an ablation; "" where not all are paid by the same one."""
    usual = load_profile(profile).ppo.reward_judge
    payers = {arm.settings.get("ppo.reward_judge", usual) for arm in ablation.arms}
    return payers.pop() if len(payers) == 1 else ""


def finding(table: pd.DataFrame, baseline: str, paid: str, truth: str = "oracle") -> str:
    """Return what was found in plain sentences: by `truth`, on every painter's pictures, then if the payer agrees.

    The last one is left out where `paid` is `truth` itself, or none of the judges, such as "".
    """
    judges = list(dict.fromkeys(table["judge"]))
    told = " ".join(finding_by(judge, table, baseline) for judge in truths_of(judges, truth))
    if paid in truths_of(judges, truth) or paid not in judges or table["seeds"].max() < 2:
        return told
    ranks = table.pivot(index="arm", columns="judge", values="gain")[[paid, truths_of(judges, truth)[0]]]
    rank = ranks.corr("spearman").iloc[0, 1]
    return f"{told} The paid judge, {paid}, orders the arms {agreement(rank)} (rank correlation {rank:.2f})."


def truths_of(judges: Sequence[str], truth: str) -> list[str]:
    """Return `truth`, and the same judge before another painter's pictures; the last judge where it is none of them."""
    return [judge for judge in judges if judge.partition(",")[0] == truth] or [judges[-1]]


def finding_by(judge: str, table: pd.DataFrame, baseline: str) -> str:
    """Return in a sentence which arms are clearly above and below the baseline by one judge."""
    one = table[table["judge"] == judge].set_index("arm")
    others = one[[arm != own_baseline(arm, baseline) for arm in one.index]]
    baseline = f"the {baseline.partition(': ')[2]} of its group" if ": " in baseline else baseline
    if not len(others):
        return f"There is nothing to compare with {baseline} yet."
    best = others["difference"].idxmax()
    if one["seeds"].max() < 2:
        return (f"By {judge} the highest arm is {best} ({difference_text(others.loc[best])} against {baseline}). "
                "This is one seed, which says nothing about another training: more seeds decide.")
    better, worse = (others[(sign * others["difference"] > 0) & (others["p"] < LEVEL)] for sign in (1, -1))
    told = (f"By {judge}, {listed(better)} above {baseline}" if len(better) else f"By {judge}, no arm is clearly above "
            f"{baseline} (the highest, {best}: {difference_text(others.loc[best])})")
    told += f", and {listed(worse)} below it" if len(worse) else ", and none is clearly below it"
    return f"{told}, at 5 % after Holm's correction over {one['seeds'].max()} seeds."


def listed(arms: pd.DataFrame) -> str:
    """Return arms with their differences as words, "one (+0.2 [..]) is" or "one (..) and another (..) are"."""
    texts = [f"{arm} ({difference_text(row)})" for arm, row in arms.iterrows()]
    many = len(texts) > 1
    return (f"{', '.join(texts[:-1])} and {texts[-1]} are" if many else f"{texts[0]} is") + " clearly"


def difference_text(row: pd.Series) -> str:
    """Return a difference with its interval."""
    return signed(row["difference"], row["difference_low"], row["difference_high"])


def agreement(rank: float) -> str:
    """Return in words how far two orders agree."""
    if np.isnan(rank):
        return "all alike"
    return "alike" if rank > 0.8 else "partly alike" if rank > 0.4 else "otherwise"


def report(trials: Sequence[Trial]) -> str:
    """Return an ablation as text: question, tables, finding; what is missing is said."""
    ablation, rows = trials[0].ablation, rows_of(trials)
    if not len(rows):
        raise NpkitError(f"no run of the ablation {ablation.name} is done")
    table = gain_table(rows, ablation.baseline)
    missing = len(trials) - len(rows)
    note = [f"{missing} of {len(trials)} runs are missing: the table is not complete"] if missing else []
    seeds = rows["seed"].nunique()
    interval = "95 % intervals over the seeds by Student's t" if seeds > 1 else "one seed: no interval"
    rested = f"{seeds} seed{'s' if seeds > 1 else ''}, {rows['seconds'].sum() / 60:.0f} minutes in all"
    return "\n".join([
        ablation.question, ablation.paper, "", f"Gain over the prefix; {interval}", "", readable(table).to_string(), "",
        "Beside the gains, means over the seeds", "", text_table(rows).to_string(float_format="{:.3g}".format), "",
        finding(table, ablation.baseline, payer(ablation, trials[0].profile)), rested, *note])
