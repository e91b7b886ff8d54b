"""Exercise checks of notebook 03_reward: each names the likely slip in scores, preference loss, accuracy, gain, search.
"""
import math

import numpy as np
import torch
from torch import Tensor

from npkit.checks import exercise, gradients


def near(got, expected) -> bool:
    """Say whether two numbers or lists of numbers are the same up to rounding."""
    got, expected = (torch.as_tensor(numbers, dtype=torch.float64).detach() for numbers in (got, expected))
    return got.shape == expected.shape and torch.allclose(got, expected, atol=1e-5)


@exercise
def check_pickscore(student) -> str:
    """Exercise 3.1. Return "3.1 to do" or "3.1 passed"; raise AssertionError with a hint."""
    texts, pictures = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[4.0, 3.0], [5.0, 0.0]])
    got = student(texts, pictures, 10.0)
    assert isinstance(got, Tensor), "return a tensor"
    if got.shape == (2, 2):
        raise AssertionError("You scored every text with every picture: row i of the texts belongs to row i of the "
                             "pictures, so multiply number by number and sum over the last dimension.")
    assert got.shape == (2,), f"return one score per row, shape (2,), got {tuple(got.shape)}"
    across = (texts / texts.norm(dim=0) * (pictures / pictures.norm(dim=0))).sum(-1) * 10
    slips = {(240.0, 0.0): "These are dot products of vectors that still have their lengths: divide each by its norm.",
             (0.96, 0.0): "The cosines are right; logit_scale is missing.",
             (0.096, 0.0): "You divided by logit_scale: it multiplies the cosine. Its inverse is CLIP's temperature.",
             (48.0, 0.0): "Only one of the two embeddings was normalised: a cosine needs both.",
             tuple(across.tolist()): "You normalised over the batch: each embedding is a row, use dim=-1."}
    for slip, hint in slips.items():
        if near(got, slip):
            raise AssertionError(hint)
    assert near(got, [9.6, 0.0]), f"expected [9.6, 0.0], got {got.tolist()}"
    group = student(texts[:, None], torch.stack([pictures, texts], 1), 10.0)
    assert group.shape == (2, 2) and near(group[:, 1], [10.0, 10.0]), (
        "Several pictures of one text come as (prefixes, pictures, width): normalise and sum over the LAST dimension.")
    texts = torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]])
    pictures = torch.tensor([[-2.0, -2.0, 1.0], [0.0, 1.0, 0.0]])
    got = student(texts, pictures, 9.0)
    if near(got, [4.0, 5.4]) or near(got, [0.0, 5.4]):
        raise AssertionError("A cosine may be negative, where the vectors point apart: keep its sign.")
    assert near(got, [-4.0, 5.4]), f"for other vectors and logit_scale 9, expected [-4.0, 5.4], got {got.tolist()}"
    return "3.1 passed"


@exercise
def check_agreement_with_votes(student) -> str:
    """Exercise 3.2. Return "3.2 to do" or "3.2 passed"; raise AssertionError with a hint."""
    first, second = torch.tensor([2.0, 0.0, 1.0, 3.0]), torch.tensor([1.0, 3.0, 1.0, 1.0])
    shares = torch.tensor([0.75, 0.25, 0.875, 0.25])
    got = student(first, second, shares)
    assert np.shape(got) == (4,), "return one number per pair, a tensor of four numbers"
    tie = "Equal scores are no preference: such a pair counts one half, whatever the votes."
    slips = {(0.75, 0.75, 0.875, 0.25): tie,
             (0.75, 0.75, 0.125, 0.25): tie,
             (0.25, 0.25, 0.5, 0.75): "The sides are turned: where the first score is higher, count its share.",
             (0.75, 0.25, 0.5, 0.25): "Where the second score is higher, the raters on the judge's side are 1 - share.",
             (0.75, 0.75, 0.5, 0.75): "Your judge always sides with the majority: which score is higher decides.",
             (1.0, 1.0, 0.5, 0.0): "That compares with the majority. A vote of ONE rater is the measure: use shares."}
    for slip, hint in slips.items():
        if near(got, slip):
            raise AssertionError(hint)
    assert near(got, [0.75, 0.75, 0.5, 0.25]), f"expected [0.75, 0.75, 0.5, 0.25], got {got}"
    hint = "In the notebook the pairs stand in a table (groups, pairs): write it so that it works for any shape."
    try:
        table = student(first.view(2, 2), second.view(2, 2), shares.view(2, 2))
    except (RuntimeError, TypeError, ValueError) as error:
        raise AssertionError(f"{hint} Here it raises {error}.") from None
    assert np.shape(table) == (2, 2) and near(table, [[0.75, 0.75], [0.5, 0.25]]), hint
    assert isinstance(table, Tensor), "The numbers are right; the cells below need a tensor: torch.as_tensor(...)."
    return "3.2 passed"


@exercise
def check_preference_loss(student) -> str:
    """Exercise 3.3. Return "3.3 to do" or "3.3 passed"; raise AssertionError with a hint."""
    first, second = torch.tensor([2.0, 0.0], requires_grad=True), torch.tensor([1.0, 2.0], requires_grad=True)
    wins = torch.tensor([1.0, 0.25])
    got = student(first, second, wins)

    def bits(share: float, difference: float) -> float:
        return share * math.log1p(math.exp(-difference)) + (1 - share) * math.log1p(math.exp(difference))

    right = [bits(1.0, 1.0), bits(0.25, -2.0)]
    assert isinstance(got, Tensor), "return a tensor: its gradient trains the judge"
    if near(got, right):
        raise AssertionError("That is one loss per pair: average over the pairs.")
    winners = (1.0 * bits(1.0, 1.0) + 0.25 * bits(1.0, -2.0)) / 2
    slips = {sum(right): "That is the sum over the pairs: take the mean, else the step grows with the batch.",
             (bits(1.0, -1.0) + bits(0.25, 2.0)) / 2: "The sign is turned: a higher first score makes `wins` likely.",
             -sum(right) / 2: "That is the log-likelihood, which should rise: the loss is its negative.",
             winners: "The votes for the second picture are missing: add (1 - wins) times their term.",
             (bits(1.0, 1.0) + bits(0.0, -2.0)) / 2: "You rounded the votes: a share of 0.25 is not a lost pair.",
             (bits(1.0, 2.0) + bits(0.25, 0.0)) / 2: "Only the difference of the scores counts: subtract the second."}
    for slip, hint in slips.items():
        if near(got, slip):
            raise AssertionError(hint)
    assert near(got, sum(right) / 2), f"expected {sum(right) / 2:.4f}, got {float(got):.4f}"
    by_first, by_second = gradients(got, first, second)
    slope = (torch.sigmoid(torch.tensor([1.0, -2.0])) - wins) / 2
    assert near(by_first, slope) and near(by_second, -slope), (
        "the loss is right, but not its gradient: it must reach both scores, so detach neither")
    judge_far_apart(student)
    return "3.3 passed"


def judge_far_apart(student) -> None:
    """Raise the hint for a preference loss that overflows or is bounded where the scores are far apart."""
    for apart, share in ((300.0, 0.0), (-300.0, 1.0)):
        far = student(torch.tensor([apart]), torch.tensor([0.0]), torch.tensor([share]))
        assert torch.isfinite(far), ("A difference of 300 gives infinity: the logarithm of a rounded 0. Use "
                                     "logsigmoid, or binary_cross_entropy_with_logits.")
        assert far > 11, f"all votes against a difference of 300 cost much, got {float(far):.1f}: do not bound it"


@exercise
def check_gain(student) -> str:
    """Exercise 3.4. Return "3.4 to do" or "3.4 passed"; raise AssertionError with a hint."""
    painted, asked = [], []

    def paint(prompt: str, seed: int) -> tuple[str, int]:
        painted.append((prompt, seed))
        return prompt, seed

    def judge(picture: tuple[str, int], prefix: str) -> float:
        asked.append(prefix)
        return {"a cat, moody": 3.0, "a cat": 1.0}.get(picture[0], 9.0)

    got = student(judge, paint, "a cat", ", moody", 7)
    assert ", moody" not in dict(painted), "A completion alone is no prompt: paint prefix + completion."
    assert "a cat" in dict(painted), "The plain picture is missing: paint the prefix, too, and subtract its score."
    if len({seed for _, seed in painted}) > 1 or 7 not in dict(painted).values():
        raise AssertionError("The two pictures have different noise: give `seed` to both.")
    assert set(asked) == {"a cat"}, "Judge both pictures against the PREFIX, else the words count, not the picture."
    assert got != -2.0, "The sign is turned: the prompt's score comes first."
    assert near(got, 2.0), f"expected 3 - 1 = 2, got {got}"
    got = student(lambda picture, prefix: float(len(picture)), lambda prompt, seed: prompt, "a fox", ", oil", 3)
    assert near(got, 5.0), f"by a judge whose score is the number of letters the gain is 5, got {got}"
    return "3.4 passed"


@exercise
def check_widen(student) -> str:
    """Exercise 3.5. Return "3.5 to do" or "3.5 passed"; raise AssertionError with a hint."""
    worth, seen = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}, []

    def value(candidates):
        seen.extend(candidates)
        return [sum(worth[word] for word in each) for each in candidates]

    got = student([("a",), ("b",)], ["a", "b", "c", "d"], value, 2)
    got = [tuple(each) for each in got]
    assert not any(len(set(each)) < len(each) for each in seen), "A word stands twice: leave out words already there."
    assert all(len(each) == 2 for each in seen), "Every candidate is a kept set with exactly ONE word more."
    assert all(list(each) == sorted(each) for each in seen), "A set of words is a SORTED tuple: sort each candidate."
    assert len(set(seen)) == len(seen), "The same words came twice: from a + b and from b + a. Collect them in a set."
    assert len(seen) == 5, f"5 candidates are one word longer than a kept set, you looked at {len(seen)}"
    if got == [("a", "b"), ("a", "c")] or got == [("b", "c"), ("a", "d")]:
        raise AssertionError("These are not the best: sort by value, the highest first.")
    assert len(got) == 2, f"keep the {2} best, got {len(got)}"
    assert got == [("b", "d"), ("a", "d")], f"expected [('b', 'd'), ('a', 'd')], got {got}"
    got = [tuple(each) for each in student([("a",), ("b",)], ["a", "b", "c", "d"], value, 3)]
    assert got == [("b", "d"), ("a", "d"), ("b", "c")], f"with width 3 a third set stays, (b, c): got {got}"
    return "3.5 passed"
