"""Costs: what a model expects phrases to cost, in one forward over the tree of their tokens."""
from collections.abc import Collection, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from npkit.text.policy import batches, evaluating

CONTEXT = ","  # what most phrases of a prompt stand behind
PHRASES_AT_ONCE = 64


def phrase_costs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 phrases: Collection[str]) -> dict[str, float]:
    """Return -log p(phrase | comma) of each phrase, in nats."""
    context = tokenizer.encode(CONTEXT, add_special_tokens=False)
    costs = {}
    for batch in batches(sorted(set(phrases)), PHRASES_AT_ONCE):  # sorted: those that begin alike in one tree
        sequences = [context + tokenizer.encode(" " + phrase, add_special_tokens=False) for phrase in batch]
        costs |= zip(batch, _costs(model, sequences, len(context)))
    return costs


def _costs(model: PreTrainedModel, sequences: Sequence[list[int]], start: int) -> list[float]:
    """Return -log p(tokens from `start` on | the tokens before them) of each sequence, in nats.

    The sequences are read as one: a beginning that several share stands there once, every token has the position that
    it has in its own sequence and sees its own beginning only, and last tokens are foretold without being read.
    """
    beginnings = {tuple(ids[:length]): None for ids in sequences for length in range(1, len(ids))}
    place = {beginning: number for number, beginning in enumerate(beginnings)}
    seen = torch.eye(len(place), dtype=torch.bool)
    for beginning, number in place.items():
        seen[number] |= seen[place.get(beginning[:-1], number)]
    bias = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)
    ids, position = (torch.tensor([values], device=model.device) for values in (
        [beginning[-1] for beginning in place], [len(beginning) - 1 for beginning in place]))
    with evaluating(model):
        logits = model(input_ids=ids, attention_mask=bias[None, None].to(model.device), position_ids=position,
                       use_cache=False).logits[0].float()
    steps = [(number, place[tuple(ids[:length])], ids[length])
             for number, ids in enumerate(sequences) for length in range(start, len(ids))]
    sequence, context, token = torch.tensor(steps, device=model.device).T
    losses = logits.logsumexp(-1)[context] - logits[context, token]
    return losses.new_zeros(len(sequences)).index_add(0, sequence, losses).tolist()
