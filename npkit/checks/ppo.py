"""Exercise checks of notebook 04_ppo: each names the likely slip in KL, token rewards, advantages or clipping."""
import math

import torch
from torch import Tensor


def near(got, expected) -> bool:
    """Say whether two numbers or lists of numbers are the same up to rounding."""
    got, expected = (torch.as_tensor(numbers, dtype=torch.float64) for numbers in (got, expected))
    return got.shape == expected.shape and torch.allclose(got, expected, atol=1e-5)


def check_kl_k3(student) -> str:
    """Exercise 4.1. Return "4.1 to do" or "4.1 passed"; raise AssertionError with a hint."""
    logprobs, ref_logprobs = torch.tensor([0.5, 0.1, 0.3]).log(), torch.tensor([0.25, 0.2, 0.3]).log()
    try:
        got = student(logprobs, ref_logprobs)
    except NotImplementedError:
        return "4.1 to do"
    assert isinstance(got, Tensor) and got.shape == (3,), "return one estimate per token, a tensor of three numbers"
    half, double = 0.5 - 1 + math.log(2), 2 - 1 - math.log(2)
    if near(got, [math.log(2), -math.log(2), 0]):
        raise AssertionError("That is k1: it can be negative, which no KL is. Add r - 1.")
    if near(got, [double, half, 0]):
        raise AssertionError("The ratio is turned round: r is reference over policy, since the policy drew the token.")
    if near(got, [half + 1, double + 1, 1]):
        raise AssertionError("Where both agree, r = 1 and the estimate must be 0: subtract 1.")
    assert near(got, [half, double, 0]), f"expected {[round(half, 3), round(double, 3), 0]}, got {got.tolist()}"
    return "4.1 passed"


def check_token_rewards(student) -> str:
    """Exercise 4.2. Return "4.2 to do" or "4.2 passed"; raise AssertionError with a hint."""
    logprobs, ref_logprobs = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-2.0, -1.0, -0.5])
    try:
        got = student(6.0, logprobs, ref_logprobs, 0.1)
    except NotImplementedError:
        return "4.2 to do"
    assert isinstance(got, Tensor) and got.shape == (3,), "return one reward per token, a tensor of three numbers"
    slips = {(5.9, 6.1, 6.0): "Every token got the score: the judge saw one picture, pay once, at the last token.",
             (5.9, 0.1, 0.0): "You paid at the first token: the picture exists when the prompt is complete.",
             (0.1, -0.1, 6.0): "The sign of the KL term is turned: moving away from the reference must cost.",
             (-1.0, 1.0, 6.0): "kl_coef is missing: the KL term is weighted.",
             (-0.1, 0.1, 0.0): "The score is missing: add it at the last token."}
    for slip, hint in slips.items():
        if near(got, slip):
            raise AssertionError(hint)
    assert near(got, [-0.1, 0.1, 6.0]), f"expected [-0.1, 0.1, 6.0], got {got.tolist()}"
    if not near(ref_logprobs, [-2.0, -1.0, -0.5]) or not near(logprobs, [-1.0, -2.0, -0.5]):
        raise AssertionError("Your function changes its arguments: += on a tensor works in place.")
    return "4.2 passed"


def check_advantages(student) -> str:
    """Exercise 4.3. Return "4.3 to do" or "4.3 passed"; raise AssertionError with a hint."""
    rewards, values = [0.0, 1.0, 2.0], [0.5, 1.0, 1.5]
    try:
        got = list(student(rewards, values, 0.5, 0.5))
    except NotImplementedError:
        return "4.3 to do"
    assert len(got) == 3, f"return one advantage per token, got {len(got)} numbers"
    slips = {(0.0, 0.75, 0.5): "These are the deltas alone: each advantage also takes gamma x lam of the next one.",
             (0.5, 1.0, 0.5): "Only lam discounts the next advantage: multiply by gamma x lam.",
             (0.5, 0.875, 0.21875): "The advantages come out last token first: turn the list round.",
             (0.0, 0.75, 0.6875): "You went forwards in time: credit flows backwards, begin at the last token.",
             (0.90625, 1.625, 0.5): "The next value is not discounted: multiply it by gamma.",
             (0.71875, 1.875, 2.0): "These are the returns: subtract the values.",
             (0.265625, 1.0625, 1.25): "There is no value after the last token: nothing follows it."}
    for slip, hint in slips.items():
        if near(got, slip):
            raise AssertionError(hint)
    assert near(got, [0.21875, 0.875, 0.5]), f"expected [0.21875, 0.875, 0.5], got {[float(number) for number in got]}"
    return "4.3 passed"


def check_clipped_loss(student) -> str:
    """Exercise 4.4. Return "4.4 to do" or "4.4 passed"; raise AssertionError with a hint."""
    cases = ((1.5, 2.0), (1.1, 2.0), (0.5, 2.0), (1.5, -2.0), (0.5, -2.0))
    try:
        got = [float(student(torch.tensor(ratio), torch.tensor(advantage), 0.2)) for ratio, advantage in cases]
    except NotImplementedError:
        return "4.4 to do"
    slips = {(2.4, 2.2, 1.0, -3.0, -1.6): "That is the objective, which should rise: the loss is its negative.",
             (-3.0, -2.2, -1.6, 2.4, 1.0): "You took the smaller loss: PPO is pessimistic, take the larger one.",
             (-2.4, -2.2, -1.6, 2.4, 1.6): "You always clip: a ratio gone the wrong way must still be pulled back.",
             (-3.0, -2.2, -1.0, 3.0, 1.0): "Nothing is clipped: compare with the loss of the clipped ratio."}
    for slip, hint in slips.items():
        if near(got, slip):
            raise AssertionError(hint)
    expected = [-2.4, -2.2, -1.0, 3.0, 1.6]
    assert near(got, expected), f"expected {expected}, got {[round(loss, 3) for loss in got]}"
    return "4.4 passed"
