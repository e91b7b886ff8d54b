"""PPO arithmetic: from log-probabilities, values and scores to advantages and losses, as pure functions.

Every tensor is (batch, time) unless said otherwise; `mask` is True where the policy took an action, and what lies
outside of it never counts. Log-probabilities and KL are in nats.
"""
import torch
from torch import Tensor

from npkit.errors import NpkitError

NEVER = -1e9  # a logit of probability 0, and still a number: it may be divided by a temperature, or multiplied by 0


def action_logits(logits: Tensor, pad_token_id: int) -> Tensor:
    """Return the logits with padding out of the choice: sampling never draws it, so it has no share of what is sure."""
    return logits.float().index_fill(-1, torch.tensor([pad_token_id], device=logits.device), NEVER)


def token_logprobs(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Return the log-probability of each token; `logits` is (batch, time, vocabulary)."""
    logits = logits.float()
    return logits.gather(-1, token_ids[..., None]).squeeze(-1) - logits.logsumexp(-1)


def token_entropies(logits: Tensor) -> Tensor:
    """Return the entropy of the distribution each token was drawn from; `logits` is (batch, time, vocabulary)."""
    logprobs = logits.float().log_softmax(-1)
    return -(logprobs.exp() * logprobs).sum(-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the actions."""
    return (values * mask).sum() / mask.sum()


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Return the variance over the actions (divided by their number, not by one less)."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kl_estimator: str = "k1") -> Tensor:
    """Return a one-sample estimate of KL(policy || reference) per token, with log r = ref_logprobs - logprobs.

    Both are unbiased. k1 = -log r is negative wherever the reference makes the token likelier; k3 = r - 1 - log r never
    is, and varies less where the two are close, more where the reference likes a token that the policy rarely writes.
    """
    log_ratio = ref_logprobs - logprobs
    if kl_estimator == "k1":
        return -log_ratio
    if kl_estimator == "k3":
        return log_ratio.exp() - 1 - log_ratio
    raise NpkitError(f"kl_estimator is k1 or k3, got {kl_estimator!r}")


def token_rewards(scores: Tensor, logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Return the reward of every action: minus `kl_coef` x KL (k1), plus the score (batch,) at the last action."""
    rewards = -kl_coef * kl_estimate(logprobs, ref_logprobs) * mask
    last_action = mask.shape[1] - 1 - mask.int().flip(1).argmax(1, keepdim=True)
    return rewards.scatter_add(1, last_action, scores[:, None].to(rewards.dtype))


def estimate_advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
                        ) -> tuple[Tensor, Tensor]:
    """Return advantages and returns by generalised advantage estimation (Schulman et al. 2016).

    Backwards in time, with nothing after the last action:
    delta_t = reward_t + gamma value_{t+1} - value_t,  advantage_t = delta_t + gamma lam advantage_{t+1},
    and return_t = advantage_t + value_t.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    advantage = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantages[:, t] = advantage = (delta + gamma * lam * advantage) * mask[:, t]
        next_value = values[:, t]
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return `values` shifted to mean 0 and scaled to variance 1 over the actions, 0 elsewhere."""
    return (values - masked_mean(values, mask)) * torch.rsqrt(masked_variance(values, mask) + 1e-8) * mask


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, cliprange: float) -> Tensor:
    """Return PPO's clipped policy loss, mean over actions of max(-A ratio, -A clip(ratio, 1 +- cliprange))."""
    ratio = ((logprobs - old_logprobs) * mask).exp()
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    return masked_mean(torch.maximum(-advantages * ratio, -advantages * clipped), mask)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange_value: float) -> Tensor:
    """Return half the mean over actions of the larger squared error, that of the value or that of the clipped value."""
    clipped = values.clamp(old_values - cliprange_value, old_values + cliprange_value)
    return masked_mean(torch.maximum((values - returns) ** 2, (clipped - returns) ** 2), mask) / 2


def clip_fraction(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, cliprange: float) -> Tensor:
    """Return the share of actions whose probability ratio left the clipping range."""
    return masked_mean(((((logprobs - old_logprobs) * mask).exp() - 1).abs() > cliprange).float(), mask)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - var(returns - values) / var(returns): 1 is a perfect critic, 0 one that knows only the mean."""
    return 1 - masked_variance(returns - values, mask) / masked_variance(returns, mask).clamp(min=1e-8)
