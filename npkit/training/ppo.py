"""PPO: clipped steps make completions likelier that were paid more than the critic expected.

transformers' Trainer runs the show (schedule, callbacks, checkpoints, resume). `PPOTrainer` overrides its
`training_step`: one step of Trainer is one PPO update, in the named steps of the paper's reference implementation.
`rollouts` has the first of them, `ppo_math` the arithmetic; `rails` stops a run that went wrong, `reinforcement` starts
this training or one of `grpo`, which has two algorithms without a critic.
"""
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from npkit.study.profiles import PPOConfig
from npkit.text.policy import save_policy
from npkit.training import processes
from npkit.training.checkpoints import WholeCheckpoints
from npkit.training.ppo_math import (
    clip_fraction,
    estimate_advantages,
    explained_variance,
    kl_estimate,
    masked_mean,
    policy_loss,
    token_logprobs,
    value_loss,
    whiten,
)
from npkit.training.rollouts import (
    Reward,
    Rollout,
    in_precision,
    next_actions,
    penalise,
    roll_out,
    save_samples,
    score,
    summarize,
)


# 1. Actor and critic -------------------------------------------------------------------------------------------------
class ActorCritic(nn.Module):
    """A policy and its critic: a copy of the policy's first half of blocks under a value head that starts at zero.

    On a shared trunk the paper's small `vf_coef` hardly teaches the value head anything, and a critic of full depth
    costs more than it explains.
    """

    def __init__(self, policy: PreTrainedModel):
        super().__init__()
        self.policy = policy
        self.critic = copy.deepcopy(policy.base_model)
        depth = policy.config.num_hidden_layers
        [blocks] = [name for name, part in self.critic.named_children()
                    if isinstance(part, nn.ModuleList) and len(part) == depth]
        setattr(self.critic, blocks, getattr(self.critic, blocks)[:max(1, depth // 2)])
        self.value_head = nn.Linear(policy.config.hidden_size, 1, device=policy.device)
        nn.init.zeros_(self.value_head.weight)  # no opinion yet: a random one would be noise in the first advantages
        nn.init.zeros_(self.value_head.bias)
        self.train()

    def train(self, mode: bool = True) -> "ActorCritic":
        """Stay in evaluation mode: dropout would make the ratio of new to old probability random.

        Some architectures have it as a module and some as a number that their attention reads; both ask `training`.
        """
        return super().train(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what led to each token but the first: logits (batch, time - 1, vocabulary) and values."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        values = self.value_head(self.critic(**inputs)[0].float()).squeeze(-1)
        return next_actions(self.policy, input_ids, attention_mask), values[:, :-1]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only the value loss moves."""
        return [*self.critic.parameters(), *self.value_head.parameters()]


def parameter_groups(model: ActorCritic, config: PPOConfig) -> list[dict]:
    """Return the optimiser's groups: policy and critic, each at its own learning rate."""
    return [{"name": "policy", "params": [*model.policy.parameters()], "lr": config.learning_rate, "weight_decay": 0.0},
            {"name": "critic", "params": model.critic_parameters(), "lr": config.critic_learning_rate,
             "weight_decay": 0.0}]


# 2. An update --------------------------------------------------------------------------------------------------------
def ppo_loss(model: ActorCritic, rollout: Rollout, advantages: Tensor, returns: Tensor, config: PPOConfig
             ) -> tuple[Tensor, dict[str, Tensor]]:
    """Return policy loss + `vf_coef` x value loss of one minibatch, and its metrics."""
    with in_precision(config, rollout.input_ids.device):
        logits, values = model(rollout.input_ids, rollout.attention_mask)
    mask, old_logprobs = rollout.mask[:, 1:], rollout.logprobs[:, 1:]
    logprobs = token_logprobs(logits / config.temperature, rollout.input_ids[:, 1:]) * mask
    actor = policy_loss(logprobs, old_logprobs, advantages[:, 1:], mask, config.cliprange)
    critic = value_loss(values, rollout.values[:, 1:], returns[:, 1:], mask, config.cliprange_value)
    metrics = {"policy/loss": actor, "value/loss": critic,
               "policy/clipfrac": clip_fraction(logprobs, old_logprobs, mask, config.cliprange),
               "policy/approx_kl": masked_mean(kl_estimate(old_logprobs, logprobs, "k3"), mask)}
    return actor + config.vf_coef * critic, {name: value.detach() for name, value in metrics.items()}


def update(model: ActorCritic, optimizer: torch.optim.Optimizer, rollout: Rollout, advantages: Tensor,
           returns: Tensor, *, config: PPOConfig) -> dict[str, float]:
    """Step on every minibatch of every PPO epoch, each process on its rows of it; return the metrics' means."""
    metrics = []
    for rows in minibatches(len(rollout.prefixes), config):
        num_actions, rows = rollout.mask[rows].sum(), processes.share(rows)
        part = rollout.select(rows)
        time, weight = part.mask.shape[1], part.mask.sum() / num_actions  # every action counts alike, wherever it is
        loss, values = ppo_loss(model, part, advantages[rows, :time], returns[rows, :time], config)
        (weight * loss).backward()
        processes.add_gradients(model)
        # apart: under one clip, a critic that is far off would shorten every step of the policy
        nn.utils.clip_grad_norm_(model.policy.parameters(), config.max_grad_norm)
        nn.utils.clip_grad_norm_(model.critic_parameters(), config.vf_max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        metrics.append({name: processes.add_up(weight * value) for name, value in values.items()})
    return {name: float(torch.stack([values[name] for values in metrics]).mean()) for name in metrics[0]}


def minibatches(num_episodes: int, config: PPOConfig) -> Iterator[Tensor]:
    """Yield the shuffled rows of one minibatch after the other, `num_ppo_epochs` times over all episodes."""
    for _ in range(config.num_ppo_epochs):
        yield from torch.randperm(num_episodes).split(config.minibatch_size)  # the global CPU generator is checkpointed


# 3. Trainer ----------------------------------------------------------------------------------------------------------
class PPOTrainer(WholeCheckpoints, Trainer):
    """Trainer whose step is one PPO update; a checkpoint is a plain policy's folder with the critic beside it."""

    def __init__(self, model: ActorCritic, ref_policy: PreTrainedModel, reward: Reward, config: PPOConfig, **arguments):
        super().__init__(model=model, data_collator=lambda rows: {"prefixes": list(rows)}, **arguments)
        self.ref_policy = ref_policy.to(self.args.device).eval().requires_grad_(False)
        self.reward, self.config, self.metrics = reward, config, {}

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return Trainer's kind of optimiser, with a learning rate of its own for the critic."""
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(parameter_groups(self.model, self.config), **options)
        return self.optimizer

    def training_step(self, model: nn.Module, inputs: dict, num_items_in_batch: int | None = None) -> Tensor:
        """Make one PPO update; Trainer's own step after it finds no gradient and only moves the schedule."""
        model, config = self.model, self.config
        prefixes = processes.collect(inputs["prefixes"])  # every process draws the whole rollout, and judges its part
        rollout = roll_out(model, self.ref_policy, self.processing_class, prefixes, config)
        mine = rollout.select(processes.share(torch.arange(len(prefixes))))
        scores = rollout.logprobs.new_tensor(processes.collect(score(mine, self.reward).tolist()))
        _, rewards = penalise(rollout, scores, config)
        advantages, returns = estimate_advantages(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
        advantages = whiten(advantages, rollout.mask)  # a judge's scale must not decide how large the steps are
        losses = update(model, self.optimizer, rollout, advantages, returns, config=config)
        explained = float(explained_variance(rollout.values, returns, rollout.mask))
        self.metrics = summarize(rollout, scores, rewards) | {"value/explained_variance": explained} | losses
        if processes.is_main():
            save_samples(self.args.output_dir, self.state.global_step + 1, rollout, scores)
        return scores.new_tensor(losses["policy/loss"] + config.vf_coef * losses["value/loss"])

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log PPO's metrics in place of Trainer's, which know only the last loss."""
        if "loss" in logs:
            episodes = self.state.global_step * self.config.episodes_per_update
            logs = {"update": self.state.global_step, "episodes": episodes} | self.metrics
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        save_policy(self.model.policy, self.processing_class, folder)
        critic = self.model.critic.state_dict(prefix="critic.") | self.model.value_head.state_dict(prefix="value_head.")
        save_file(critic, folder / "critic.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        policy = AutoModelForCausalLM.from_pretrained(folder)
        self.model.policy.load_state_dict(policy.state_dict())
        self.model.load_state_dict(load_file(folder / "critic.safetensors"), strict=False)


def ppo_trainer(learner: PreTrainedModel, ref_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
                prefixes: Sequence[str], reward: Reward, config: PPOConfig, *, seed: int, folder: Path,
                callbacks: Sequence[TrainerCallback]) -> PPOTrainer:
    """Return the trainer of one PPO run."""
    return PPOTrainer(ActorCritic(learner), ref_model, reward, config, processing_class=tokenizer,
                      train_dataset=list(prefixes), callbacks=list(callbacks),
                      args=training_arguments(config, seed, folder, learner.device))


def training_arguments(config: PPOConfig, seed: int, folder: Path, device: torch.device) -> TrainingArguments:
    """Return Trainer's settings for one PPO run: one step an update, a log line each, two checkpoints kept."""
    arguments = TrainingArguments(
        output_dir=str(folder), seed=seed, max_steps=config.num_updates, learning_rate=config.learning_rate,
        per_device_train_batch_size=processes.divide(config.episodes_per_update, "ppo.episodes_per_update"),
        lr_scheduler_type="constant", dataloader_drop_last=True, remove_unused_columns=False, logging_steps=1,
        save_steps=config.save_updates, save_total_limit=2, use_cpu=device.type == "cpu", dataloader_pin_memory=False,
        disable_tqdm=True, report_to="none")
    arguments._n_gpu = 1  # on a machine with several, Trainer would multiply the episodes by their number
    return arguments
