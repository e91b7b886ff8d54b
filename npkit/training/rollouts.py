"""Rollouts: completions sampled from the policy, what three models say of their tokens, and what they are paid.

`ppo` and `grpo` learn from them, `rails` measures by them which policy is best.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from npkit.errors import NpkitError
from npkit.study.profiles import PPOConfig
from npkit.text.policy import draw, encode_with_room, pad
from npkit.training import processes
from npkit.training.checkpoints import saving
from npkit.training.ppo_math import (
    action_logits,
    kl_estimate,
    masked_mean,
    token_entropies,
    token_logprobs,
    token_rewards,
)

Reward = Callable[[list[str], list[str]], Sequence[float]]  # prefixes, completions -> one score each
Actor = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # ids, mask -> logits and values of all tokens but one


# 1. Sample -----------------------------------------------------------------------------------------------------------
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
def roll_out(model: nn.Module, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast,
             prefixes: list[str], config: PPOConfig) -> Rollout:
    """Return one sampled completion per prefix, and what policy, reference policy and critic say of its tokens.

    `model` is an actor with a `policy`, such as `ppo.ActorCritic`.
    """
    prefix_ids = encode_with_room(model.policy, tokenizer, prefixes, config.max_new_tokens)
    completion_ids = processes.from_main(sample(model.policy, tokenizer, prefix_ids, config))
    return describe(model, ref_policy, tokenizer, prefixes, prefix_ids, completion_ids, config=config)


def sample(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefix_ids: list[list[int]],
           config: PPOConfig) -> list[list[int]]:
    """Return the token ids of one completion per prefix, EOS included: ending is an action like any other."""
    with in_precision(config, policy.device):
        return draw(policy, tokenizer, prefix_ids, do_sample=True, temperature=config.temperature, top_k=0, top_p=1.0,
                    max_new_tokens=config.max_new_tokens)


def in_precision(config: PPOConfig, device: torch.device) -> torch.autocast:
    """Return the context in which sampling, measuring and learning run alike, on every device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def describe(model: Actor, ref_policy: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prefixes: list[str],
             prefix_ids: list[list[int]], completion_ids: list[list[int]], *, config: PPOConfig) -> Rollout:
    """Return completions that were sampled as a rollout, with what the models say of their tokens."""
    # padded on the right here, on the left while sampling: positions are counted from the first token both times
    input_ids, attention_mask = pad([start + rest for start, rest in zip(prefix_ids, completion_ids, strict=True)],
                                    ref_policy, side="right")
    starts = torch.tensor([[len(ids)] for ids in prefix_ids], device=input_ids.device)
    mask = attention_mask & (torch.arange(input_ids.shape[1], device=input_ids.device) >= starts)
    parts = zip(input_ids.split(config.minibatch_size), attention_mask.split(config.minibatch_size), strict=True)
    with in_precision(config, input_ids.device):
        measured = [measure(model, ref_policy, *part, config.temperature) for part in parts]
    measured = {name: torch.cat([part[name] for part in measured]) * mask for name in measured[0]}
    completions = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    return Rollout(prefixes=list(prefixes), completions=completions, eos_token_id=tokenizer.eos_token_id,
                   input_ids=input_ids, attention_mask=attention_mask, mask=mask, **measured)


def measure(model: Actor, ref_policy: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor,
            temperature: float) -> dict[str, Tensor]:
    """Return logprobs, ref_logprobs, entropies and values of every token, (batch, time)."""
    logits, values = model(input_ids, attention_mask)
    ref_logits = next_actions(ref_policy, input_ids, attention_mask)
    columns = {"logprobs": token_logprobs(logits / temperature, input_ids[:, 1:]),
               "ref_logprobs": token_logprobs(ref_logits / temperature, input_ids[:, 1:]),
               "entropies": token_entropies(logits / temperature), "values": values}
    return {name: nn.functional.pad(column, (1, 0)) for name, column in columns.items()}  # nothing led to the first


def next_actions(policy: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the logits that led to each token but the first, (batch, time - 1, vocabulary), without padding."""
    logits = policy(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits[:, :-1]
    return action_logits(logits, policy.config.pad_token_id)


class PolicyAlone:
    """A policy in the place of an actor and critic: without a critic, every value is zero."""

    def __init__(self, policy: PreTrainedModel):
        self.policy = policy

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        logits = next_actions(self.policy, input_ids, attention_mask)
        return logits, logits.new_zeros(logits.shape[:2])


# 2. Pay --------------------------------------------------------------------------------------------------------------
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


def penalise(rollout: Rollout, scores: Tensor, config: PPOConfig) -> tuple[Tensor, Tensor]:
    """Return the scores (batch,) less the penalty for a missing EOS, and the rewards (batch, time) made of them.

    The sum of a completion's rewards is its penalised score: what the policy is trained to raise.
    """
    penalised = scores - config.missing_eos_penalty * ~rollout.finished
    return penalised, token_rewards(penalised, rollout.logprobs, rollout.ref_logprobs, rollout.mask, config.kl_coef)


# 3. Report -----------------------------------------------------------------------------------------------------------
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


def read_samples(folder: Path) -> pd.DataFrame:
    """Return the completions of all updates (update, prefix, completion, score) that a training left in `folder`."""
    return pd.concat([pd.read_parquet(file) for file in sorted(Path(folder).glob("samples-*.parquet"))],
                     ignore_index=True)
