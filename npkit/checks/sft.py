"""Exercise checks of notebook 02_sft: each names the likely slip in merging, shifting, averaging or counting."""
import math

import torch
from torch.nn.functional import cross_entropy


def check_best_pair(student) -> str:
    """Exercise 2.1. Return "2.1 to do" or "2.1 passed"; raise AssertionError with a hint."""
    words = {("l", "o", "w"): 2, ("n", "e", "w"): 6, ("w", "e", "l", "l"): 1, ("l", "o"): 3, ("e", "w", "e"): 1,
             ("o", "w", "l"): 1, ("l", "o", "g"): 1}
    try:
        got = student(words)
    except NotImplementedError:
        return "2.1 to do"
    if got == ("l", "o"):
        raise AssertionError("Each pair counts as often as its word occurs: add the word's count, not 1.")
    assert not isinstance(got, str), "Return the pair as a tuple of two tokens: ('e', 'w'), not 'ew'."
    assert got == ("e", "w"), f"expected ('e', 'w'), 7 times, got {got}"
    return "2.1 passed"


def check_next_token_loss(student) -> str:
    """Exercise 2.2. Return "2.2 to do" or "2.2 passed"; raise AssertionError with a hint."""
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 3
    ids = torch.tensor([3, 0, 6, 2, 5])
    try:
        got = float(student(logits, ids))
    except NotImplementedError:
        return "2.2 to do"
    logprobs = logits.log_softmax(-1)
    slips = {
        "No shift: row t of the logits predicts token t + 1, not token t.": cross_entropy(logits, ids),
        "Shifted the wrong way: logits[t] belongs to ids[t + 1].": cross_entropy(logits[1:], ids[:-1]),
        "That is the sum: take the mean over the tokens.": cross_entropy(logits[:-1], ids[1:], reduction="sum"),
        "The sign is turned: the loss is the NEGATIVE log-probability.": -cross_entropy(logits[:-1], ids[1:]),
        "Logits are no log-probabilities yet: take log_softmax over the vocabulary.":
            -logits[:-1].gather(1, ids[1:, None]).mean(),
        "Normalise over the vocabulary (the last axis), not over the time axis.":
            -logits[:-1].log_softmax(0).gather(1, ids[1:, None]).mean(),
        "That is the mean probability: take its logarithm first, then the mean.":
            -logprobs[:-1].exp().gather(1, ids[1:, None]).mean(),
    }
    for hint, slip in slips.items():
        if math.isclose(got, slip.item(), abs_tol=1e-4):
            raise AssertionError(hint)
    expected = cross_entropy(logits[:-1], ids[1:]).item()
    assert math.isclose(got, expected, abs_tol=1e-4), f"expected {expected:.4f}, got {got:.4f}"
    return "2.2 passed"


def check_perplexity(student) -> str:
    """Exercise 2.3. Return "2.3 to do" or "2.3 passed"; raise AssertionError with a hint."""
    logprobs = [torch.tensor([-1.0, -3.0]), torch.tensor([-0.5, -0.5, -0.5, -0.5, -0.5, -0.5])]
    try:
        got = float(student(logprobs))
    except NotImplementedError:
        return "2.3 to do"
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
    return "2.3 passed"


def check_copied_share(student) -> str:
    """Exercise 2.4. Return "2.4 to do" or "2.4 passed"; raise AssertionError with a hint."""
    samples = [", oil painting, 8k", "", ", 8K, Oil painting", ", OIL painting,  8k", ", vivid"]
    known = [", oil painting, 8k", ", oil painting, 8k", "", ", moody"]
    try:
        got = student(samples, known)
    except NotImplementedError:
        return "2.4 to do"
    slips = {2 / 5: "Compare FOLDED completions, and leave out the empty ones: they copy nothing.",
             1 / 4: "Compare FOLDED completions: case and spaces do not make a prompt new.",
             3 / 5: "An empty completion copies nothing: leave it out, above and below the line.",
             1 / 3: "Two samples that copy the same prompt are two copies: no set() for the samples.",
             3 / 4: "Order counts: only a completion that is the same word by word is a copy."}
    for slip, hint in slips.items():
        if math.isclose(got, slip):
            raise AssertionError(hint)
    assert math.isclose(got, 2 / 4), f"two of the four completions that say something are copies, got {got}"
    return "2.4 passed"
