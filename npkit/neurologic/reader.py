"""Reader: the model behind a beam search, run once on the prefixes and then one token a step."""
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicLayer

from npkit.errors import NpkitError
from npkit.neurologic.cache import BeamCache
from npkit.text.policy import pad


class Reader:
    """Runs a causal LM: once on the prefixes, then one token a step for each of the `rows` hypotheses of each."""

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel, prefix_ids: Sequence[list[int]], rows: int, max_new_tokens: int):
        self.model, self.rows = model, rows
        ids, mask = pad(prefix_ids, model, side="left")
        position = (mask.cumsum(1) - 1).clamp(min=0)
        padded = len(set(map(len, prefix_ids))) > 1
        output = model(input_ids=ids, attention_mask=mask if padded else None, position_ids=position, use_cache=True,
                       logits_to_keep=1)
        past = getattr(output, "past_key_values", None)
        if not all(isinstance(layer, DynamicLayer) for layer in getattr(past, "layers", [None])):
            raise no_keys_and_values(model)
        self.cache = BeamCache(past, self.rows, max_new_tokens)
        self.logits = output.logits[:, -1].repeat_interleave(self.rows, 0)  # (sentences * rows, tokens)
        self.position = position[:, -1:].repeat_interleave(self.rows, 0)
        self.bias = self._bias(mask, max_new_tokens) if padded or not self.cache.on_cpu else None

    def _bias(self, mask: Tensor, max_new_tokens: int) -> Tensor:
        """Return what attention adds for each position (sentences * rows, 1, 1, time): nothing, or far too little.

        Given a 2-D mask, or none, transformers would look into it, or into the tokens, at every step, and the host of
        an accelerator would wait. A CPU need not, and is faster with none.
        """
        seen = torch.cat([mask, mask.new_ones(len(mask), max_new_tokens)], 1).repeat_interleave(self.rows, 0)
        bias = torch.zeros(seen.shape, dtype=self.model.dtype, device=seen.device)
        return bias.masked_fill(~seen, torch.finfo(bias.dtype).min)[:, None, None]

    def logprobs(self) -> Tensor:
        """Return the log-probabilities of the next token, (sentences, rows, tokens)."""
        return self.logits.float().log_softmax(-1).view(-1, self.rows, self.logits.shape[-1])

    @torch.no_grad()
    def step(self, row: Tensor, token: Tensor) -> None:
        """Continue hypothesis `row` of each sentence by `token`, both (sentences, rows)."""
        sentence = torch.arange(len(row), device=row.device)[:, None]
        self.cache.reorder((row + sentence * self.rows).flatten())
        self.position = self.position + 1
        bias = None if self.bias is None else self.bias[..., :self.cache.get_seq_length() + 1]
        self.logits = self.model(input_ids=token.reshape(-1, 1), attention_mask=bias, position_ids=self.position,
                                 past_key_values=self.cache, use_cache=True).logits[:, -1]


def no_keys_and_values(model: PreTrainedModel) -> NpkitError:
    return NpkitError(f"{type(model).__name__} keeps no keys and values of past tokens; beam search here needs them, "
                      "as GPT-2, Llama or GPT-NeoX have them")
