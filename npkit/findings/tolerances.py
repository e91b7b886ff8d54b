"""Tolerances: how far a metric of a new study may lie from those of reference studies before it has moved.

A metric of a study is one draw from a distribution over seeds and machines. From k reference studies with mean m and
standard deviation s, a new draw lies within m +- t * s * sqrt(1 + 1/k) with a chosen probability (the prediction
interval of a normal sample; Hahn and Meeker 1991, chapter 4). All metrics of a study together are to raise fewer than
`ALPHA` false alarms. The rates of the metrics therefore add up to `ALPHA` (Bonferroni), which holds for metrics that
depend on each other in any way. Half of it goes to the few `HEADLINES`, whose tolerances become narrower by that.
"""
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from statistics import median
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from npkit.findings.variants import VARIANTS

ALPHA = 0.05  # false alarms of a whole check
MARGIN = 0.5  # of the reference value: a larger shift would matter
EQUIVALENCE = 0.95  # one-sided: two such tests show that a shift is within the margin (Schuirmann 1987)
HEADLINES = ("sft eval/perplexity", "ppo objective/score", "ppo objective/kl", "evaluation */prefix",
             *(f"evaluation *_gain/{variant}" for variant in ("sft", "ppo", "ppo+nl")))
# What no seed and no machine may change: counts, and what is so by construction
FACTS = ("* train/num_processes", "ppo episodes", "sft sft/cut_share", "* */truncated", "* truncated/*",
         "neurologic decode/clause_coverage", "neurologic decode/violations", "* found/*")
LEAST = {"sft sft/memorised_new_prefix_share": 1.0,  # of the handful that are memorised: one prompt decides it
         "* *share": 0.05, "* */finished": 0.05, "* *_win_rate": 0.05}  # a share may move by so much, whatever was seen
ROUNDING = 1e-9  # relative: sums in another order


class Expected(NamedTuple):
    """What the reference studies say of a metric: the value, its spread, and how far a new one may lie from it.

    `num` studies stand behind the value; the spread has `df` degrees of freedom (0: it is unknown). `rate` is the
    metric's own rate of false alarms (0: a fact, which has no tolerance), `least` its least tolerance.
    """
    value: float
    spread: float
    df: int
    num: int
    rate: float
    least: float

    def half_width(self, level: float, num_new: int) -> float:
        """Return the half width of the prediction interval for the mean of `num_new` studies; nan without a spread."""
        if self.df < 1:
            return float("nan")
        return quantile(level, self.df) * self.spread * float(np.sqrt(1 / num_new + 1 / self.num))

    def tolerance(self, num_new: int = 1) -> float:
        """Return how far the mean of `num_new` studies may lie from the value; nan where nobody knows."""
        if not self.rate:
            return 0.0
        return max(self.half_width(1 - self.rate / 2, num_new), self.least)  # in this order: nan stays


@cache
def quantile(level: float, df: int) -> float:
    """Return the quantile of Student's t: of hundreds of metrics few differ in it."""
    return float(t.ppf(level, df))


def expect(values: Mapping[str, Sequence[float]], epochs: Sequence[int]) -> dict[str, Expected]:
    """Return what reference studies say of each metric, named "stage metric"; `values` has a number a study.

    Studies of one epoch are of one version of the program. The newest epoch that has the metric gives its value, all of
    them its spread, each around its own mean. nan stands for a metric that a study lacks.
    """
    epochs = np.asarray(epochs)
    found = {name: _moments(np.asarray(row, dtype=float), epochs) for name, row in values.items()}
    spreads: dict[str, list[float]] = {}
    for name, (_, spread, *_) in found.items():
        spreads.setdefault(unit(name), []).append(spread)
    facts = {name for name, (_, spread, *_) in found.items() if not spread and matches(name, FACTS)}
    heads = {name for name in set(found) - facts if matches(name, HEADLINES)}
    num_others = max(1, len(found) - len(facts) - len(heads))
    share = ALPHA / 2 if heads else ALPHA
    return {name: Expected(value, max(spread, median(spreads[unit(name)]) / 2), df, num,
                           rate=0 if name in facts else share / (len(heads) if name in heads else num_others),
                           least=next((least for pattern, least in LEAST.items() if fnmatchcase(name, pattern)), 0.0))
            for name, (value, spread, df, num) in found.items()}


def _moments(row: np.ndarray, epochs: np.ndarray) -> tuple[float, float, int, int]:
    """Return the mean of the newest epoch, the pooled standard deviation, its degrees of freedom, and the number."""
    parts = [part for epoch in sorted(set(epochs.tolist())) if len(part := row[(epochs == epoch) & ~np.isnan(row)])]
    if not parts:
        return float("nan"), 0.0, 0, 0
    df = sum(len(part) - 1 for part in parts)
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts if np.ptp(part))
    return float(parts[-1].mean()), float(np.sqrt(squares / df)) if df else 0.0, df, len(parts[-1])


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Say whether "stage metric" is like one of some patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def unit(name: str) -> str:
    """Return what a metric shares with others of its unit: a judge's gains of all variants, its contrasts, or itself.

    The spreads of one unit have a common least size, half their median: five studies that happen to agree do not prove
    that the sixth will (the constant added in the SAM statistic of Tusher, Tibshirani and Chu 2001).
    """
    stage, _, metric = name.partition(" ")
    group, _, last = metric.rpartition("/")
    if last in VARIANTS:
        return f"{stage} {group}/*"
    return f"{stage} */{last}" if "_minus_" in group else name


class Verdict(NamedTuple):
    """What became of a metric: the value, the tolerance (nan where none is known) and one of the `VERDICTS`."""
    stage: str
    metric: str
    expected: float
    value: float
    tolerance: float
    verdict: str

    @property
    def failed(self) -> bool:
        return self.verdict in ("moved", "missing")

    def __str__(self) -> str:
        name = f"{self.stage} {self.metric}"
        if self.verdict == "missing":
            return f"{name} is missing, expected {self.expected:.6g}"
        if self.verdict == "not comparable":
            return f"{name} is {self.value:.6g}: the reference studies do not tell how far it may move"
        return f"{name} is {self.value:.6g}, expected {self.expected:.6g} within {self.tolerance:.6g}"


VERDICTS = {"same": "the shift is shown to be within the margin, half of the reference value",
            "unclear": "within the tolerance, and too noisy to show that the shift is within the margin",
            "moved": "outside the tolerance", "missing": "a metric of the reference that the study lacks",
            "not comparable": "a metric without reference or tolerance"}


def judge(expected: Mapping[str, Expected], values: Mapping[str, float], num_new: int = 1) -> list[Verdict]:
    """Return a verdict for every metric expected or found, in that order; `values` are means over `num_new` studies."""
    found = []
    for name in expected | values:
        want, value = expected.get(name), values.get(name, float("nan"))
        stage, _, metric = name.partition(" ")
        tolerance = want.tolerance(num_new) if want else float("nan")
        verdict = ("missing" if name not in values else "not comparable" if want is None
                   else _compare(want, value, tolerance, num_new))
        found.append(Verdict(stage, metric, want.value if want else float("nan"), value, tolerance, verdict))
    return found


def _compare(want: Expected, value: float, tolerance: float, num_new: int) -> str:
    """Return the verdict on a metric that was expected and found."""
    if want.value == value or (np.isnan(want.value) and np.isnan(value)):
        return "same"
    if np.isnan(tolerance):
        return "not comparable"
    shift = abs(value - want.value)
    if not shift <= tolerance + ROUNDING * abs(want.value):  # a value that is nan has moved
        return "moved"
    bound = shift + want.half_width(EQUIVALENCE, num_new)
    return "same" if bound <= max(MARGIN * abs(want.value), want.least) else "unclear"
