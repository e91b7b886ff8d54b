"""Rails: what stops a training that went wrong, says what to try, and keeps the best policy it came past."""
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from npkit.errors import NpkitError
from npkit.study.profiles import PPOConfig
from npkit.text.policy import generate, save_policy
from npkit.training import processes
from npkit.training.checkpoints import newest_checkpoint


# 1. What stops a run -------------------------------------------------------------------------------------------------
class Rails(TrainerCallback):
    """Ends a run after a bad update and before its checkpoint, so that the newest one in `folder` is a good one."""

    def __init__(self, config: PPOConfig, folder: Path):
        self.config, self.folder = config, Path(folder)

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **others) -> None:
        """Put the run's own learning rate in force: a checkpoint brings back that of the run that wrote it."""
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] = args.learning_rate
        lr_scheduler.base_lrs = [args.learning_rate for _ in lr_scheduler.base_lrs]

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

    Every evaluation draws with the same noise of its own, so that policies differ by what they learnt, and training
    draws as if there were no evaluation.
    """

    def __init__(self, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str],
                 reward: Callable[[list[str], list[str]], Tensor], config: PPOConfig, *, seed: int, folder: Path):
        self.policy, self.tokenizer, self.prefixes, self.reward = policy, tokenizer, list(prefixes), reward
        self.config, self.seed, self.folder = config, seed, folder

    def on_log(self, args, state, control, **others) -> None:
        """Add `eval/reward` to the update's row where one is due; write the policy where it is the best so far."""
        row = state.log_history[-1]
        due = "update" in row and (row["update"] % self.config.eval_updates == 0
                                   or row["update"] == self.config.num_updates)
        if due and state.is_world_process_zero:
            row["eval/reward"] = self.measure()
            if best_row(state.log_history) is row:
                keep(self.policy, self.tokenizer, best_folder(self.folder, row["update"]))

    def on_save(self, args, state, control, **others) -> None:
        """Remove the policies that a better one has followed, now that a checkpoint knows of it."""
        best = best_row(state.log_history)
        if best and state.is_world_process_zero:
            for folder in self.folder.glob("best-*"):
                if folder != best_folder(self.folder, best["update"]):
                    shutil.rmtree(folder)

    def measure(self) -> float:
        """Return the mean score of one completion of each held-out prefix."""
        completions = generate(self.policy, self.tokenizer, self.prefixes, max_new_tokens=self.config.max_new_tokens,
                               generator_seed=self.seed, temperature=self.config.temperature)
        return float(self.reward(self.prefixes, completions).mean())


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
