"""Casts: those who voted in a study, people by their file of votes or simulated raters by a taste."""
import importlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from npkit.errors import NpkitError
from npkit.preferences.exchange import votes_from
from npkit.preferences.pairs import QUESTIONS, Pair
from npkit.preferences.simulated import SIMULATED, Crowd, simulate
from npkit.preferences.votes import table_of
from npkit.study.profiles import PreferenceConfig

PEOPLE = "people"  # the name of a cast that was not simulated
JUDGES_AS_RATERS = 2  # judges whose scores stand for tastes, where a profile has no simulated public


def casts(config: PreferenceConfig, pairs: Sequence[Pair], pictures: np.ndarray, scores: pd.DataFrame, seed: int
          ) -> dict[str, pd.DataFrame]:
    """Return the name of each cast and its votes: of people where the settings name their file, else simulated ones.

    `pictures` (pairs, 2, height, width, 3) uint8 are those of the first and of the second prompt of each pair, and
    `scores` the study's. Each taste of the simulated raters is a cast, and its name begins with "simulated".
    """
    if config.votes:
        return {PEOPLE: votes_from(config.votes)}
    worth = worth_of(pairs, pictures, config.raters) if config.raters else worth_by_judges(
        pairs, scores, list(scores["judge"].unique()[:JUDGES_AS_RATERS]))
    per_rater = min(config.pairs_per_rater, len(pairs))  # a small study has fewer
    num_raters = -(-len(pairs) * config.votes_per_pair // per_rater)
    return {f"{SIMULATED} {taste}": table_of(simulate(pairs, values, Crowd(taste), num_raters, per_rater,
                                                      seed + number), pairs)
            for number, (taste, values) in enumerate(worth.items())}


def worth_of(pairs: Sequence[Pair], pictures: np.ndarray, function: str) -> dict[str, dict[str, np.ndarray]]:
    """Return taste -> question -> (pairs, 2): what a picture is worth, by `module:function` of (prefixes, pictures).

    `pictures` (pairs, 2, height, width, 3) uint8 are those of the first and of the second prompt of each pair.
    """
    module, _, name = function.partition(":")
    try:
        ask = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise NpkitError(f"preference.raters is a module:function of (prefixes, pictures), got {function!r}: {error}"
                         ) from error
    prefixes = [pair.prefix for pair in pairs for _ in range(2)]
    found = ask(prefixes, pictures.reshape(-1, *pictures.shape[2:]))
    return {taste: {question: values.reshape(-1, 2) for question, values in questions.items()}
            for taste, questions in found.items()}


def worth_by_judges(pairs: Sequence[Pair], scores: pd.DataFrame, judges: Sequence[str]
                    ) -> dict[str, dict[str, np.ndarray]]:
    """Return judge -> question -> (pairs, 2): the judge's scores, in units of their spread; the same for each question.

    For image models whose pictures no simulated public can look at: these raters think as a judge does, and agree with
    it because they were made so.
    """
    found = {}
    for judge in judges:
        known = scores[scores["judge"] == judge].set_index(["prefix", "seed", "variant"])["score"]
        values = np.array([[known[pair.prefix, pair.seed, name] for name in pair.variants] for pair in pairs])
        found[judge] = dict.fromkeys(QUESTIONS, values / (values.std() or 1.0))
    return found
