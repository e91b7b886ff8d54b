"""One toy example of every figure function, with a word of our choice wherever a figure shows people's text."""
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd

from npkit.figures import (
    Figure,
    ablations,
    alarm,
    data,
    evaluation,
    glyphworld,
    neurologic,
    picture_sheet,
    ppo,
    preferences,
    reward,
    sft,
)
from npkit.findings.alarm import Alarm
from npkit.findings.evaluation import EVALUATED, contrast_table, extremes, gains, lengths, results_table
from npkit.findings.stats import Interval
from npkit.preferences.pairs import QUESTIONS

PICTURES = np.random.default_rng(0).random((6, 8, 8, 3))
UPDATES = pd.DataFrame({"update": range(1, 7), "eval/reward": 0.5} | {name: np.arange(6) / 10 for name in ppo.CURVES})


def scores(word: str) -> pd.DataFrame:
    """Return rows as `evaluation.evaluate` does: eight prefixes, every variant, two judges, all with the word."""
    rng = np.random.default_rng(0)
    rows = [(f"{word} {number}", variant, f"{word} {number}" + ", moody" * (place + number % 2), 0, f"{judge} {word}",
             rng.normal(place))
            for number in range(8) for place, variant in enumerate(EVALUATED) for judge in ("pickscore", "oracle")]
    return pd.DataFrame(rows, columns=["prefix", "variant", "prompt", "seed", "judge", "score"])


def of_evaluation(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebook 06."""
    rows, rng = scores(word), np.random.default_rng(0)
    judge, oracle = f"pickscore {word}", f"oracle {word}"
    gain, true = gains(rows, judge), gains(rows, oracle)
    prefixes = list(gain.index[:2])
    effects = pd.DataFrame({name: [0.5, 0.1] for name in ("effect", "low", "high", "lead", "lead_low", "lead_high")},
                           index=[judge, oracle])
    ends = [f"{name}{end}" for name in ("gain", "faithfulness", "entropy") for end in ("", "_low", "_high")]
    traded = pd.DataFrame({"variant": EVALUATED} | dict.fromkeys(ends, 0.5))
    groups = extremes(gain["ppo"], 1)
    shown = [prefix for chosen in groups.values() for prefix in chosen]
    return {
        evaluation.tradeoffs: partial(evaluation.tradeoffs, traded, oracle, f"faithful {word}"),
        evaluation.example_sheet: partial(
            evaluation.example_sheet, groups, "ppo", {prefix: f"{prefix}, {word}" for prefix in shown},
            {"prefix": PICTURES[:3], "ppo": PICTURES[3:]}, gain["ppo"]),
        evaluation.resampled_means: partial(evaluation.resampled_means, rng.normal(size=40), rng.normal(size=40),
                                            Interval(0, -1, 1, 40)),
        evaluation.judge_effects: partial(evaluation.judge_effects, effects, judge, f"{word} - b"),
        evaluation.gain_forest: partial(evaluation.gain_forest, results_table(rows, rng, 20)),
        evaluation.win_rates: partial(evaluation.win_rates, contrast_table(rows, rng, 20)),
        evaluation.gain_distributions: partial(evaluation.gain_distributions, gain, judge),
        evaluation.judge_against_oracle: partial(evaluation.judge_against_oracle, gain, true, judge, oracle),
        evaluation.length_effect: partial(evaluation.length_effect, lengths(rows, judge), judge),
        evaluation.variant_sheet: partial(
            evaluation.variant_sheet, prefixes, {name: [f"{each}, {word}" for each in prefixes] for name in EVALUATED},
            dict.fromkeys(EVALUATED, PICTURES[:2]), gain),
    }


def of_training(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebooks 02 and 04."""
    tokens, numbers = [word, " fox", "\n", "\ufffd"], [0.5, -1.0, 2.0, 0.1]
    rows = pd.DataFrame({"step": range(5), "train/loss": np.linspace(6, 2, 5)})
    small = pd.DataFrame({"corpus": word, "part": ["training", "validation"] * 2, "step": [0, 0, 9, 9], "loss": 2.0})
    samples = pd.DataFrame({"update": 1, "prefix": "a fox", "completion": f", {word}", "score": [0.1, 0.2, 0.3]})
    warmth = pd.DataFrame({"temperature": [0.5, 1.0], "num_words": [10, 20], "surprise": [3.0, 4.0]})
    return {
        sft.learning_curve: partial(sft.learning_curve, rows, {f"{word} alone": 5.5}),
        sft.small_trainings: partial(sft.small_trainings, small, {f"{word} alone": 5.5}),
        sft.token_surprise: partial(sft.token_surprise, tokens, {word: numbers, "SFT": numbers}),
        sft.temperatures: partial(sft.temperatures, warmth),
        ppo.clipping: partial(ppo.clipping, 0.2),
        ppo.credit: partial(ppo.credit, tokens, numbers, numbers, numbers),
        ppo.training_curves: partial(ppo.training_curves, UPDATES, 8, samples),
    } | of_ppo(word)


def of_ppo(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the other examples of notebook 04."""
    numbers, runs = np.array([0.5, 1.1, -0.2]), np.ones((2, 3))
    variants, gain = ("prefix", "sft", "ppo"), pd.DataFrame({"sft": 0.1, "ppo": 0.2}, index=["a fox"])
    seeds = pd.DataFrame({"seed": [0, 1, 0], "judge": [word, word, "b"], "difference": 0.3, "low": 0.1, "high": 0.5})
    curves = pd.DataFrame({"judge": ["b", word] * 2, "update": [10, 10, 20, 20], "gain": range(4), "error": 0.1})
    return {
        alarm.hacking_curves: partial(alarm.hacking_curves, curves, "b", Alarm(True, word, 20, 0.5, 0.2, 0.01)),
        ppo.bandit: partial(ppo.bandit, {word: numbers, "b": numbers}, 0.5, {word: runs, "b": runs}, 2.0),
        ppo.stopped_tokens: partial(ppo.stopped_tokens, numbers + 1, numbers, numbers > 1, 0.2),
        ppo.loop_curves: partial(ppo.loop_curves, {word: UPDATES, "b": UPDATES}),
        ppo.before_after: partial(ppo.before_after, ["a fox"], {name: [f"a fox, {word}"] for name in variants},
                                  dict.fromkeys(variants, PICTURES[:1]), {"pickscore": gain}),
        ppo.seed_spread: partial(ppo.seed_spread, seeds),
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
    costs = pd.DataFrame({"clauses": [0, 0, 1, 1], "logprob": [-3.0, -4.0, -8.0, -7.0], "free": -2.5})
    needs = pd.DataFrame({"written": [1, 1, 2], "needed": [3, 5, 2]})
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
        neurologic.spellings: partial(neurologic.spellings, [[word, "art"], ["a"]], [True, False], [True, True]),
        neurologic.bound: partial(neurologic.bound, needs, 5),
        neurologic.price: partial(neurologic.price, costs),
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


def of_ablations(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebook 07."""
    table = pd.DataFrame({"judge": "b", "arm": ["none", word, "c"], "gain": [0.1, 0.2, 0.5], "low": [0.0, 0.1, 0.4],
                          "high": [0.2, 0.3, 0.6], "p": [np.nan, 0.5, 0.01], "seeds": 3})
    points = pd.DataFrame({"arm": ["best-of-n", "best-of-n", "c", "c"], "kl": [0.1, 0.5, 1.0, 4.0], word: 0.5, "b": 1})
    square = pd.DataFrame([[0.1, -0.2], [-0.2, 0.4]], ["c", word], ["c", word])
    clear = pd.DataFrame({"one": ["c", "c"], "other": ["c", word], "low": [0.0, -0.3], "high": [0.2, -0.1]})
    means = pd.DataFrame({word: [0.1, 0.3, 0.2, 0.5]}, ["none", "a", "b", "a + b"])
    return {
        ablations.arms: partial(ablations.arms, table, "none", "b"),
        ablations.frontier: partial(ablations.frontier, points, {"rl": [SimpleNamespace(gain=np.sqrt)]}, word, "b"),
        ablations.interactions: partial(ablations.interactions, square, clear, "b"),
        ablations.crossing: partial(ablations.crossing, means, "a", "b"),
    }


def of_preferences(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return the examples of notebook 09."""
    cast, questions, variants = f"simulated {word}", list(QUESTIONS), ["prefix", "ppo"]
    shares = {"low": 0.4, "high": 0.6, "rate": 0.5, "agreement": 0.5, "alpha": 0.5, "strength": 0.5}
    by_question = pd.DataFrame({"question": questions} | dict.fromkeys(
        ("left", "left_low", "left_high", "ties", "ties_low", "ties_high"), 0.5)).assign(**shares)
    meetings, judges = by_question.assign(meeting="ppo - prefix"), by_question.assign(judge=f"judge {word}")
    strong = pd.DataFrame([(question, name) for question in questions for name in variants],
                          columns=["question", "variant"]).assign(**shares)
    learnt = pd.DataFrame([(cast, judge) for judge in preferences.JUDGE_STYLES], columns=["cast", "judge"])
    return {
        preferences.win_rates: partial(preferences.win_rates, {cast: meetings}),
        preferences.strengths: partial(preferences.strengths, {cast: strong}),
        preferences.raters: partial(preferences.raters, {cast: by_question}, {cast: by_question}),
        preferences.judge_agreement: partial(preferences.judge_agreement, {cast: judges}),
        preferences.learnt: partial(preferences.learnt, learnt.assign(**shares),
                                    meetings[:1].assign(**dict.fromkeys(preferences.JUDGE_STYLES, 0.5)), cast),
    }


def examples(word: str) -> dict[Callable, Callable[[], Figure]]:
    """Return figure function -> a call of it on toy data."""
    return (of_evaluation(word) | of_training(word) | of_reward(word) | of_corpora(word) | of_ablations(word)
            | of_preferences(word))
