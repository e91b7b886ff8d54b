"""Reinforcement learning: a policy trained by what its completions are paid, whichever algorithm does it.

`ppo` and `grpo` have the algorithms, `rails` the callbacks that watch over them.
"""
import copy
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
)

from npkit.errors import NpkitError
from npkit.study.profiles import PPOConfig
from npkit.text.policy import encode_prefixes, save_policy
from npkit.training import processes
from npkit.training.grpo import group_trainer
from npkit.training.ppo import ppo_trainer
from npkit.training.rails import HeldOut, Rails, best_folder, best_row
from npkit.training.rollouts import Reward


def train_ppo(model: PreTrainedModel, ref_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
              prefixes: list[str], reward: Reward, config: PPOConfig, *, seed: int, folder: Path,
              max_prompt_tokens: int, heldout: Sequence[str] = (), heldout_reward: Reward | None = None,
              callbacks: Sequence[TrainerCallback] = ()) -> list[dict[str, float]]:
    """Train `model` in place by `config.algorithm` and return one row of metrics an update.

    `folder` takes the checkpoints, and the policy that did best on the `heldout` prefixes by `heldout_reward` (`reward`
    where none is given); the policy given is a candidate, in a first row of update 0. A run that was killed continues
    from the newest complete one, and ends with the same weights and metrics, to the bit, as a run that was not. A run
    that the rails stopped continues from there too, with the settings it is then given.
    """
    check(tokenizer, prefixes, heldout, config, max_prompt_tokens=max_prompt_tokens)
    learner = model if config.algorithm == "ppo" else copy.deepcopy(model)  # trl patches the model it trains
    watch, folder = [Rails(config, folder)], Path(folder)
    if heldout and config.eval_updates:
        watch += [HeldOut(learner, ref_model.eval(), tokenizer, heldout, heldout_reward or reward, config, seed=seed,
                          folder=folder)]
    watch += callbacks
    build = ppo_trainer if config.algorithm == "ppo" else group_trainer
    trainer = build(learner, ref_model, tokenizer, prefixes, reward, config, seed=seed, folder=folder, callbacks=watch)
    trainer.remove_callback(PrinterCallback)  # it prints every row of the log
    with warnings.catch_warnings():  # a property that trl reads at every step
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        trainer.train_on(learner)
    rows = [row for row in trainer.state.log_history if "update" in row]
    best = best_row(rows)
    if best and config.final_policy == "best":
        learner = AutoModelForCausalLM.from_pretrained(best_folder(folder, best["update"]))
    model.load_state_dict(learner.state_dict())
    return rows


def check(tokenizer: PreTrainedTokenizerFast, prefixes: Sequence[str], heldout: Sequence[str], config: PPOConfig, *,
          max_prompt_tokens: int) -> None:
    """Raise for what would stop or spoil a training later."""
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        raise NpkitError("the tokenizer has no pad token of its own, and padding must not be an action: load policy "
                         "and tokenizer with npkit.text.policy.load_policy")
    if len(prefixes) < config.episodes_per_update:
        raise NpkitError(f"PPO needs at least as many prefixes as ppo.episodes_per_update = "
                         f"{config.episodes_per_update}, got {len(prefixes)}")
    if config.final_policy == "best" and not heldout:
        raise NpkitError("ppo.final_policy is best, but there are no held-out prefixes to tell which policy that is")
    for texts in (prefixes, heldout):
        encode_prefixes(tokenizer, list(texts), max_prompt_tokens - config.max_new_tokens,  # raises if one is too long
                        f"policy.max_prompt_tokens {max_prompt_tokens} less ppo.max_new_tokens {config.max_new_tokens}")
    processes.divide(config.minibatch_size, "ppo.minibatch_size")
    if config.algorithm != "ppo" and processes.count() > 1:
        raise NpkitError(f"{config.algorithm} trains in one process, here are {processes.count()}; ppo takes several")


def write_policy(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
                 rows: list[dict[str, float]], samples: pd.DataFrame, kept: Path | None = None) -> dict[str, float]:
    """Fill the artifact's folder (model/, metrics.jsonl, samples.parquet); return the means of the last tenth.

    `kept` is the training's folder: the policy that did best on held-out prefixes becomes best/.
    """
    save_policy(model, tokenizer, Path(folder) / "model")
    table = pd.DataFrame(rows)
    table.to_json(Path(folder) / "metrics.jsonl", orient="records", lines=True)
    samples.to_parquet(Path(folder) / "samples.parquet")
    updates = table[table["update"] > 0]  # update 0 was only evaluated
    last = updates.tail(max(1, len(updates) // 10)).mean()
    metrics = {"objective/first_score": updates["objective/score"].iloc[0], "episodes": rows[-1]["episodes"],
               "train/num_processes": processes.count(),
               **{name: last[name] for name in table if "/" in name}}
    best = best_row(rows)
    if best and kept:
        shutil.copytree(best_folder(kept, best["update"]), Path(folder) / "best")
        metrics |= {"ppo/best_update": best["update"], "ppo/best_reward": best["eval/reward"]}
    return metrics
