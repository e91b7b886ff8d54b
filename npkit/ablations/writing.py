"""Writing: one run of an ablation that trains nothing: the study's PPO policy writes in the arm's way."""
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from npkit.ablations.engine import Trial
from npkit.ablations.payments import load_scorer
from npkit.ablations.policies import joined, judged, on_device, prefixes_of, sft_of
from npkit.findings.prices import best_of_each_length
from npkit.neurologic import Constraints, certify
from npkit.neurologic.published import decode_as_set
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import Run, set_threads
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import Policy, generate, load_policy, sequence_logprobs
from npkit.training import assembly
from npkit.wishes import Wishes, read_wishes


def policy_of(trial: Trial) -> tuple[Policy, Scorer, Run]:
    """Return the study's PPO policy, trained where it is missing, the judges, and the run that they belong to."""
    run = trial.run("ppo", own=False)
    set_threads(run.config)
    sft_of(trial)
    artifact = run.artifact or assembly.train("ppo", trial.profile, trial.seed, run.settings)
    return on_device(load_policy(artifact.path / "model"), run), load_scorer(run), run


# 1. The parts of the decoder -----------------------------------------------------------------------------------------
def measure_decoding(trial: Trial) -> dict[str, object]:
    """Return one row: share of clauses met, length, log-probability, seconds and gains of the arm's decoder."""
    policy, scorer, _ = policy_of(trial)
    config = trial.run("evaluation").config
    prefixes = prefixes_of(trial, policy[1])
    sets = list(map(read_wishes(config, seed=trial.seed), prefixes))
    start = time.process_time()
    completions = written(trial, policy, prefixes, sets, config.neurologic)
    seconds = (time.process_time() - start) / len(prefixes)
    met = [clause.holds for each, prefix, rest in zip(sets, prefixes, completions, strict=True)
           for clause in certify(each, prefix + rest, prefix).clauses]
    broken = [len(certify(each, prefix + rest, prefix).violations)
              for each, prefix, rest in zip(sets, prefixes, completions, strict=True)]
    logprobs = sequence_logprobs(*policy, prefixes, completions)
    return judged(prefixes, joined(prefixes, completions), scorer, trial.seed) | {
        "coverage": float(np.mean(met)), "bans_broken": float(np.sum(broken)), "logprob": float(np.mean(logprobs)),
        "words_added": float(np.mean([len(text.split()) for text in completions])),
        "distinct_share": len(set(completions)) / len(completions), "processor_seconds_a_prompt": seconds}


def written(trial: Trial, policy: Policy, prefixes: Sequence[str], sets: Sequence[Constraints],
            config: NeurologicConfig) -> list[str]:
    """Return the completion of each prefix by the arm's decoder, the plain ones of which know no clauses."""
    plain = trial.arm.options.get("plain")
    if plain in ("greedy", "sample"):
        return generate(*policy, prefixes, generator_seed=trial.seed, max_new_tokens=config.max_new_tokens,
                        do_sample=plain == "sample")
    asked = [Constraints()] * len(prefixes) if plain else sets
    if not config.own_parts:
        asked = [replace(each, own_parts=False) for each in asked]
    return [each.completion for each in decode_as_set(*policy, prefixes, asked, config)]


# 2. Which clauses ----------------------------------------------------------------------------------------------------
def measure_constraints(trial: Trial) -> dict[str, object]:
    """Return one row: gains, coverage and price when the arm's categories are demanded, over many draws of clauses.

    Every prefix meets every draw; the row's lists have a number a (draw, prefix), the prefix changing fastest.
    """
    policy, scorer, run = policy_of(trial)
    config, chosen = run.config, trial.arm.options["categories"]
    few = prefixes_of(trial, policy[1])[:config.ablation.prefixes_a_draw]
    draws = range(config.ablation.clause_draws)
    prefixes = [prefix for _ in draws for prefix in few]
    sets = [demanded(read_wishes(config, seed=1000 * trial.seed + draw), prefix, chosen) for draw in draws
            for prefix in few]
    found = decode_as_set(*policy, prefixes, sets, config.neurologic)
    free = best_of_each_length(*policy, few, 2 * config.neurologic.beam_size, config.neurologic.max_new_tokens)
    price = [float(free[row % len(few)][each.num_tokens - 1]) - each.logprob for row, each in enumerate(found)]
    met = [clause.holds for each in found for clause in each.certificate.clauses]
    completions = [each.completion for each in found]
    parts = [judged(few, joined(few, completions[start:start + len(few)]), scorer, trial.seed)
             for start in range(0, len(prefixes), len(few))]
    return {name: [value for part in parts for value in part[name]] for name in parts[0]} | {
        "coverage": float(np.mean(met)) if met else 1.0, "price": price,
        "words_added": float(np.mean([len(text.split()) for text in completions]))}


def demanded(wishes: Wishes, prefix: str, categories: Sequence[str]) -> Constraints:
    """Return a prefix's constraints with the clauses of these categories alone."""
    every = wishes(prefix)
    return replace(every, wanted=tuple((name, clause) for name, clause in every.wanted if name in categories))
