"""Plain SFT: the merge, the loss, the step and the draw that notebook 02 has students write; the trainers do it faster.

The lesson's cells use these functions, or the student's, for a small policy that is trained in seconds.
"""
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

Word = tuple[str, ...]  # its tokens
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # logits, ids, mask -> one number


def best_pair(words: Mapping[Word, int]) -> tuple[str, str]:
    """Return the most frequent pair of neighbouring tokens, the first one of several; `words` says how often each."""
    pairs = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] += count
    return pairs.most_common(1)[0][0]


def merge(word: Word, pair: tuple[str, str]) -> Word:
    """Return the word with each occurrence of `pair` joined into one token."""
    if len(word) < 2:
        return word
    if word[:2] == tuple(pair):
        return ("".join(pair), *merge(word[2:], pair))
    return (word[0], *merge(word[1:], pair))


def next_token_loss(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the mean negative log-probability, in nats, of the tokens that `mask` keeps, but for each row's first.

    `logits` are (batch, time, vocabulary), `ids` and `mask` (True = keep) are (batch, time).
    """
    keep = mask[:, 1:]
    return cross_entropy(logits[:, :-1][keep], ids[:, 1:][keep])


def sft_step(model: PreTrainedModel, ids: Tensor, mask: Tensor, loss_of: Loss,
             optimizer: torch.optim.Optimizer) -> float:
    """Take one step down the gradient of the batch's loss and return the loss before it.

    Padding stands at the end of a row, where no real token sees it: it is the loss that needs the mask.
    """
    optimizer.zero_grad()
    loss = loss_of(model(ids, attention_mask=mask).logits, ids, mask)
    loss.backward()
    optimizer.step()
    return loss.item()


def draw_token(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a token (batch,) drawn for each row of `logits` (batch, vocabulary) at a temperature."""
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
