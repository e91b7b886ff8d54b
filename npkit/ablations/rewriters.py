"""Rewriters: one run of the ablation of that name: recipes without training, this study's policies, other models."""
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from npkit.ablations.engine import Trial
from npkit.ablations.payments import load_scorer
from npkit.ablations.policies import joined, judged, make_data, on_device, prefixes_of, sampled, sft_of
from npkit.ablations.writing import policy_of
from npkit.findings.baselines import best_of_n, boosters, draw_modifiers, modifiers_of_people
from npkit.findings.variants import human_prompts
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import set_threads
from npkit.text import keywords
from npkit.text.policy import Policy, load_policy

PROMPTIST = "promptist"  # in a model's name: it was trained to answer "prompt Rephrase:" by the whole new prompt
Prompts = Callable[[Sequence[str]], list[str]]


def measure(trial: Trial) -> dict[str, object]:
    """Return one row: the gains by every judge of the arm's prompts, and what can be said of the texts."""
    run = trial.run("ppo")
    set_threads(run.config)
    make_data(run)
    scorer, sft = load_scorer(run), on_device(load_policy(sft_of(trial).path / "model"), run)
    prefixes = prefixes_of(trial, sft[1])
    prompts = write(trial, sft, scorer)(prefixes)
    completions = [prompt.removeprefix(prefix) for prompt, prefix in zip(prompts, prefixes, strict=True)]
    kept = [prompt.startswith(prefix) for prompt, prefix in zip(prompts, prefixes, strict=True)]
    return judged(prefixes, prompts, scorer, trial.seed) | {
        "prefix_retained": float(np.mean(kept)), "distinct_share": len(set(completions)) / len(completions),
        "words_added": float(np.mean([len(prompt.split()) - len(prefix.split()) for prompt, prefix in
                                      zip(prompts, prefixes, strict=True)]))}


def write(trial: Trial, sft: Policy, scorer: Scorer) -> Prompts:
    """Return the function that makes the arm's prompts of prefixes; an arm of no recipe is a model's name."""
    config, name = trial.run("evaluation").config, trial.arm.name
    dataset = trial.run("ppo").input("data").dataset("prompts")
    words = keywords.load(config.neurologic.keywords)
    recipes: dict[str, Prompts] = {
        "human": partial(human_prompts, dataset), "sft": partial(continued, trial, sft),
        "prefix+boosters": lambda prefixes: [", ".join([prefix, *boosters(words)]) for prefix in prefixes],
        "random": lambda prefixes: draw_modifiers(prefixes, modifiers_of_people(dataset, words), trial.seed),
        "frequent": lambda prefixes: draw_modifiers(prefixes, modifiers_of_people(dataset, words), trial.seed, True),
        "best-of-n": lambda prefixes: best_of_n(
            prefixes, lambda many: sampled(trial, sft, many), scorer, weights=config.ppo.weights,
            n=config.ablation.best_of, seed=trial.seed).prompts}
    if name in recipes:
        return recipes[name]
    policy = policy_of(trial)[0] if name == "ppo" else on_device(load_policy(name), trial.run("ppo"))
    return partial(rephrased if PROMPTIST in name.lower() else continued, trial, policy)


def continued(trial: Trial, policy: Policy, prefixes: Sequence[str]) -> list[str]:
    """Return each prefix with what a policy writes behind it."""
    return joined(prefixes, sampled(trial, policy, prefixes))


def rephrased(trial: Trial, policy: Policy, prefixes: Sequence[str]) -> list[str]:
    """Return what Promptist makes of each prefix, a prompt of its own (Hao et al. 2022, arXiv 2212.09611)."""
    return [text.strip() or prefix for prefix, text in
            zip(prefixes, sampled(trial, policy, [f"{prefix} Rephrase:" for prefix in prefixes]), strict=True)]
