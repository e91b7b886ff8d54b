"""Analysis of votes: who wins how often, how strong each variant is, how far raters and judges agree, what is missing.

Votes on one prefix are not independent, nor are those of one rater. So every interval is over clusters: over prefixes
(what would other prompts give, asked of these raters?) or over raters (what would other people say of these prompts?).
"""
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import choix
import krippendorff
import numpy as np
import pandas as pd
from scipy import stats

from npkit.errors import NpkitError
from npkit.findings.stats import Interval
from npkit.preferences.pairs import QUESTIONS

OVER = ("prefix", "rater")  # columns of a table of votes that name the clusters
LEVEL, POWER = 0.95, 0.8  # of every interval; of the votes that a conclusion needs
REACH = float(stats.norm.ppf((1 + LEVEL) / 2) + stats.norm.ppf(POWER))  # standard errors from one half, for both
PRIOR = 0.01  # choix's regularisation: keeps a strength finite where a variant has won, or lost, every vote
CHOICES = (0.0, 0.5, 1.0)  # points of the first variant: lost, tie, won


class Share(NamedTuple):
    """A mean of points with its interval, the variance of that mean, and how many votes and clusters it rests on."""
    mean: float
    low: float
    high: float
    variance: float
    num_votes: int
    num_clusters: int

    @property
    def interval(self) -> Interval:
        return Interval(self.mean, self.low, self.high, self.num_clusters)


# 1. Points -----------------------------------------------------------------------------------------------------------
def with_points(votes: pd.DataFrame, order: Sequence[str] = ()) -> pd.DataFrame:
    """Return the votes with `points` of the first variant (1 won, 1/2 tie, 0 lost), every meeting turned one way.

    `order` lists the variants; in a pair the later one is called first, so that "ppo - sft" is a win rate of ppo. By
    default the order is that of their first coming.
    """
    if votes.empty:
        raise NpkitError("there are no votes to analyse: vote in the panel, import a file, or simulate raters")
    found = votes.drop(columns="points", errors="ignore")
    points = np.array([points_of_first(*row) for row in zip(found["choice"], found["left"], found["first"])])
    places = {name: place for place, name in enumerate(order or variants_of(votes))}
    is_turned = (found["first"].map(places) < found["second"].map(places)).to_numpy()
    for one, other in (("first", "second"), ("first_prompt", "second_prompt")):
        found[[one, other]] = np.where(is_turned[:, None], found[[other, one]], found[[one, other]])
    return found.assign(points=np.where(is_turned, 1 - points, points))


def points_of_first(choice: str, left: str, first: str) -> float:
    """Return the points of the variant `first`: 1 where its picture was chosen, 1/2 for a tie, 0 else.

    `choice` is left, right or tie, and `left` the variant whose picture stood on the left.
    """
    if choice == "tie":
        return 0.5
    return float((choice == "left") == (left == first))


def variants_of(votes: pd.DataFrame) -> list[str]:
    """Return the variants in the order of their first coming."""
    return list(pd.unique(votes[["first", "second"]].to_numpy().ravel()))


def questions_of(votes: pd.DataFrame) -> list[str]:
    """Return the questions that have votes."""
    return [name for name in QUESTIONS if name in set(votes["question"])]


# 2. Shares with Wilson's interval ------------------------------------------------------------------------------------
def clustered_share(points: Iterable[float], clusters: Iterable) -> Share:
    """Return the mean of points in [0, 1] with Wilson's 95 % interval for clustered votes.

    Wilson's interval wants the number of independent votes. That is the number that would give the mean the variance
    that it has between clusters (Korn and Graubard 1998); Student's t stands for the normal quantile, with as many
    degrees of freedom as there are clusters, less one. Where all votes are alike, a cluster counts as one vote.
    """
    points, clusters = np.asarray(list(points), float), list(clusters)
    mean, num_votes, number = float(points.mean()), len(points), len(set(clusters))
    if number < 2:
        return Share(mean, np.nan, np.nan, np.nan, num_votes, number)
    variance = cluster_variance(points, clusters)
    effective = mean * (1 - mean) / variance if variance > 1e-12 else number
    return Share(mean, *wilson(mean, effective, stats.t.ppf((1 + LEVEL) / 2, number - 1)), variance, num_votes, number)


def cluster_variance(points: Sequence[float], clusters: Sequence) -> float:
    """Return the variance of the mean of `points`, of which those of one cluster depend on each other.

    The deviations of a cluster's points from the mean are added up before they are squared: where they all lie on one
    side, a cluster of ten votes tells hardly more than one vote does.
    """
    points = np.asarray(points, float)
    sums = pd.Series(points - points.mean()).groupby(list(clusters)).sum()
    return float((sums**2).sum() * len(sums) / (len(sums) - 1) / len(points) ** 2)


def about_the_same(points: pd.Series, pairs: pd.Series) -> np.ndarray:
    """Return points, of the same mean, from which it is taken away that some pairs are won more easily than others.

    For intervals over raters: they are about the pairs that were shown, each about equally often, so that it does not
    matter which of them a rater has seen. What is left are the raters' differences on the same pair, widened for that
    the pair's mean holds the vote itself; a vote that is alone on its pair stays as it is.
    """
    groups = points.groupby(pairs.to_numpy())
    means, number = groups.transform("mean"), groups.transform("size")
    widened = points.mean() + (points - means) * np.sqrt(number / (number - 1).clip(lower=1))
    return widened.where(number > 1, points).to_numpy()


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Return the ends of Wilson's interval of a share of `n` votes; `n` need not be whole, as scipy's `binomtest` asks.
    """
    centre, spread = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float((centre - spread) / (1 + z**2 / n)), float((centre + spread) / (1 + z**2 / n))


def win_rates(votes: pd.DataFrame, order: Sequence[str] = (), over: str = "prefix") -> pd.DataFrame:
    """Return a row a question and meeting "a - b": how often a wins, a tie counting half, with its interval.

    Also the share of ties, the votes and clusters, what follows, and how many more votes it would need (`missing`).
    """
    check_over(over)
    table, rows = with_points(votes, order), []
    places = {name: place for place, name in enumerate(order or variants_of(votes))}
    for (question, first, second), part in table.groupby(["question", "first", "second"], sort=False):
        points = about_the_same(part["points"], part["pair"]) if over == "rater" else part["points"]
        share = clustered_share(points, part[over])
        rows.append((question, f"{first} - {second}", share.mean, share.low, share.high, (part["points"] == 0.5).mean(),
                     share.num_votes, share.num_clusters, verdict(share), missing_votes(share),
                     list(QUESTIONS).index(question), -places[first], -places[second]))
    names = ["question", "meeting", "rate", "low", "high", "ties", "votes", "clusters", "verdict", "missing"]
    found = pd.DataFrame(rows, columns=[*names, "a", "b", "c"]).sort_values(["a", "b", "c"], ignore_index=True)
    return found[names]


def verdict(share: Share) -> str:
    """Return what an interval says of "more often than not"."""
    return "wins" if share.low > 0.5 else "loses" if share.high < 0.5 else "open"


def missing_votes(share: Share) -> float:
    """Return how many more votes like these would settle which wins; 0 where it is settled, inf where it never is.

    If the true rate is the one that was seen, that many votes in all, spread over prefixes and raters as these are,
    exclude one half with a probability of 80 %. It is a forecast from a noisy rate: a rate near one half by chance
    asks for far too many votes, one far from it for too few.
    """
    if verdict(share) != "open":
        return 0.0
    if np.isnan(share.variance) or share.mean == 0.5 or share.variance == 0:
        return np.inf
    needed = votes_needed(share.mean, share.num_votes * share.variance)
    return float(np.ceil(max(needed - share.num_votes, 1)))


def votes_needed(rate: float, variance: float, z: float = REACH) -> float:
    """Return how many votes bring one half `z` standard errors away, if `rate` is the true win rate.

    `variance` is that of one vote, rate x (1 - rate) where votes are independent and there are no ties. With the
    default `z` a 95 % interval excludes one half with a probability of 80 %.
    """
    return float(variance * (z / (rate - 0.5)) ** 2)


# 3. Strengths --------------------------------------------------------------------------------------------------------
def strengths(votes: pd.DataFrame, rng: np.random.Generator, samples: int = 500, order: Sequence[str] = (),
              over: str = "prefix") -> pd.DataFrame:
    """Return a row a question and variant: Bradley-Terry strength (mean 0 a question) with its 95 % interval.

    The difference of two strengths is the logarithm of the odds that one wins; a tie is half a win of each. The
    interval is a bootstrap over prefixes or raters: whole clusters are drawn with replacement.
    """
    check_over(over)
    table, variants, rows = with_points(votes, order), list(order or variants_of(votes)), []
    for question in questions_of(votes):
        wins = cluster_wins(table[table["question"] == question], variants, over)
        found = fit(wins.sum(0))
        draws = rng.multinomial(len(wins), np.full(len(wins), 1 / len(wins)), samples)
        resampled = np.array([fit(each, found) for each in np.tensordot(draws, wins, 1)])
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        rows += [(question, *row) for row in zip(variants, found, low, high, wins.sum((0, 2)) + wins.sum((0, 1)))]
    return pd.DataFrame(rows, columns=["question", "variant", "strength", "low", "high", "votes"])


def cluster_wins(table: pd.DataFrame, variants: Sequence[str], over: str) -> np.ndarray:
    """Return (clusters, variants, variants): how often the row's variant beat the column's, ties half and half."""
    places = {name: place for place, name in enumerate(variants)}
    number, cluster = table[over].nunique(), pd.factorize(table[over])[0]
    wins = np.zeros((number, len(variants), len(variants)))
    first, second = (table[name].map(places).to_numpy() for name in ("first", "second"))
    np.add.at(wins, (cluster, first, second), table["points"].to_numpy())
    np.add.at(wins, (cluster, second, first), 1 - table["points"].to_numpy())
    return wins


def fit(wins: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
    """Return the Bradley-Terry strengths (variants,) of a matrix of wins, by choix."""
    return choix.ilsr_pairwise_dense(wins, alpha=PRIOR, initial_params=start, max_iter=1000, tol=1e-6)


# 4. Raters and judges ------------------------------------------------------------------------------------------------
def alpha(votes: pd.DataFrame, rng: np.random.Generator, samples: int = 200) -> pd.DataFrame:
    """Return a row a question: Krippendorff's alpha of the raters (1 agree, 0 as by chance) with its 95 % interval.

    The choices are ordinal: lost, tie, won. A bootstrap draws pairs. nan where no pair has two raters.
    """
    table, rows = with_points(votes), []
    for question in questions_of(votes):
        counts = pd.crosstab(table["pair"][table["question"] == question], table["points"])
        counts = counts.reindex(columns=CHOICES, fill_value=0).to_numpy()
        counts = counts[counts.sum(1) > 1]  # a pair with one rater says nothing of agreement
        found = alpha_of(counts)
        ends = np.nan, np.nan
        if np.isfinite(found):
            drawn = [alpha_of(counts[rng.integers(len(counts), size=len(counts))]) for _ in range(samples)]
            ends = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        rows.append((question, found, *ends, len(counts)))
    return pd.DataFrame(rows, columns=["question", "alpha", "low", "high", "pairs"])


def alpha_of(counts: np.ndarray) -> float:
    """Return Krippendorff's alpha of counts (pairs, 3); nan where there are fewer than two choices to tell apart."""
    if len(counts) == 0 or (counts.sum(0) > 0).sum() < 2:
        return np.nan
    return float(krippendorff.alpha(value_counts=counts, value_domain=CHOICES, level_of_measurement="ordinal"))


def biases(votes: pd.DataFrame) -> pd.DataFrame:
    """Return a row a question: the share of left among the votes that are no tie, and the share of ties; over raters.

    Sides are random, so without a lean to one of them left has one half.
    """
    rows = []
    for question in questions_of(votes):
        part = votes[votes["question"] == question]
        decided = part[part["choice"] != "tie"]
        left = clustered_share((decided["choice"] == "left").astype(float), decided["rater"])
        ties = clustered_share((part["choice"] == "tie").astype(float), part["rater"])
        rows.append((question, *left[:3], *ties[:3], len(part), part["rater"].nunique(), part["seconds"].median()))
    return pd.DataFrame(rows, columns=["question", "left", "left_low", "left_high", "ties", "ties_low", "ties_high",
                                       "votes", "raters", "seconds"])


def judge_agreement(votes: pd.DataFrame, scores: pd.DataFrame, over: str = "prefix") -> pd.DataFrame:
    """Return a row a question and judge: how often a vote prefers the picture with the higher score, with its interval.

    A tie agrees half, and so does a judge with two equal scores. `scores` has columns prefix, variant, seed, judge and
    score. The line "another rater" says how often two raters agree on a pair: no judge can be expected to do much
    better.
    """
    check_over(over)
    table = with_points(votes)
    known = scores.set_index(["judge", "prefix", "seed", "variant"])["score"].groupby(level=[0, 1, 2, 3]).first()
    rows = []
    for question in questions_of(votes):
        part = table[table["question"] == question]
        for judge in scores["judge"].unique():
            one, other = (known.loc[judge].reindex(pd.MultiIndex.from_frame(part[["prefix", "seed", side]])).to_numpy()
                          for side in ("first", "second"))
            if not np.isfinite(one - other).all():
                raise NpkitError(f"the judge {judge} has no score for {(~np.isfinite(one - other)).sum()} of "
                                 f"{len(part)} votes: are they about pictures of another study?")
            agreed = agreement(np.sign(one - other), part["points"].to_numpy())
            rows.append((question, judge, *clustered_share(agreed, part[over])[:3], len(part)))
        rows.append((question, "another rater", *rater_agreement(part, over)))
    return pd.DataFrame(rows, columns=["question", "judge", "agreement", "low", "high", "votes"])


def agreement(preferred: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far votes (points of the first) agree with a preference of 1, 0 or -1 for the first."""
    return 0.5 + preferred * (points - 0.5)


def rater_agreement(part: pd.DataFrame, over: str = "prefix") -> tuple[float, float, float, int]:
    """Return how often a vote agrees with that of another rater on the same pair, its interval, and the votes."""
    groups = part.groupby("pair")["points"]
    number = groups.transform("size").to_numpy()
    sign = (2 * part["points"] - 1).to_numpy()  # 1, 0 or -1
    others = (groups.transform("sum") * 2 - groups.transform("size")).to_numpy() - sign
    compared = number > 1
    agreed = 0.5 + sign[compared] * others[compared] / (number[compared] - 1) / 2
    if not compared.any():
        return np.nan, np.nan, np.nan, 0
    return *clustered_share(agreed, part[over].to_numpy()[compared])[:3], int(compared.sum())


def check_over(over: str) -> None:
    """Raise where intervals are asked for over something else."""
    if over not in OVER:
        raise NpkitError(f"intervals are over prefix or rater, got {over!r}")
