"""Laws: what optimising against a judge earns by the true public, as a function of the distance from SFT.

Gao, Schulman and Hilton 2022, "Scaling Laws for Reward Model Overoptimization" (arXiv 2210.10760), section 3: with
d = sqrt(KL) from the starting policy, the true gain of best-of-n follows d (alpha - beta d), that of reinforcement
learning d (alpha - beta log d). Both are linear in alpha and beta, so least squares fits them exactly.
"""
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from npkit.errors import NpkitError

PENALTY: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"best-of-n": lambda d: d, "rl": np.log}


class Fit(NamedTuple):
    """A fitted law: its two coefficients, where it peaks (nan: it does not), and its typical error."""
    kind: str
    alpha: float
    beta: float
    peak: float        # the distance d of the highest true gain, in square roots of nats
    residual: float    # root mean square of what the law does not explain, in the judge's unit
    n: int
    largest: float     # the largest distance among the points

    def gain(self, distance: ArrayLike) -> np.ndarray:
        """Return the true gain that the law gives at these distances, all above 0."""
        d = np.asarray(distance, dtype=float)
        return d * (self.alpha - self.beta * PENALTY[self.kind](d))


def fit_law(kl: ArrayLike, gain: ArrayLike, kind: str) -> Fit:
    """Return the law of `kind` ("best-of-n" or "rl") fitted by least squares to gains at KL distances in nats.

    Points with a KL of 0 or less say nothing about the law, and are left out; fewer than three others raise.
    """
    kl, gain = np.asarray(kl, dtype=float), np.asarray(gain, dtype=float)
    d, gain = np.sqrt(kl[kl > 0]), gain[kl > 0]
    if len(d) < 3:
        raise NpkitError(f"a law needs three points with a KL above 0, got {len(d)}")
    design = np.stack([d, -d * PENALTY[kind](d)], 1)
    (alpha, beta), *_ = np.linalg.lstsq(design, gain)
    residual = float(np.sqrt(np.mean((design @ [alpha, beta] - gain) ** 2)))
    return Fit(kind, float(alpha), float(beta), peak_of(kind, float(alpha), float(beta)), residual, len(d),
               float(d.max()))


def peak_of(kind: str, alpha: float, beta: float) -> float:
    """Return where the law is highest: alpha / (2 beta), or exp(alpha / beta - 1); nan where it never falls."""
    if beta <= 0:
        return float("nan")
    return alpha / (2 * beta) if kind == "best-of-n" else float(np.exp(min(700.0, alpha / beta - 1)))


def best_of_n_kl(n: int) -> float:
    """Return the KL in nats of best-of-n sampling from its base policy: log n - (n - 1) / n (Stiennon et al. 2020)."""
    if n < 1:
        raise NpkitError(f"best-of-n needs n of 1 or more, got {n}")
    return float(np.log(n) - (n - 1) / n)


def expected_best(proxy: ArrayLike, truth: ArrayLike, n: int) -> float:
    """Return the mean true score of the best of n by the proxy score, over all choices of n of one prefix's samples.

    The unbiased estimator of Nakano et al. 2021 (arXiv 2112.09332): the sample of rank i (worst 0) among N is the best
    of n in C(i, n - 1) of C(N, n) choices.
    """
    proxy, truth = np.asarray(proxy, dtype=float), np.asarray(truth, dtype=float)
    if not 1 <= n <= len(proxy):
        raise NpkitError(f"the best of {n} of {len(proxy)} samples: n is 1 to {len(proxy)}")
    order = np.argsort(proxy, kind="stable")
    weights = np.array([np.prod([(rank - k) / (len(proxy) - 1 - k) for k in range(n - 1)]) for rank in
                        range(len(proxy))])
    return float(truth[order] @ weights / weights.sum())
