"""Exercise checks of notebook 04_ppo: each names the likely slip, from REINFORCE to the total loss of a minibatch."""
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, tensor

from npkit.checks import NO_GRADIENT, exercise, gradients
from npkit.training import ppo_math

# two completions; first action, last action and number of actions less one are three different columns in each
MASK = tensor([[False, True, True, True, False], [False, False, False, True, True]])
VALUES = tensor([[0.0, 0.5, 0.25, 0.75, 0.0], [0.0, 0.0, 0.0, 0.5, 1.5]])
ADVANTAGES = tensor([[0.0, 2.0, -1.0, -2.0, 0.0], [0.0, 0.0, 0.0, 1.0, 3.0]])
RATIOS = tensor([[1.0, 1.5, 0.5, 1.4, 1.0], [1.0, 1.0, 1.0, 1.1, 0.6]])
Slips = dict[str, Tensor | tuple[Tensor, ...]]  # hint -> what the slip gives, or each of several such slips


def near(got: Tensor, expected: Tensor) -> bool:
    """Say whether two tensors are the same up to rounding."""
    return got.shape == expected.shape and torch.allclose(got.float(), expected, atol=1e-5)


def tensor_of(got: object, shape: tuple[int, ...], what: str) -> Tensor:
    """Return what the student's function gave as a tensor without gradient, or say that it is none of this shape."""
    assert isinstance(got, Tensor), f"return a tensor: {what}; got {type(got).__name__}"
    assert got.shape == shape, f"return {what}, shape {shape}; got shape {tuple(got.shape)}"
    return got.detach()


def judge(got: Tensor, expected: Tensor, slips: Slips, what: str = "", **inputs: Tensor | float) -> None:
    """Raise the hint whose slip gives `got`; for another wrong result say what was expected, and for which inputs."""
    if near(got, expected):
        return
    for hint, results in slips.items():
        if any(near(got, each) for each in (results if isinstance(results, tuple) else (results,))):
            raise AssertionError(hint)
    asked = "".join(f"\n    {name} = {written(values)}" for name, values in inputs.items())
    raise AssertionError(f"{what}expected {written(expected)},\ngot {written(got)}, for{asked}")


def written(values: Tensor | float) -> str:
    """Return a tensor as nested lists of numbers with at most three decimals."""
    if not isinstance(values, Tensor):
        return str(values)
    return str(values.tolist() if values.dtype == torch.bool else np.round(values.tolist(), 3).tolist())


@exercise
def check_reinforce_loss(student: Callable) -> str:
    """Exercise 4.1. Return "4.1 to do" or "4.1 passed"; raise AssertionError with a hint."""
    probabilities = tensor([0.5, 0.2, 0.3, 0.1])
    logprobs, advantages = probabilities.log().requires_grad_(), tensor([1.0, -2.0, 3.0, 0.5])
    loss = student(logprobs, advantages)
    tensor_of(loss, (), "one number, the mean over the draws")
    assert loss.requires_grad, f"no gradient reaches the log-probabilities: {NO_GRADIENT}"
    slips = {"The sign is turned: an optimiser makes a loss smaller, and the reward should grow.": advantages / 4,
             "That is the sum: divide by the number of draws, or the step depends on how many there are.": -advantages,
             "That is the probability: the gradient is the advantage times that of the LOG-probability.":
                 -advantages * probabilities / 4,
             "The advantages are missing: every draw would become likelier.": torch.full((4,), -0.25)}
    judge(gradients(loss, logprobs)[0], -advantages / 4, slips, what="the loss's gradient: ",
          logprobs=logprobs.detach(), advantages=advantages)
    return "4.1 passed"


@exercise
def check_token_rewards(student: Callable) -> str:
    """Exercise 4.2. Return "4.2 to do" or "4.2 passed"; raise AssertionError with a hint."""
    scores, logprobs = tensor([6.0, 2.0]), tensor([[-1.0, -1.0, -2.0, -3.0, -1.0], [-2.0, -1.0, -0.5, -1.0, -2.0]])
    ref_logprobs = tensor([[-2.0, -2.0, -1.0, -1.0, -4.0], [-1.0, -3.0, -1.5, -0.5, -4.0]])
    got = student(scores, logprobs, ref_logprobs, MASK, 0.1)
    got = tensor_of(got, (2, 5), "one reward a token, like logprobs")
    kl, last = (logprobs - ref_logprobs) * MASK, torch.zeros(2, 5)
    last[[0, 1], [3, 4]] = scores
    judge(got, -0.1 * kl + last, token_reward_slips(scores, logprobs - ref_logprobs, last), scores=scores,
          logprobs=logprobs, ref_logprobs=ref_logprobs, mask=MASK, kl_coef=0.1)
    judge(student(scores, logprobs, ref_logprobs, MASK, 0.5), -0.5 * kl + last, {}, "take kl_coef from the argument: ",
          kl_coef=0.5)
    return "4.2 passed"


def token_reward_slips(scores: Tensor, apart: Tensor, last: Tensor) -> Slips:
    """Return what the slips of exercise 4.2 give; `apart` is logprobs - ref_logprobs, `last` the scores in place."""
    cost, (first, counted, end) = -0.1 * apart * MASK, torch.zeros(3, 2, 5)
    first[[0, 1], [1, 3]], counted[[0, 1], [2, 1]], end[:, -1] = scores, scores, scores
    return {
        "Every token got the score: the judge saw one picture, pay once, at the last token.":
            cost + scores[:, None] * MASK,
        "You paid in the last column: a short completion ends earlier, and padding stands there.": cost + end,
        "You paid at the first token: the picture exists when the prompt is complete.": cost + first,
        "You paid at column mask.sum(1) - 1: that counts the completion alone, and the prefix stands in front of it.":
            cost + counted,
        "The sign of the KL term is turned: moving away from the reference must cost.": -cost + last,
        "Two slips. The sign of the KL term is turned: moving away from the reference must cost. And the mask is "
        "missing: prefix and padding pay nothing.": 0.1 * apart + last,
        "kl_coef is missing: the KL term is weighted.": 10 * cost + last,
        "Prefix and padding pay for KL: multiply by the mask, the policy did not act there.": -0.1 * apart + last,
        "The score is missing: add it at the last token.": cost}


@exercise
def check_gae(student: Callable) -> str:
    """Exercise 4.3. Return "4.3 to do" or "4.3 passed"; raise AssertionError with a hint."""
    rewards = tensor([[0.0, 0.5, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.25, 1.0]])
    try:
        got = student(rewards.clone(), VALUES.clone(), MASK, 0.5, 0.75)
    except IndexError as error:
        raise AssertionError(f"There is no column t + 1 behind the last one ({error}): begin with a next value of 0, "
                             "and keep each column's value for the column in front of it.") from None
    got = tensor_of(got, (2, 5), "one advantage a token, like rewards")
    advantages, returns = ppo_math.estimate_advantages(rewards, VALUES, MASK, 0.5, 0.75)
    judge(got, advantages, gae_slips(rewards) | {"These are the returns: subtract the values.": returns},
          rewards=rewards, values=VALUES, mask=MASK, gamma=0.5, lam=0.75)
    return "4.3 passed"


def gae_slips(rewards: Tensor) -> Slips:
    """Return what the slips of exercise 4.3 give, for `VALUES`, `MASK`, gamma = 0.5 and lam = 0.75."""
    following, before_last = torch.cat([VALUES[:, 1:], torch.zeros(2, 1)], 1), (torch.arange(5) < 4).float()
    cut_short = following * (torch.arange(5) < 3)  # a loop that begins one column late, with a next value of 0
    looped = torch.cat([VALUES[:, 1:], VALUES[:, -1:]], 1)
    own_ends = torch.where(MASK & (following == 0), VALUES, following)
    delta = (rewards + 0.5 * following - VALUES) * MASK
    ends, signs = ([backwards((rewards + change) * MASK, 0.375) for change in changes] for changes in (
        (0.5 * looped - VALUES, 0.5 * own_ends - VALUES),
        (VALUES - 0.5 * following, VALUES + 0.5 * following, -VALUES - 0.5 * following)))
    return {
        "These are the deltas alone: each advantage also takes gamma x lam of the next one.": delta,
        "Only lam discounts the next advantage: multiply by gamma x lam.": backwards(delta, 0.75),
        "Only gamma discounts the next advantage: multiply by gamma x lam.": backwards(delta, 0.5),
        "One of gamma and lam stands there twice: the next advantage takes gamma x lam.":
            (backwards(delta, 0.25), backwards(delta, 0.5625)),
        "The next value is discounted by lam: the delta takes gamma.":
            (backwards((rewards + 0.75 * following - VALUES) * MASK, 0.375),
             backwards((rewards + 0.75 * following - VALUES) * MASK, 0.75)),
        "You went forwards in time: credit flows backwards, begin at the last token.":
            backwards(delta.flip(1), 0.375, MASK.flip(1)).flip(1),
        "The next value is not discounted: multiply it by gamma.":
            backwards((rewards + following - VALUES) * MASK, 0.375),
        "There is no value after the last token: V beyond it is 0.": tuple(ends),
        "The last column is missing: a completion may end there, so the loop begins with it.":
            (backwards(delta * before_last, 0.375),
             backwards((rewards + 0.5 * cut_short - VALUES) * MASK * before_last, 0.375)),
        "A sign in delta is turned: it is the reward, plus gamma x the next value, minus the token's own value.":
            tuple(signs),
        "Tokens of the prefix got an advantage: multiply by the mask, the policy did not write them.":
            backwards(rewards + 0.5 * following - VALUES, 0.375, torch.ones_like(MASK))}


def backwards(delta: Tensor, factor: float, mask: Tensor = MASK) -> Tensor:
    """Return the sum of deltas to come, each further one times `factor` once more; 0 where `mask` is False."""
    found, advantage = torch.zeros_like(delta), torch.zeros(len(delta))
    for t in reversed(range(delta.shape[1])):
        found[:, t] = advantage = (delta[:, t] + factor * advantage) * mask[:, t]
    return found


@exercise
def check_policy_loss(student: Callable) -> str:
    """Exercise 4.4. Return "4.4 to do" or "4.4 passed"; raise AssertionError with a hint."""
    old, advantages = torch.full((2, 5), -2.0), torch.where(MASK, ADVANTAGES, tensor(9.0))
    logprobs, same = ((old + RATIOS.log()).requires_grad_() for _ in range(2))
    loss = student(logprobs, old, advantages, MASK, 0.2)
    got = tensor_of(loss, (), "one number, the mean over the tokens that the policy wrote")
    expected = ppo_math.policy_loss(same, old, advantages, MASK, 0.2)
    judge(got, expected.detach(), policy_loss_slips(advantages), logprobs=old + RATIOS.log(), old_logprobs=old,
          advantages=advantages, mask=MASK, cliprange=0.2)
    judge(gradients(loss, logprobs)[0], gradients(expected, same)[0], {}, "the loss's gradient: ", ratio=RATIOS)
    wide = [each(old + RATIOS.log(), old, advantages, MASK, 0.45) for each in (student, ppo_math.policy_loss)]
    judge(*wide, {}, "take cliprange from the argument: ", cliprange=0.45)
    return "4.4 passed"


def policy_loss_slips(advantages: Tensor) -> Slips:
    """Return what the slips of exercise 4.4 give, for `RATIOS`, `MASK` and cliprange = 0.2."""
    def larger(ratios: Tensor) -> Tensor:
        return torch.maximum(-advantages * ratios, -advantages * ratios.clamp(0.8, 1.2))

    plain, clipped, mean = -advantages * RATIOS, -advantages * RATIOS.clamp(0.8, 1.2), ppo_math.masked_mean
    losses = larger(RATIOS)
    return {
        "That is the objective, which should rise: the loss is its negative.": -mean(losses, MASK),
        "You took the smaller loss: PPO is pessimistic, take the larger one.":
            mean(torch.minimum(plain, clipped), MASK),
        "You always clip: a ratio gone the wrong way must still be pulled back.": mean(clipped, MASK),
        "Nothing is clipped: compare with the loss of the clipped ratio.": mean(plain, MASK),
        "Prefix and padding count: take the mean where the mask is True.": losses.mean(),
        "That is the sum over the actions: divide by their number.": (losses * MASK).sum(),
        "You divided by all places: divide by the number of actions, mask.sum().": (losses * MASK).mean(),
        "You took the mean of each row, then of the rows: a token of a short completion counts more. Divide one sum "
        "over all rows by mask.sum().": ((losses * MASK).sum(1) / MASK.sum(1)).mean(),
        "You divided by the number of completions: divide by the number of actions, mask.sum().":
            (losses * MASK).sum(1).mean(),
        "The ratio is turned round: it is new over old.": mean(larger(1 / RATIOS), MASK),
        "That is the difference of logarithms: the ratio is its exponential.": mean(larger(RATIOS.log()), MASK)}


@exercise
def check_total_loss(student: Callable) -> str:
    """Exercise 4.5. Return "4.5 to do" or "4.5 passed"; raise AssertionError with a hint."""
    config, other = (SimpleNamespace(vf_coef=coef, cliprange_value=clip) for coef, clip in ((0.1, 0.2), (0.5, 0.4)))
    old, actor = VALUES, tensor(3.0, requires_grad=True)
    moved = tensor([[1.0, 0.5, -0.1, -0.6, 2.0], [2.0, 2.0, 2.0, 0.1, 0.3]])
    values, same = ((old + moved).requires_grad_() for _ in range(2))
    returns = old + tensor([[3.0, 1.0, -0.4, 0.5, 4.0], [4.0, 4.0, 4.0, 0.0, -0.2]])
    loss = student(actor, values, old, returns, MASK, config)
    got = tensor_of(loss, (), "one number, the loss of the minibatch")
    slips, inputs = total_loss_slips(tensor(3.0), old + moved, old, returns), {
        "actor": 3.0, "values": old + moved, "old_values": old, "returns": returns, "mask": MASK}
    expected = ppo_math.value_loss(same, old, returns, MASK, 0.2) * 0.1
    judge(got, 3.0 + expected.detach(), slips, **inputs, vf_coef=0.1, cliprange_value=0.2)
    for_actor, for_values = gradients(loss, actor, values)
    judge(for_actor, tensor(1.0), {}, "the gradient by `actor`: ")
    judge(for_values, gradients(expected, same)[0], {}, "the gradient by `values`: ", **inputs)
    judge(student(tensor(3.0), old + moved, old, returns, MASK, other),
          3.0 + ppo_math.value_loss(old + moved, old, returns, MASK, 0.4) * 0.5, {},
          "take both numbers from `config`: ", **inputs, vf_coef=0.5, cliprange_value=0.4)
    return "4.5 passed"


def total_loss_slips(actor: Tensor, values: Tensor, old: Tensor, returns: Tensor) -> Slips:
    """Return what the slips of exercise 4.5 give, for vf_coef = 0.1 and cliprange_value = 0.2."""
    plain, other = (values - returns) ** 2, (values.clamp(old - 0.2, old + 0.2) - returns) ** 2
    mean, larger = ppo_math.masked_mean, torch.maximum(plain, other)
    right = mean(larger, MASK) / 2
    return {
        "vf_coef is missing: the value loss is weighted.": actor + right,
        "The policy's loss is missing: the total is the sum of both.": 0.1 * right,
        "The value loss is subtracted: both are errors to make smaller.": actor - 0.1 * right,
        "The half is missing: the value loss is half the mean squared error.": actor + 0.2 * right,
        "You took the smaller error: as for the policy, take the larger one.":
            actor + 0.05 * mean(torch.minimum(plain, other), MASK),
        "Nothing is clipped: compare with the error of the value clipped around the OLD value, not the return.":
            actor + 0.05 * mean(plain, MASK),
        "You always clip: a value gone the wrong way must still be pulled back.": actor + 0.05 * mean(other, MASK),
        "You took the mean of each row, then of the rows: divide one sum over all rows by mask.sum().":
            actor + 0.05 * ((larger * MASK).sum(1) / MASK.sum(1)).mean(),
        "Prefix and padding count: take the mean where the mask is True.": actor + 0.05 * larger.mean()}
