"""Simulated raters: they choose by what pictures are worth to them, with noise; nobody was asked, and names say so.

A rater feels the difference of two worths plus logistic noise (Bradley and Terry's model) and a lean to the left, and
calls a tie where what is felt is small (Rao and Kupper 1967). What the raters would choose on average is known, so that
an analysis of their votes can be held against the truth.
"""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.special import expit

from npkit.errors import NpkitError
from npkit.preferences.pairs import QUESTIONS, Pair, questions_for
from npkit.preferences.votes import Vote

BEGIN = datetime(2000, 1, 1, tzinfo=UTC)  # simulated votes carry a simulated time: the same study gives the same file
SIMULATED = "simulated"  # the first word of a simulated rater's name, and the versions of a simulated vote


@dataclass(frozen=True)
class Crowd:
    """A simulated population: whose taste it has, and how its raters vote. Differences are in units of the worth."""
    taste: str  # "public" or "critics"; a judge's name where a judge's scores stand for people
    noise: float = 0.8  # scale of the logistic noise: of GlyphWorld's raters, 0.8
    tie: float = 0.25  # what is felt within this calls a tie
    lean: float = 0.0  # added to what is felt for the left picture

    def chances(self, difference: np.ndarray) -> np.ndarray:
        """Return the probabilities (..., 3) of left, right and tie for worth(left) - worth(right)."""
        felt = np.asarray(difference) + self.lean
        left, right = expit((felt - self.tie) / self.noise), expit((-felt - self.tie) / self.noise)
        return np.stack([left, right, 1 - left - right], axis=-1)

    def expected(self, difference: np.ndarray) -> np.ndarray:
        """Return the expected points (1 a win, 1/2 a tie) of the first picture, whose side is random."""
        sides = [self.chances(sign * np.asarray(difference)) for sign in (1, -1)]
        return (sides[0] @ (1, 0, 0.5) + sides[1] @ (0, 1, 0.5)) / 2


def rater_names(crowd: Crowd, number: int) -> list[str]:
    """Return names that say what these raters are."""
    return [f"{SIMULATED} {crowd.taste} {index:02}" for index in range(1, number + 1)]


def simulate(pairs: Sequence[Pair], worth: Mapping[str, np.ndarray], crowd: Crowd, num_raters: int,
             pairs_per_rater: int, seed: int) -> list[Vote]:
    """Return the votes of simulated raters: each sees `pairs_per_rater` of the pairs and answers the questions.

    `worth` maps a question to (pairs, 2): what the first and the second picture of each pair are worth to these raters
    when they are asked this. The raters take turns, so that every pair is seen about equally often.
    """
    if not 0 < pairs_per_rater <= len(pairs):
        raise NpkitError(f"a simulated rater sees 1 to {len(pairs)} of {len(pairs)} pairs, got {pairs_per_rater}")
    rng, places, votes = np.random.default_rng(seed), {pair.name: index for index, pair in enumerate(pairs)}, []
    turns = rng.permutation(len(pairs))
    for number, rater in enumerate(rater_names(crowd, num_raters)):
        seen = [pairs[turns[(number * pairs_per_rater + step) % len(pairs)]] for step in range(pairs_per_rater)]
        asked = [each for each in questions_for(rater, seen) if each.asked in worth]
        differences = [_difference(worth[each.asked][places[each.pair.name]], each.left == each.pair.first)
                       for each in asked]
        bounds = crowd.chances(np.array(differences)).cumsum(-1)[:, :2]
        choices = (rng.random((len(asked), 1)) > bounds).sum(-1)  # 0 left, 1 right, 2 tie
        seconds = np.round(rng.lognormal(1.2, 0.5, len(asked)), 2)  # a median of 3.3: invented, like all of it
        time = BEGIN + timedelta(days=number)
        for each, choice, took in zip(asked, choices, seconds.tolist(), strict=True):
            time += timedelta(seconds=took)
            votes.append(Vote(rater, each.pair.name, each.asked, each.left, ("left", "right", "tie")[choice], took,
                              SIMULATED, time.isoformat()))
    return votes


def _difference(worth: np.ndarray, is_first_left: bool) -> float:
    return float(worth[0] - worth[1] if is_first_left else worth[1] - worth[0])


def draw_world(strengths: Mapping[str, float], num_prefixes: int, spread: float, seed: int,
               questions: Sequence[str] = tuple(QUESTIONS)) -> tuple[list[Pair], dict[str, np.ndarray]]:
    """Return pairs and worths of a world whose variants have these strengths: for tests and benchmarks.

    The worth of a picture is its variant's strength plus a normal deviation `spread` of its own, so that prefixes
    differ. Every two variants meet on every prefix.
    """
    rng, variants = np.random.default_rng(seed), list(strengths)
    pictures = np.array(list(strengths.values())) + spread * rng.standard_normal((num_prefixes, len(variants)))
    meetings = [(one, other) for one in range(len(variants)) for other in range(one + 1, len(variants))]
    cases = [(prefix, *meeting) for prefix in range(num_prefixes) for meeting in meetings]
    pairs = [Pair(f"prefix {prefix}", prefix, variants[one], variants[other], f"prefix {prefix}, {variants[one]}",
                  f"prefix {prefix}, {variants[other]}") for prefix, one, other in cases]
    worth = np.array([(pictures[prefix, one], pictures[prefix, other]) for prefix, one, other in cases])
    return pairs, dict.fromkeys(questions, worth)


def true_rate(crowd: Crowd, gap: float, spread: float) -> float:
    """Return the expected points of a variant over another one in a world of `draw_world`, over all its prefixes.

    `gap` is the difference of the strengths; the worths differ from it by a normal deviate of `spread` times the root
    of 2, which is integrated by Gauss and Hermite's rule.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return float(crowd.expected(gap + 2**0.5 * spread * nodes) @ weights / weights.sum())
