"""Exercise checks of notebook 02_sft: each names the likely slip in merging, shifting, stepping, averaging, drawing."""
import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from npkit.checks import exercise, gradients


@exercise
def check_best_pair(student) -> str:
    """Exercise 2.1. Return "2.1 to do" or "2.1 passed"; raise AssertionError with a hint."""
    words = {("l", "o", "w"): 2, ("n", "e", "w"): 6, ("w", "e", "l", "l"): 1, ("l", "o"): 3, ("e", "w", "e"): 1,
             ("o", "w", "l"): 1, ("l", "o", "g"): 1}
    got = student(words)
    got = tuple(got) if isinstance(got, list) else got
    if got == ("l", "o"):
        raise AssertionError("Each pair counts as often as its word occurs: add the word's count, not 1.")
    assert not isinstance(got, str), "Return the pair as a tuple of two tokens: ('e', 'w'), not 'ew'."
    assert got == ("e", "w"), f"expected ('e', 'w'), 7 times, got {got}"
    got = tuple(student({("b", "o", "n", "o", "n", "o"): 3, ("d", "a", "y"): 5}))
    if got in (("d", "a"), ("a", "y")):
        raise AssertionError("A pair that stands twice in a word counts twice: 'on' and 'no' in 'bonono', 3 times.")
    assert got != ("n", "o"), "'on' and 'no' are equally frequent: take the one that was met first, 'on'."
    assert got == ("o", "n"), f"of bonono (3 times) and day (5 times), expected ('o', 'n'), got {got}"
    return "2.1 passed"


@exercise
def check_next_token_loss(student) -> str:
    """Exercise 2.2. Return "2.2 to do" or "2.2 passed"; raise AssertionError with a hint."""
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 3
    ids = torch.tensor([[3, 0, 6, 2, 5], [4, 1, 2, 0, 0]])
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    leaf, same = (logits.clone().requires_grad_() for _ in range(2))
    got = student(leaf, ids, mask)
    assert isinstance(got, Tensor) and got.ndim == 0, "Return one number as a tensor, so that it has a gradient."
    for hint, slip in slips_of_loss(logits, ids, mask).items():
        if math.isclose(got.item(), slip.item(), abs_tol=1e-4):
            raise AssertionError(hint)
    keep = mask[:, 1:]
    expected = cross_entropy(same[:, :-1][keep], ids[:, 1:][keep])
    assert math.isclose(got.item(), expected.item(), abs_tol=1e-4), f"expected {expected:.4f}, got {got:.4f}"
    (found,), (right,) = gradients(got, leaf), gradients(expected, same)
    assert torch.allclose(found, right, atol=1e-5), "the loss is right, but its gradient is not: did you detach a part?"
    return "2.2 passed"


def slips_of_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Hint -> what a function returns that makes the mistake."""
    chosen = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    raw, over_time = (each[:, :-1].gather(2, ids[:, 1:, None])[..., 0] for each in (logits, logits.log_softmax(1)))
    early = logits[:, 1:].log_softmax(-1).gather(2, ids[:, :-1, None])[..., 0]
    unshifted, keep = logits.log_softmax(-1).gather(2, ids[..., None])[..., 0], mask[:, 1:]
    return {
        "No shift: the logits at place t predict token t + 1, not token t.": -unshifted[mask].mean(),
        "Shifted the wrong way: the logits at t belong to the token at t + 1.": -early[keep].mean(),
        "The padding is counted: leave out what the mask does not keep.": -chosen.mean(),
        "The mask belongs to the token that is predicted: mask[:, 1:], not mask[:, :-1].": -chosen[mask[:, :-1]].mean(),
        "The padding still counts below the line: divide by the number of tokens kept.": -(chosen * keep).mean(),
        "Every TOKEN counts the same: do not average prompt by prompt first.":
            -((chosen * keep).sum(1) / keep.sum(1)).mean(),
        "That is the sum: take the mean over the tokens.": -chosen[keep].sum(),
        "The sign is turned: the loss is the NEGATIVE log-probability.": chosen[keep].mean(),
        "Logits are no log-probabilities yet: take log_softmax over the vocabulary.": -raw[keep].mean(),
        "Normalise over the vocabulary (the last axis), not over the time axis.": -over_time[keep].mean(),
        "That is the mean probability: take its logarithm first, then the mean.": -chosen.exp()[keep].mean(),
    }


class Bigram(nn.Module):
    """A language model that knows only the last token: logits (batch, time, 4)."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(4, 4))

    def forward(self, ids: Tensor, **_options) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[ids])


def masked_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The loss that the step is to minimise."""
    return cross_entropy(logits[:, :-1][mask[:, 1:]], ids[:, 1:][mask[:, 1:]])


def two_steps(step) -> tuple[list, Bigram, list[Tensor]]:
    """What `step` returns on two batches, the model afterwards, and the weights after each step."""
    model = Bigram()
    optimizer, weights = torch.optim.SGD(model.parameters(), lr=0.5), []
    mask = torch.tensor([[True, True, True], [True, True, False]])
    returned = []
    for ids in (torch.tensor([[0, 1, 2], [3, 1, 0]]), torch.tensor([[0, 2, 2], [1, 3, 0]])):
        returned.append(step(model, ids, mask, masked_loss, optimizer))
        weights.append(model.table.detach().clone())
    return returned, model, weights


@exercise
def check_sft_step(student) -> str:
    """Exercise 2.3. Return "2.3 to do" or "2.3 passed"; raise AssertionError with a hint."""
    returned, model, (first, second) = two_steps(student)
    if not first.any():
        has_gradient = model.table.grad is not None
        raise AssertionError("The weights did not move: call optimizer.step() at the end." if has_gradient else
                             "No gradient reached the optimizer: call loss.backward() between zero_grad() and step().")
    _, _, (right, right_after) = two_steps(reference_step)
    if torch.allclose(first, -right):
        raise AssertionError("The step goes uphill: it is the LOSS that gets smaller, so do not turn its sign.")
    if torch.allclose(first, right) and not torch.allclose(second, right_after):
        raise AssertionError("The second step still has the first one's gradient in it: gradients add up, so call "
                             "optimizer.zero_grad() before loss.backward().")
    assert torch.allclose(first, right), ("the weights moved to another place than a step on loss_of(logits, ids, mask)"
                                          " takes them: do you pass the mask on, and take one step?")
    is_number = not isinstance(returned[0], Tensor)
    assert is_number, "Return loss.item(), a number: a tensor keeps the whole graph of the step in memory."
    assert math.isclose(returned[0], math.log(4), rel_tol=1e-4), f"the first loss is log(4), got {returned[0]}"
    return "2.3 passed"


def reference_step(model: nn.Module, ids: Tensor, mask: Tensor, loss_of, optimizer: torch.optim.Optimizer) -> float:
    """One step as it should be."""
    optimizer.zero_grad()
    loss = loss_of(model(ids, attention_mask=mask).logits, ids, mask)
    loss.backward()
    optimizer.step()
    return loss.item()


@exercise
def check_perplexity(student) -> str:
    """Exercise 2.4. Return "2.4 to do" or "2.4 passed"; raise AssertionError with a hint."""
    logprobs = [torch.tensor([-1.0, -3.0]), torch.tensor([-0.5, -0.5, -0.5, -0.5, -0.5, -0.5])]
    got = float(student(logprobs))
    slips = {math.exp((2 + 0.5) / 2): "A short prompt counts as much as a long one: average over tokens, not prompts.",
             (math.exp(2) + math.exp(0.5)) / 2: "Average the log-probabilities first; perplexities do not average.",
             7 / 8: "That is the mean loss: perplexity is its exponential.",
             math.exp(-7 / 8): "The sign is turned: perplexity is exp of the NEGATIVE mean, so at least 1.",
             2 ** (7 / 8): "The log-probabilities are in nats: raise e to the loss, not 2.",
             math.exp(7): "Divide by the number of tokens before you take the exponential."}
    for slip, hint in slips.items():
        if math.isclose(got, slip, rel_tol=1e-4):
            raise AssertionError(hint)
    assert math.isclose(got, math.exp(7 / 8), rel_tol=1e-4), f"expected exp(7 / 8), got {got:.4f}"
    return "2.4 passed"


@exercise
def check_draw_token(student) -> str:
    """Exercise 2.5. Return "2.5 to do" or "2.5 passed"; raise AssertionError with a hint."""
    logits = torch.tensor([2.0, 1.0, 0.0])
    got, again = (student(logits.repeat(20_000, 1), 0.5, torch.Generator().manual_seed(0)) for _ in range(2))
    assert got.shape == (20_000,), f"return one token for each row, (batch,): got {tuple(got.shape)}"
    if not torch.equal(got, again):
        raise AssertionError("The same seed drew other tokens: pass `generator` on to the drawing.")
    shares = got.bincount(minlength=3) / len(got)
    slips = {"You took the likeliest token every time: draw, with torch.multinomial.": torch.tensor([1.0, 0.0, 0.0]),
             "You multiplied by the temperature: divide, so that cold is sharper.": (logits * 0.5).softmax(-1),
             "The temperature changed nothing: divide the LOGITS by it, before the softmax.": logits.softmax(-1),
             "Logits are no probabilities: take the softmax before you draw.": logits / logits.sum()}
    for hint, slip in slips.items():
        if torch.allclose(shares, slip, atol=0.02):
            raise AssertionError(hint)
    expected = (logits / 0.5).softmax(-1)
    assert torch.allclose(shares, expected, atol=0.02), f"expected shares {expected.tolist()}, drew {shares.tolist()}"
    if torch.equal(got, student(logits.repeat(20_000, 1), 0.5, torch.Generator().manual_seed(1))):
        raise AssertionError("Another seed drew the same tokens: draw with the `generator` that is given, seed none.")
    got = student(torch.eye(3) * 60, 2.0, torch.Generator().manual_seed(0))
    assert got.tolist() == [0, 1, 2], f"each row has logits of its own: tokens 0, 1, 2 are all but sure, got {got}"
    return "2.5 passed"
