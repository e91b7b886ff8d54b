"""Prices: what clauses cost a text in log-probability, beside the best text of as many tokens without any."""
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from npkit.neurologic import Constraints, Decoded, decode
from npkit.neurologic.reader import Reader
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import evaluating


def best_of_each_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
                        beam_size: int, max_new_tokens: int) -> np.ndarray:
    """Return the log-probability (prefixes, max_new_tokens) of the likeliest text of 1, 2 ... new tokens.

    The last token is EOS; at the limit, where decoding asks for none, any token. Found by a beam search of `beam_size`
    that knows no clauses and never ends early, so that a likelier text may exist.
    """
    eos, ids = tokenizer.eos_token_id, [tokenizer.encode(prefix, add_special_tokens=False) for prefix in prefixes]
    best, scores = [], torch.full((len(ids), beam_size), -torch.inf, device=model.device)
    scores[:, 0] = 0
    with evaluating(model):
        reader = Reader(model, ids, beam_size, max_new_tokens)
        for length in range(1, max_new_tokens + 1):
            totals = reader.logprobs() + scores[..., None]
            best.append(totals[..., eos].amax(1))
            totals[..., tokenizer.all_special_ids] = -torch.inf
            scores, chosen = totals.flatten(1).topk(beam_size)
            if length < max_new_tokens:
                reader.step(chosen // totals.shape[2], chosen % totals.shape[2])
    best[-1] = torch.maximum(best[-1], scores[:, 0])
    return torch.stack(best, 1).cpu().numpy()


def excess(found: Decoded, free: np.ndarray) -> float:
    """Return what a text loses against the best of as many tokens, in nats; `free` is its prefix's row of lengths."""
    return float(free[found.num_tokens - 1]) - found.logprob


def clause_prices(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefix: str, constraints: Constraints,
                  config: NeurologicConfig) -> list[tuple[float, float]]:
    """Return for each clause what is saved without it, in nats: as it is, and at equal length.

    The second one compares how far each of the two texts, with and without the clause, falls short of the best text of
    its own number of tokens, looked for by a beam eight times as wide.
    """
    wanted = constraints.wanted
    sets = [constraints, *(Constraints(wanted[:number] + wanted[number + 1:], constraints.excluded,
                                       constraints.ordered, constraints.own_parts) for number in range(len(wanted)))]
    whole, *others = decode(model, tokenizer, [prefix] * len(sets), sets, config)
    (free,) = best_of_each_length(model, tokenizer, [prefix], 8 * config.beam_size, config.max_new_tokens)
    return [(other.logprob - whole.logprob, excess(whole, free) - excess(other, free)) for other in others]
