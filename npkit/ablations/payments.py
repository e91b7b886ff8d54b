"""Payments: other ways to put PPO's reward together, and the training that is paid so.

The study pays the gain S(x, image(y)) - S(x, image(x)) of one judge or a weighted sum. Here are the ways that an
ablation compares with it: the score alone; the mean or the worst of the gains of several judges (Coste et al. 2023,
"Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743).
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from npkit.ablations.engine import split_names
from npkit.errors import NpkitError
from npkit.scoring.cache import shared_cache
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import Judge, load_judge, load_judges
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import Run
from npkit.study.code import code_of, short_hash
from npkit.study.contents import fingerprint
from npkit.study.profiles import JudgeConfig
from npkit.text.policy import load_policy
from npkit.training.assembly import deciding_seed, ppo_prefixes
from npkit.training.reinforcement import train_ppo, write_policy
from npkit.training.rollouts import Reward, read_samples

COMBINE: Mapping[str, Callable[[Tensor], Tensor]] = {"mean": lambda gains: gains.mean(0),
                                                     "worst": lambda gains: gains.amin(0)}
PAYMENTS = ("score", *COMBINE)  # the study's own, the gain, is no `PaidRun`


@dataclass(frozen=True)
class PaidRun(Run):
    """A PPO run that is paid in another way than the study's; its artifact has a key of its own."""
    payment: str = PAYMENTS[0]

    @cached_property
    def key(self) -> str:
        """Short SHA-256 of what decides the study's own run, and of the payment with its judges and its code."""
        others = [fingerprint(folder) for folder in ensemble_folders(self)]
        parts = [Run.key.func(self), self.payment, others, code_of(f"{__name__}:write_paid").digest]
        return short_hash(repr(parts))


def paid_run(run: Run, payment: str) -> PaidRun:
    """Return a PPO run with another payment; one that there is none of raises."""
    if payment not in PAYMENTS:
        raise NpkitError(f"a payment is one of {', '.join(PAYMENTS)}, got {payment!r}")
    return PaidRun(run.stage, run.config, run.seed, run.settings, payment=payment)


def ensemble_folders(run: Run) -> list[str]:
    """Return the folders or hub ids of the further paid judges, as `ablation.ensemble` names them."""
    return split_names(run.config.ablation.ensemble)


# 1. Judges -----------------------------------------------------------------------------------------------------------
def load_scorer(run: Run) -> Scorer:
    """Return painter, judges and the shared cache."""
    return Scorer(load_image_model(run.config.images, run.device), load_judges(run.config, run.device), shared_cache())


def paying_judges(run: PaidRun) -> dict[str, Judge]:
    """Return the judges that pay, by name: the study's, or with it those of `ablation.ensemble`, of other seeds."""
    paid, folders = run.config.judge(run.config.ppo.reward_judge), ensemble_folders(run)
    if run.payment not in COMBINE:
        folders = []
    elif not folders:
        raise NpkitError("ablation.ensemble is empty: name the folders of further paid judges, separated by commas")
    configs = [paid, *(JudgeConfig(name=f"{paid.name}-{number}", kind=paid.kind, model=folder, head=paid.head)
                       for number, folder in enumerate(folders, start=2))]
    return {config.name: load_judge(config, run.device) for config in configs}


# 2. Rewards ----------------------------------------------------------------------------------------------------------
def reward_of(run: PaidRun, scorer: Scorer, seed: int) -> Reward:
    """Return what a completion is paid, by pictures painted from `seed`: a score, or gains of all the scorer's judges.

    Each picture is painted once for all judges.
    """
    combine = COMBINE.get(run.payment)

    def reward(prefixes: list[str], completions: list[str]) -> Tensor:
        prompts = [prefix + rest for prefix, rest in zip(prefixes, completions, strict=True)]
        if not combine:
            return scorer.scores(prefixes, prompts, seed)[run.config.ppo.reward_judge]
        scores = scorer.scores([*prefixes, *prefixes], [*prompts, *prefixes], seed)
        return combine(torch.stack([values[:len(prompts)] - values[len(prompts):] for values in scores.values()]))

    return reward


# 3. Training ---------------------------------------------------------------------------------------------------------
def write_paid(run: PaidRun, folder: Path) -> dict[str, float]:
    """Train a policy as `npkit.training.assembly.write_ppo` does, paid in the run's way; return its metrics."""
    (policy, tokenizer), (ref_policy, _) = (load_policy(run.input("sft").path / "model") for _ in range(2))
    scorer = Scorer(load_image_model(run.config.images, run.device), paying_judges(run), shared_cache())
    prefixes, _, deciding = ppo_prefixes(run, tokenizer)
    reward, deciding_reward = (reward_of(run, scorer, seed) for seed in (run.seed, deciding_seed(run.seed)))
    rows = train_ppo(policy.to(run.device), ref_policy.to(run.device), tokenizer, prefixes, reward, run.config.ppo,
                     seed=run.seed, folder=run.scratch, max_prompt_tokens=run.config.policy.max_prompt_tokens,
                     heldout=deciding, heldout_reward=deciding_reward)
    return write_policy(folder, policy, tokenizer, rows, read_samples(run.scratch), run.scratch)
