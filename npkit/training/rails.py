"""Rails: what stops a training that went wrong, says what to try, and keeps the best policy it came past."""
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from npkit.errors import NpkitError
from npkit.study.profiles import PPOConfig
from npkit.text.policy import encode_with_room, generate_ids, save_policy
from npkit.training import processes
from npkit.training.checkpoints import newest_checkpoint
from npkit.training.rollouts import PolicyAlone, Reward, describe, in_precision, penalise, score


# 1. What stops a run -------------------------------------------------------------------------------------------------
class Rails(TrainerCallback):
    """Ends a run after a bad update and before its checkpoint, so that the newest one in `folder` is a good one."""

    def __init__(self, config: PPOConfig, folder: Path):
        self.config, self.folder = config, Path(folder)

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **others) -> None:
        """Put the run's own learning rates in force: a checkpoint brings back those of the run that wrote it."""
        for group in optimizer.param_groups:
            is_critic = group.get("name") == "critic"
            group["lr"] = self.config.critic_learning_rate if is_critic else self.config.learning_rate
            group["initial_lr"] = group["lr"]
        lr_scheduler.base_lrs = [group["lr"] for group in optimizer.param_groups]

    def on_log(self, args, state, control, model=None, **others) -> None:
        """Raise where the update just logged, or the weights it left, say that going on is of no use."""
        row = state.log_history[-1]
        if "update" not in row:
            return
        wrong = bad_rollout(row, self.config)
        if wrong:  # the rollout is of the policy that the update before left: a checkpoint of that one is no good
            self.reject(state.global_step - args.logging_steps)
        wrong = wrong or bad_step(row, model, self.config)
        if wrong:
            checkpoint = newest_checkpoint(self.folder)
            left = (f"the last good checkpoint is {checkpoint}: train_ppo in the same folder continues from it, npkit "
                    "run with other settings begins anew" if checkpoint else "there is no good checkpoint yet")
            raise NpkitError(f"{self.config.algorithm} stopped at update {row['update']}: {wrong}; {left}")

    def reject(self, step: int) -> None:
        """Take a checkpoint out of those that a run is resumed from; it stays as `rejected-` and its step."""
        checkpoint, rejected = self.folder / f"checkpoint-{step}", self.folder / f"rejected-{step}"
        if processes.is_main() and checkpoint.exists():
            shutil.rmtree(rejected, ignore_errors=True)
            os.rename(checkpoint, rejected)


def bad_rollout(row: Mapping[str, float], config: PPOConfig) -> str:
    """Return what is wrong with the completions of an update, and what to try; "" where nothing is."""
    score, kl, distinct = (row[f"objective/{name}"] for name in ("score", "kl", "distinct_share"))
    calmer = f"a higher ppo.kl_coef (now {config.kl_coef:g}), a lower ppo.learning_rate (now {config.learning_rate:g})"
    if not (math.isfinite(score) and math.isfinite(kl)):
        return f"score {score}, KL {kl} nats an episode; try {calmer}"
    if config.max_kl and kl > config.max_kl:
        return (f"KL to the SFT policy is {kl:.1f} nats an episode, above ppo.max_kl = {config.max_kl:g}; try {calmer} "
                f"or fewer ppo.num_ppo_epochs (now {config.num_ppo_epochs})")
    if distinct < config.min_distinct_share:
        return (f"the policy has collapsed, {distinct:.1%} of the completions are distinct, fewer than "
                f"ppo.min_distinct_share = {config.min_distinct_share:.1%}; try {calmer} or a reward that no single "
                "completion satisfies for every prefix")
    return ""


def bad_step(row: Mapping[str, float], model: nn.Module, config: PPOConfig) -> str:
    """Return which loss or weight an update has left that is not finite, and what to try; "" where all are."""
    broken = [f"{name} is {row[name]}" for name in ("policy/loss", "value/loss") if not math.isfinite(row.get(name, 0))]
    broken += [f"weights of {name} are not finite" for name, weight in model.named_parameters()
               if not weight.isfinite().all()]
    if not broken:
        return ""
    return (f"{broken[0]}; try a lower ppo.learning_rate (now {config.learning_rate:g}), or a reward with a smaller "
            "range")


# 2. The best policy --------------------------------------------------------------------------------------------------
class HeldOut(TrainerCallback):
    """Scores the policy on the same held-out prefixes every `eval_updates` updates, and keeps the best one.

    The best is the one with the highest mean penalised score: the judge's, less the penalty for a missing EOS, less
    `kl_coef` x KL, which is what training raises. The policy that training began with, SFT's, is a candidate (update
    0). Every evaluation draws with the same noise of its own, so that policies differ by what they learnt, and
    training draws as if there were no evaluation.
    """

    def __init__(self, policy: PreTrainedModel, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
                 prefixes: Sequence[str], reward: Reward, config: PPOConfig, *, seed: int, folder: Path):
        self.policy, self.ref_policy, self.tokenizer = policy, ref_policy, tokenizer
        self.prefixes, self.reward = list(prefixes), reward
        self.config, self.seed, self.folder = config, seed, Path(folder)

    def on_train_begin(self, args, state, control, **others) -> None:
        """Enter the policy that training begins with as update 0; a resumed training has it among its rows."""
        if state.global_step == 0 and state.is_world_process_zero:
            state.log_history.append({"update": 0, "episodes": 0, "step": 0})
            self.enter(state.log_history)

    def on_log(self, args, state, control, **others) -> None:
        """Enter the policy that an update has left, where one is due."""
        row = state.log_history[-1]
        due = "update" in row and (row["update"] % self.config.eval_updates == 0
                                   or row["update"] == self.config.num_updates)
        if due and state.is_world_process_zero:
            self.enter(state.log_history)

    def enter(self, rows: list[dict[str, float]]) -> None:
        """Add `eval/score` and `eval/reward` to the last row; write the policy where it is the best so far."""
        rows[-1] |= self.measure()
        if best_row(rows) is rows[-1]:
            keep(self.policy, self.tokenizer, best_folder(self.folder, rows[-1]["update"]))

    def on_save(self, args, state, control, **others) -> None:
        """Remove the policies that a better one has followed, now that a checkpoint knows of it."""
        best = best_row(state.log_history)
        if best and state.is_world_process_zero:
            for folder in self.folder.glob("best-*"):
                if folder != best_folder(self.folder, best["update"]):
                    shutil.rmtree(folder)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Return mean score and mean penalised score of one completion of each held-out prefix."""
        config, models = self.config, (PolicyAlone(self.policy), self.ref_policy, self.tokenizer)
        prefix_ids = encode_with_room(self.policy, self.tokenizer, self.prefixes, config.max_new_tokens)
        with in_precision(config, self.policy.device):
            completion_ids = generate_ids(self.policy, self.tokenizer, self.prefixes, generator_seed=self.seed,
                                          max_new_tokens=config.max_new_tokens, temperature=config.temperature)
        rollout = describe(*models, self.prefixes, prefix_ids, completion_ids, config=config)
        scores = score(rollout, self.reward)
        _, rewards = penalise(rollout, scores, config)
        return {"eval/score": float(scores.mean()), "eval/reward": float(rewards.sum(1).mean())}


def best_row(rows: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """Return the row with the highest `eval/reward`, the first of equals; None where none was evaluated."""
    return max((row for row in rows if "eval/reward" in row), key=lambda row: row["eval/reward"], default=None)


def best_folder(folder: Path, update: int) -> Path:
    """Return where the policy of a best update is kept."""
    return Path(folder) / f"best-{update:06d}"


def keep(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a policy's folder beside its place and rename it; one that a killed run left there gives way."""
    draft = folder.with_name(f".{folder.name}.draft")
    for old in (draft, folder):
        shutil.rmtree(old, ignore_errors=True)
    save_policy(policy, tokenizer, draft)
    os.rename(draft, folder)
