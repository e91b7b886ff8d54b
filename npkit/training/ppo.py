"""PPO: the policy completes prefixes, a judge scores the pictures, and clipped steps make good completions likelier.

transformers' Trainer runs the show (optimiser, schedule, callbacks, checkpoints, resume). `PPOTrainer` overrides its
`training_step`: one step of Trainer is one PPO update, in the named steps of the paper's reference implementation.
`rails` stops a run that went wrong and keeps the best policy; `grpo` has two algorithms without a critic.
"""
import copy
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from npkit.errors import NpkitError
from npkit.study.profiles import PPOConfig
from npkit.text.policy import encode_prefixes, max_tokens, pad, save_policy
from npkit.training import processes
from npkit.training.checkpoints import WholeCheckpoints, saving
from npkit.training.ppo_math import (
    clip_fraction,
    estimate_advantages,
    explained_variance,
    kl_estimate,
    masked_mean,
    policy_loss,
    token_entropies,
    token_logprobs,
    token_rewards,
    value_loss,
    whiten,
)
from npkit.training.rails import HeldOut, Rails, best_folder, best_row

Reward = Callable[[list[str], list[str]], Sequence[float]]  # prefixes, completions -> one score each
MAX_GRAD_NORM = 1.0


class ActorCritic(nn.Module):
    """A policy and its critic: a copy of the policy's first half of blocks under a value head that starts at zero.

    On a shared trunk the paper's small `vf_coef` hardly teaches the value head anything, and a critic of full depth
    costs more than it explains. Dropout is switched off for good: it would make the probability ratio random.
    """

    def __init__(self, policy: PreTrainedModel):
        super().__init__()
        for module in policy.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.policy = policy
        self.critic = copy.deepcopy(policy.base_model)
        depth = policy.config.num_hidden_layers
        [blocks] = [name for name, part in self.critic.named_children()
                    if isinstance(part, nn.ModuleList) and len(part) == depth]
        setattr(self.critic, blocks, getattr(self.critic, blocks)[:max(1, depth // 2)])
        self.value_head = nn.Linear(policy.config.hidden_size, 1, device=policy.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what led to each token but the first: logits (batch, time - 1, vocabulary) and values."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
        values = self.value_head(self.critic(**inputs)[0].float()).squeeze(-1)
        return self.policy(**inputs).logits[:, :-1], values[:, :-1]


@dataclass(frozen=True)
class Rollout:
    """Completions of one update. Tensors are (batch, time), padded on the right and aligned with `input_ids`."""
    prefixes: list[str]
    completions: list[str]
    eos_token_id: int
    input_ids: Tensor
    attention_mask: Tensor
    mask: Tensor            # True where the policy acted: the completion and its EOS
    logprobs: Tensor        # of the token, when it was drawn
    ref_logprobs: Tensor    # of the token, under the reference policy
    entropies: Tensor       # of the distribution the token was drawn from
    values: Tensor          # what the critic expected before the token

    @property
    def finished(self) -> Tensor:
        """(batch,) True where the completion ended with EOS."""
        return (self.mask & (self.input_ids == self.eos_token_id)).any(1)

    def select(self, rows: Tensor) -> "Rollout":
        """Return the rollout of some rows, cut to the longest of them."""
        time = int(self.attention_mask[rows].sum(1).max())
        tensors = {field.name: getattr(self, field.name)[rows, :time] for field in fields(self) if field.type is Tensor}
        return replace(self, prefixes=[self.prefixes[row] for row in rows],
                       completions=[self.completions[row] for row in rows], **tensors)


@torch.no_grad()
def roll_out(model: ActorCritic, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
             prefixes: list[str], config: PPOConfig) -> Rollout:
    """Return one sampled completion per prefix, and what policy, reference policy and critic say of its tokens."""
    prefix_ids = encode_prefixes(tokenizer, prefixes, max_tokens(model.policy) - config.max_new_tokens)
    completion_ids = processes.from_main(sample(model.policy, tokenizer, prefix_ids, config))
    return describe(model, ref_policy, tokenizer, prefixes, prefix_ids, completion_ids, config=config)


def describe(model: ActorCritic, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: list[str],
             prefix_ids: list[list[int]], completion_ids: list[list[int]], *, config: PPOConfig) -> Rollout:
    """Return completions that were sampled as a rollout, with what the models say of their tokens."""
    input_ids, attention_mask = pad([start + rest for start, rest in zip(prefix_ids, completion_ids, strict=True)],
                                    model.policy, side="right")
    starts = torch.tensor([[len(ids)] for ids in prefix_ids], device=input_ids.device)
    mask = attention_mask & (torch.arange(input_ids.shape[1], device=input_ids.device) >= starts)
    parts = zip(input_ids.split(config.minibatch_size), attention_mask.split(config.minibatch_size), strict=True)
    measured = [measure(model, ref_policy, *part, config.temperature) for part in parts]
    measured = {name: torch.cat([part[name] for part in measured]) * mask for name in measured[0]}
    completions = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    return Rollout(prefixes=list(prefixes), completions=completions, eos_token_id=tokenizer.eos_token_id,
                   input_ids=input_ids, attention_mask=attention_mask, mask=mask, **measured)


def sample(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefix_ids: list[list[int]],
           config: PPOConfig) -> list[list[int]]:
    """Return the token ids of one completion per prefix, EOS included: ending is an action like any other."""
    input_ids, attention_mask = pad(prefix_ids, policy, side="left")
    sampling = GenerationConfig(do_sample=True, temperature=config.temperature, top_k=0, top_p=1.0,
                                max_new_tokens=config.max_new_tokens, eos_token_id=tokenizer.eos_token_id,
                                pad_token_id=tokenizer.pad_token_id)
    output = policy.eval().generate(input_ids, attention_mask=attention_mask, generation_config=sampling)
    rows = output[:, input_ids.shape[1]:].tolist()
    return [row[:row.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in row else row for row in rows]


def measure(model: ActorCritic, ref_policy: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor,
            temperature: float) -> dict[str, Tensor]:
    """Return logprobs, ref_logprobs, entropies and values of every token, (batch, time)."""
    logits, values = model(input_ids, attention_mask)
    ref_logits = ref_policy(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1]
    columns = {"logprobs": token_logprobs(logits / temperature, input_ids[:, 1:]),
               "ref_logprobs": token_logprobs(ref_logits / temperature, input_ids[:, 1:]),
               "entropies": token_entropies(logits / temperature), "values": values}
    return {name: nn.functional.pad(column, (1, 0)) for name, column in columns.items()}  # nothing led to the first


def score(rollout: Rollout, reward: Reward) -> Tensor:
    """Return the reward function's score of every completion, (batch,), or say what is wrong with it."""
    return ask(reward, rollout.prefixes, rollout.completions).to(rollout.mask.device)


def ask(reward: Reward, prefixes: list[str], completions: list[str]) -> Tensor:
    """Return the reward function's scores (batch,) of texts, or say what is wrong with them."""
    try:
        scores = torch.as_tensor(reward(prefixes, completions), dtype=torch.float32)
    except NpkitError:
        raise
    except Exception as error:
        raise NpkitError(f"the reward function failed on {len(prefixes)} completions, "
                         f"{type(error).__name__}: {error}") from error
    if scores.shape != (len(prefixes),):
        raise NpkitError(f"the reward function must return one number per completion: "
                         f"{len(prefixes)} completions, shape {tuple(scores.shape)}")
    if not scores.isfinite().all():
        row = int((~scores.isfinite()).nonzero()[0])
        raise NpkitError(f"the reward function must return finite numbers: {float(scores[row])} for the prompt "
                         f"{prefixes[row] + completions[row]!r}")
    return scores


def ppo_loss(model: ActorCritic, rollout: Rollout, advantages: Tensor, returns: Tensor, config: PPOConfig
             ) -> tuple[Tensor, dict[str, Tensor]]:
    """Return policy loss + `vf_coef` x value loss of one minibatch, and its metrics."""
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
        time, weight = part.mask.shape[1], part.mask.sum() / num_actions
        loss, values = ppo_loss(model, part, advantages[rows, :time], returns[rows, :time], config)
        (weight * loss).backward()
        processes.add_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        metrics.append({name: processes.add_up(weight * value) for name, value in values.items()})
    return {name: float(torch.stack([values[name] for values in metrics]).mean()) for name in metrics[0]}


def minibatches(num_episodes: int, config: PPOConfig) -> Iterator[Tensor]:
    """Yield the shuffled rows of one minibatch after the other, `num_ppo_epochs` times over all episodes."""
    for _ in range(config.num_ppo_epochs):
        yield from torch.randperm(num_episodes).split(config.minibatch_size)  # the global CPU generator is checkpointed


def summarize(rollout: Rollout, scores: Tensor, rewards: Tensor) -> dict[str, float]:
    """Return the metrics of a rollout: score, KL and reward per episode, share that differ, entropy per token."""
    mask = rollout.mask
    metrics = {"objective/score": scores.mean(),
               "objective/kl": (kl_estimate(rollout.logprobs, rollout.ref_logprobs) * mask).sum(1).mean(),
               "objective/reward": rewards.sum(1).mean(),
               "objective/finished": rollout.finished.float().mean(),
               "objective/completion_tokens": mask.sum(1).float().mean(),
               "objective/distinct_share": len(set(rollout.completions)) / len(rollout.completions),
               "policy/entropy": masked_mean(rollout.entropies, mask)}
    return {name: float(value) for name, value in metrics.items()}


def save_samples(folder: Path, number: int, rollout: Rollout, scores: Tensor) -> None:
    """Write the completions of update `number`; an update repeated after a kill writes the same file again."""
    samples = pd.DataFrame({"update": number, "prefix": rollout.prefixes, "completion": rollout.completions,
                            "score": scores.tolist()})
    file = Path(folder, f"samples-{number:06d}.parquet")
    with saving(file):
        samples.to_parquet(file)


class PPOTrainer(WholeCheckpoints, Trainer):
    """Trainer whose step is one PPO update; a checkpoint is a plain GPT-2 folder with the critic beside it."""

    def __init__(self, model: ActorCritic, ref_policy: PreTrainedModel, reward: Reward, config: PPOConfig, **arguments):
        super().__init__(model=model, data_collator=lambda rows: {"prefixes": list(rows)}, **arguments)
        self.ref_policy = ref_policy.to(self.args.device).eval().requires_grad_(False)
        self.reward, self.config, self.metrics = reward, config, {}

    def training_step(self, model: nn.Module, inputs: dict, num_items_in_batch: int | None = None) -> Tensor:
        """Make one PPO update; Trainer's own step after it finds no gradient and only moves the schedule."""
        model, config = self.model, self.config
        prefixes = processes.collect(inputs["prefixes"])  # every process draws the whole rollout, and judges its part
        rollout = roll_out(model, self.ref_policy, self.processing_class, prefixes, config)
        mine = rollout.select(processes.share(torch.arange(len(prefixes))))
        scores = rollout.logprobs.new_tensor(processes.collect(score(mine, self.reward).tolist()))
        penalised = scores - config.missing_eos_penalty * ~rollout.finished
        rewards = token_rewards(penalised, rollout.logprobs, rollout.ref_logprobs, rollout.mask, config.kl_coef)
        advantages, returns = estimate_advantages(rewards, rollout.values, rollout.mask, config.gamma, config.lam)
        advantages = whiten(advantages, rollout.mask)
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


def train_ppo(model: PreTrainedModel, ref_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
              prefixes: list[str], reward: Reward, config: PPOConfig, *, seed: int, folder: Path,
              max_prompt_tokens: int, heldout: Sequence[str] = (), callbacks: Sequence[TrainerCallback] = ()
              ) -> list[dict[str, float]]:
    """Train `model` in place by `config.algorithm` and return one row of metrics an update.

    `folder` takes the checkpoints, and the policy that did best on the `heldout` prefixes. A run that was killed
    continues from the newest complete one, and ends with the same weights and metrics, to the bit, as a run that was
    not. A run that the rails stopped continues from there too, with the settings it is then given.
    """
    if len(prefixes) < config.episodes_per_update:
        raise NpkitError(f"PPO needs at least as many prefixes as ppo.episodes_per_update = "
                         f"{config.episodes_per_update}, got {len(prefixes)}")
    if config.final_policy == "best" and not heldout:
        raise NpkitError("ppo.final_policy is best, but there are no held-out prefixes to tell which policy that is")
    for texts in (prefixes, heldout):
        encode_prefixes(tokenizer, list(texts), max_prompt_tokens - config.max_new_tokens)  # raises if one is too long
    processes.divide(config.minibatch_size, "ppo.minibatch_size")
    if config.algorithm != "ppo" and processes.count() > 1:
        raise NpkitError(f"{config.algorithm} trains in one process, here are {processes.count()}; ppo takes several")
    folder = Path(folder)
    learner = model if config.algorithm == "ppo" else copy.deepcopy(model)  # trl patches the model it trains
    watch = [Rails(config, folder)]
    if heldout and config.eval_updates:
        watch += [HeldOut(learner, tokenizer, heldout, partial(ask, reward), config, seed=seed, folder=folder)]
    watch += callbacks
    if config.algorithm == "ppo":
        trainer = PPOTrainer(ActorCritic(learner), ref_model, reward, config, processing_class=tokenizer,
                             train_dataset=list(prefixes), callbacks=watch,
                             args=training_arguments(config, seed, folder, model.device))
    else:
        from npkit.training.grpo import group_trainer  # which imports from here
        trainer = group_trainer(learner, ref_model, tokenizer, prefixes, reward, config, seed=seed, folder=folder,
                                callbacks=watch)
    trainer.remove_callback(PrinterCallback)
    with warnings.catch_warnings():  # a property that trl reads at every step
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        trainer.train_on(learner)
    rows = [row for row in trainer.state.log_history if "update" in row]
    best = best_row(rows)
    if best and config.final_policy == "best":
        learner = AutoModelForCausalLM.from_pretrained(best_folder(folder, best["update"]))
    model.load_state_dict(learner.state_dict())
    return rows


def training_arguments(config: PPOConfig, seed: int, folder: Path, device: torch.device) -> TrainingArguments:
    """Return Trainer's settings for one PPO run: one step an update, a log line each, two checkpoints kept."""
    arguments = TrainingArguments(
        output_dir=str(folder), seed=seed, max_steps=config.num_updates, learning_rate=config.learning_rate,
        per_device_train_batch_size=processes.divide(config.episodes_per_update, "ppo.episodes_per_update"),
        lr_scheduler_type="constant",
        max_grad_norm=MAX_GRAD_NORM, dataloader_drop_last=True, remove_unused_columns=False, logging_steps=1,
        save_steps=config.save_updates, save_total_limit=2, use_cpu=device.type == "cpu", dataloader_pin_memory=False,
        disable_tqdm=True, report_to="none")
    arguments._n_gpu = 1  # on a machine with several, Trainer would multiply the episodes by their number
    return arguments


def read_samples(folder: Path) -> pd.DataFrame:
    """Return the completions of all updates (update, prefix, completion, score) that a training left in `folder`."""
    return pd.concat([pd.read_parquet(file) for file in sorted(Path(folder).glob("samples-*.parquet"))],
                     ignore_index=True)


def write_policy(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
                 rows: list[dict[str, float]], samples: pd.DataFrame, kept: Path | None = None) -> dict[str, float]:
    """Fill the artifact's folder (model/, metrics.jsonl, samples.parquet); return the means of the last tenth.

    `kept` is the training's folder: the policy that did best on held-out prefixes becomes best/.
    """
    save_policy(model, tokenizer, Path(folder) / "model")
    table = pd.DataFrame(rows)
    table.to_json(Path(folder) / "metrics.jsonl", orient="records", lines=True)
    samples.to_parquet(Path(folder) / "samples.parquet")
    last = table.tail(max(1, len(table) // 10)).mean()
    metrics = {"objective/first_score": rows[0]["objective/score"], "episodes": rows[-1]["episodes"],
               "train/num_processes": processes.count(),
               **{name: last[name] for name in table if "/" in name}}
    best = best_row(rows)
    if best and kept:
        shutil.copytree(best_folder(kept, best["update"]), Path(folder) / "best")
        metrics |= {"ppo/best_update": best["update"], "ppo/best_reward": best["eval/reward"]}
    return metrics
