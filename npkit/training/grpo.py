"""GRPO and RLOO: PPO's alternatives without a critic, where completions of one prefix are each other's baseline.

trl's trainers do the work. Here they get PPO's settings, reward, metrics and samples, and the positions that GPT-2
needs. `ppo.algorithm` is the only setting that an ablation changes, and this is what differs by it:

==============  ============================  ==============================  =====================================
                PPO                           GRPO                            RLOO
==============  ============================  ==============================  =====================================
advantage       GAE over the tokens, from a   score less the mean of its      penalised score less the mean of the
                critic; one for every token   group; the same for all tokens  others of its group; one for all tokens
its scale       whitened over the rollout     as it is                        as it is
KL to SFT       in the rewards: k1 of every   in the loss: k3 of every token, in the score: k1 summed over the
                token as sampled, so that GAE which the gradient sees anew at completion as sampled
                sees it                       every step
ratio clipped   a token's, `cliprange`        a token's, `cliprange`          the completion's, `sequence_cliprange`
loss            mean over tokens              mean over tokens                mean over completions
==============  ============================  ==============================  =====================================

GRPO as published divides an advantage by the spread of its group. Not here: it would weigh KL against the score
differently in every group. Each algorithm updates the policy `num_ppo_epochs` times on a rollout.
"""
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import trl
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from npkit.study.profiles import PPOConfig
from npkit.text.policy import encode_with_room, plain_generation, save_policy
from npkit.training.checkpoints import WholeCheckpoints
from npkit.training.ppo_math import NEVER
from npkit.training.rollouts import PolicyAlone, Reward, describe, penalise, save_samples, score, summarize

LOGGED = {"loss": "policy/loss", "clip_ratio/region_mean": "policy/clipfrac",
          "frac_reward_zero_std": "group/same_score_share"}  # trl's name -> ours
OURS = ("objective/", "policy/")


class GRPOTrainer(WholeCheckpoints, trl.GRPOTrainer):
    """trl's trainer, with checkpoints that are whole or not there."""


class RLOOTrainer(WholeCheckpoints, trl.RLOOTrainer):
    """trl's trainer, with checkpoints that are whole or not there."""


TRAINERS = {"grpo": (GRPOTrainer, trl.GRPOConfig), "rloo": (RLOOTrainer, trl.RLOOConfig)}
OWN_SETTINGS = {"grpo": lambda config: {"epsilon": config.cliprange, "scale_rewards": "none", "loss_type": "dapo"},
                "rloo": lambda config: {"epsilon": config.sequence_cliprange, "normalize_advantages": False}}


# 1. Trainer ----------------------------------------------------------------------------------------------------------
def group_trainer(learner: PreTrainedModel, ref_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
                  prefixes: Sequence[str], reward: Reward, config: PPOConfig, *, seed: int, folder: Path,
                  callbacks: Sequence[TrainerCallback]) -> GRPOTrainer | RLOOTrainer:
    """Return the trainer of `config.algorithm`; one update of ours is `steps_per_update` steps of it."""
    save_policy(ref_model, tokenizer, folder / "reference")  # trl loads it from where the model's name points
    learner.config.name_or_path = str(folder / "reference")
    learner.generation_config = plain_generation(tokenizer)  # trl would sample by the checkpoint's own settings too
    trainer_type, _ = TRAINERS[config.algorithm]
    paid = GroupReward(learner, ref_model.eval(), tokenizer, reward, config, folder)
    trainer = trainer_type(
        learner, paid, args=trainer_settings(config, seed, folder, on_cpu=learner.device.type == "cpu"),
        train_dataset=Dataset.from_dict({"prompt": prefixes_in_order(prefixes, config, seed)}),
        processing_class=tokenizer, callbacks=[Translate(config), *callbacks])
    for model in (learner, trainer.ref_model):
        if model is not None:  # trl needs no reference without a KL term
            model.base_model.register_forward_pre_hook(count_positions, with_kwargs=True)
            model.base_model.register_forward_pre_hook(stay_evaluating)
            never_pad(model, tokenizer.pad_token_id)
    return trainer


def steps_per_update(config: PPOConfig) -> int:
    """Return the optimiser steps of one update: all minibatches of a rollout, `num_ppo_epochs` times."""
    return config.episodes_per_update // config.minibatch_size * config.num_ppo_epochs


def trainer_settings(config: PPOConfig, seed: int, folder: Path, on_cpu: bool) -> trl.GRPOConfig | trl.RLOOConfig:
    """Return trl's settings; a checkpoint falls between two updates, because the rollout is not in it."""
    steps, (_, settings_type) = steps_per_update(config), TRAINERS[config.algorithm]
    settings = settings_type(
        output_dir=str(folder), seed=seed, use_cpu=on_cpu, bf16=config.precision == "bfloat16",
        max_steps=config.num_updates * steps,
        per_device_train_batch_size=config.minibatch_size, num_iterations=config.num_ppo_epochs,
        steps_per_generation=config.episodes_per_update // config.minibatch_size,
        num_generations=config.num_generations, max_completion_length=config.max_new_tokens,
        temperature=config.temperature, top_k=0, top_p=1.0, beta=config.kl_coef,
        **OWN_SETTINGS[config.algorithm](config),
        learning_rate=config.learning_rate, lr_scheduler_type="constant", max_grad_norm=config.max_grad_norm,
        shuffle_dataset=False, gradient_checkpointing=False, activation_checkpointing=False,
        logging_steps=steps, save_steps=config.save_updates * steps, save_total_limit=2, dataloader_pin_memory=False,
        disable_tqdm=True, report_to=[])
    settings._n_gpu = 1  # as for PPO: several would multiply the episodes
    return settings


def prefixes_in_order(prefixes: Sequence[str], config: PPOConfig, seed: int) -> list[str]:
    """Return every prefix the run will need, in shuffled passes: trl's own shuffle is not resumed after a pass."""
    generator, order = torch.Generator().manual_seed(seed), []
    needed = config.num_updates * (config.episodes_per_update // config.num_generations)
    while len(order) < needed:
        order += torch.randperm(len(prefixes), generator=generator).tolist()
    return [prefixes[index] for index in order[:needed]]


def count_positions(module: torch.nn.Module, args: tuple, inputs: dict) -> tuple[tuple, dict]:
    """Number tokens from the first real one: trl pads prefixes on the left, and GPT-2 would count the padding."""
    if inputs.get("position_ids") is None and inputs.get("attention_mask") is not None:
        positions = inputs["attention_mask"].long().cumsum(-1) - 1
        inputs = inputs | {"position_ids": positions.clamp(min=0)}
    return args, inputs


def stay_evaluating(module: nn.Module, args: tuple) -> None:
    """Keep the layers in evaluation mode, without dropout of any kind; trl itself asks whether the model trains."""
    if module.training:
        module.eval()


def never_pad(model: PreTrainedModel, pad_token_id: int) -> None:
    """Give padding probability 0 by a bias of the output layer, which sampling and trl's own log-probabilities read."""
    head = model.get_output_embeddings()
    if head.bias is not None:
        with torch.no_grad():
            head.bias[pad_token_id] = NEVER
        return
    bias = torch.zeros(head.weight.shape[0], device=head.weight.device)
    bias[pad_token_id] = NEVER
    del head.bias  # a parameter that is None; a buffer that is not saved takes its place
    head.register_buffer("bias", bias, persistent=False)


# 2. Reward and metrics -----------------------------------------------------------------------------------------------
class GroupReward:
    """PPO's reward as trl calls it: the score less the penalty for a missing EOS; rollouts are logged and saved."""

    __name__ = "reward"

    def __init__(self, policy: PreTrainedModel, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
                 reward: Reward, config: PPOConfig, folder: Path):
        self.policy, self.ref_policy, self.tokenizer = policy, ref_policy, tokenizer
        self.reward, self.config, self.folder = reward, config, folder

    def __call__(self, prompts: list[str], completions: list[str], completion_ids: list[list[int]], trainer_state,
                 log_metric: Callable[[str, float], None], **others) -> list[float]:
        """Return what each completion is paid; its KL is trl's to subtract."""
        config = self.config
        prefix_ids = encode_with_room(self.policy, self.tokenizer, prompts, config.max_new_tokens)
        with torch.no_grad():
            rollout = describe(PolicyAlone(self.policy), self.ref_policy, self.tokenizer, prompts, prefix_ids,
                               completion_ids, config=config)
        scores = score(rollout, self.reward)
        penalised, rewards = penalise(rollout, scores, config)
        for name, value in summarize(rollout, scores, rewards).items():
            log_metric(name, value)
        save_samples(self.folder, trainer_state.global_step // steps_per_update(config) + 1, rollout, scores)
        return penalised.tolist()


class Translate(TrainerCallback):
    """Turns the row that trl has just logged into a row of PPO's table."""

    def __init__(self, config: PPOConfig):
        self.config = config

    def on_log(self, args, state, control, **others) -> None:
        row = state.log_history[-1]
        if "loss" in row:
            update = row["step"] // steps_per_update(self.config)
            ours = {name: value for name, value in row.items() if name.startswith(OURS)}
            theirs = {name: row[trl_name] for trl_name, name in LOGGED.items()}
            state.log_history[-1] = {"update": update, "episodes": update * self.config.episodes_per_update, **ours,
                                     **theirs, "epoch": row["epoch"], "step": row["step"]}
