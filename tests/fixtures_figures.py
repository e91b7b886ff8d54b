"""One toy example of every figure function, with a word of our choice wherever a figure shows people's text."""
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from npkit.figures import Figure, data, evaluation, glyphworld, neurologic, picture_sheet, ppo, reward, sft
from npkit.findings.evaluation import VARIANTS, contrast_table, gains, lengths, results_table
from npkit.findings.stats import Interval

PICTURES = np.random.default_rng(0).random((6, 8, 8, 3))
UPDATES = pd.DataFrame({"update": range(1, 7), "eval/reward": 0.5} | {name: np.arange(6) / 10 for name in ppo.CURVES})


def scores(word: str) -> pd.DataFrame:
    """Return rows as `evaluation.evaluate` does: eight prefixes, six variants, two judges, all with the word."""
    rng = np.random.default_rng(0)
    rows = [(f"{word} {number}", variant, f"{word} {number}" + ", moody" * (place + number % 2), 0, f"{judge} {word}",
             rng.normal(place))
            for number in range(8) for place, variant in enumerate(VARIANTS) for judge in ("pickscore", "oracle")]
    return pd.DataFrame(rows, columns=["prefix", "variant", "prompt", "seed", "judge", "score"])


def of_evaluation(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebook 06."""
    rows, rng = scores(word), np.random.default_rng(0)
    judge, oracle = f"pickscore {word}", f"oracle {word}"
    gain, true = gains(rows, judge), gains(rows, oracle)
    prefixes = list(gain.index[:2])
    return {
        evaluation.resampled_means: partial(evaluation.resampled_means, rng.normal(size=40), Interval(0, -1, 1, 40)),
        evaluation.gain_forest: partial(evaluation.gain_forest, results_table(rows, rng, 20)),
        evaluation.win_rates: partial(evaluation.win_rates, contrast_table(rows, rng, 20)),
        evaluation.gain_distributions: partial(evaluation.gain_distributions, gain, judge),
        evaluation.judge_against_oracle: partial(evaluation.judge_against_oracle, gain, true, judge, oracle),
        evaluation.length_effect: partial(evaluation.length_effect, lengths(rows, judge), judge),
        evaluation.variant_sheet: partial(
            evaluation.variant_sheet, prefixes, {key: [f"{prefix}, {word}" for prefix in prefixes] for key in VARIANTS},
            dict.fromkeys(VARIANTS, PICTURES[:2]), gain),
    }


def of_training(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebooks 02 and 04."""
    tokens, numbers = [word, " fox", "\n", "\ufffd"], [0.5, -1.0, 2.0, 0.1]
    rows = pd.DataFrame({"step": range(5), "train/loss": np.linspace(6, 2, 5)})
    samples = pd.DataFrame({"update": 1, "prefix": "a fox", "completion": f", {word}", "score": [0.1, 0.2, 0.3]})
    warmth = pd.DataFrame({"temperature": [0.5, 1.0], "num_words": [10, 20], "surprise": [3.0, 4.0]})
    return {
        sft.learning_curve: partial(sft.learning_curve, rows, {f"{word} alone": 5.5}),
        sft.token_surprise: partial(sft.token_surprise, tokens, {word: numbers, "SFT": numbers}),
        sft.temperatures: partial(sft.temperatures, warmth),
        ppo.clipping: partial(ppo.clipping, 0.2),
        ppo.credit: partial(ppo.credit, tokens, numbers, numbers, numbers),
        ppo.training_curves: partial(ppo.training_curves, UPDATES, 8, samples),
        ppo.judged_curves: partial(ppo.judged_curves, {word: UPDATES, "b": UPDATES}, "policy/entropy", "entropy"),
    }


def of_corpora(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebooks 00, 01 and 05, and the sheet of pictures."""
    shares = {"style": 0.2, f"vibe {word}": 0.7}
    words = pd.DataFrame({"rule": word, "part": ["prefix", "completion"] * 4, "words": range(8)})
    modifiers = pd.DataFrame([(f"kind {category}", f"{word} {number % 2}", f"subject {number // 4}", number)
                              for category in range(6) for number in range(8)],
                             columns=["category", "modifier", "subject", "gain"])
    sight = pd.Series([0.9, 0.2], [word, "none"])
    likings = pd.DataFrame([[0.1, -1.2], [0.3, 0.4]], ["plant", word], ["8k", "vivid"])
    tastes = pd.DataFrame([(f"{word} - b", f"drawing {number}", number, number - 1, number + 0.5)
                           for number in range(3)], columns=["comparison", "tastes", "mean", "low", "high"])
    oracle = pd.DataFrame({"variant": ["prefix", word] * 4, "oracle": range(8)})
    costs = pd.DataFrame({"clauses": [0, 0, 1, 1], "logprob": [-3.0, -4.0, -8.0, -7.0]})
    return {
        data.category_shares: partial(data.category_shares, {word: shares, "b": shares}),
        data.popularity: partial(data.popularity, {word: [100, 10, 1], "b": [300, 20, 0]}),
        data.lengths_by_rule: partial(data.lengths_by_rule, words),
        data.leakage: partial(data.leakage, {word: 0.4, "b": 0.0}),
        glyphworld.sights: partial(glyphworld.sights, PICTURES[:2], [word, "b"], [sight, sight]),
        glyphworld.likings: partial(glyphworld.likings, likings),
        glyphworld.modifier_gains: partial(glyphworld.modifier_gains, modifiers),
        glyphworld.across_tastes: partial(glyphworld.across_tastes, tastes),
        glyphworld.vote_curve: partial(glyphworld.vote_curve, [-1.0, 0.3, 2.0], 0.5),
        glyphworld.oracle_by_variant: partial(glyphworld.oracle_by_variant, oracle),
        neurologic.states: partial(neurologic.states, [(word, "art"), ("art", "nouveau")]),
        neurologic.price: partial(neurologic.price, costs, [0, 1, 1, 2]),
        neurologic.shares: partial(neurologic.shares, {"sft": shares, "ppo": shares}),
        picture_sheet: partial(picture_sheet, PICTURES, [word] * 6, 3, column_titles=["ppo", word, "c"],
                               row_titles=[word, "b"]),
    }


def of_reward(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebook 03."""
    curve = pd.DataFrame({"step": [0, 10]} | {f"{pairs} {column}": 0.6 for pairs in ("training", "validation")
                                               for column in ("loss", "agreement")})
    table = pd.DataFrame({"judge": [word, "b"], "mean": 0.6, "low": 0.5, "high": 0.7})
    bins = pd.DataFrame({"predicted": [0.2, 0.8], "voted": [0.3, 0.6], "error": 0.1, "n": 20})
    gained = pd.DataFrame({"prompt": [word, word, "b", "b"], "noise": ["same", "other"] * 2, "gain": range(4)})
    claimed = pd.DataFrame({"words": [0, 0, 1, 1], "share": [0.5, 0.6, 0.7, 0.9], "curve": [word, "public"] * 2})
    return {
        reward.votes: partial(reward.votes, PICTURES[:2], [word, "b"], [(0, 1)], [0.4], [0.5]),
        reward.learning: partial(reward.learning, curve, 10, 0.65, 0.74),
        reward.agreement: partial(reward.agreement, table),
        reward.calibration: partial(reward.calibration, {word: bins, "b": bins}),
        reward.same_noise: partial(reward.same_noise, gained),
        reward.over_optimised: partial(reward.over_optimised, claimed, {word: "judge", "public": "public"}),
        reward.fooled: partial(reward.fooled, PICTURES[:2], PICTURES[:2], [f"a fox, {word}"] * 2,
                               np.array([[0.9, 0.8], [0.7, 0.8]]), np.array([[0.1, 0.2], [0.3, 0.2]])),
    }


def examples(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return figure function -> a call of it on toy data."""
    return of_evaluation(word) | of_training(word) | of_reward(word) | of_corpora(word)
