"""Reader: the model behind a beam search, run once on the prefixes and then one token a step, and asked what phrases
cost."""
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicLayer

from npkit.errors import NpkitError
from npkit.text.policy import batches, evaluating, pad

CONTEXT = ","  # what most phrases of a prompt stand behind
PHRASES_AT_ONCE = 64


# 1. One token a step -------------------------------------------------------------------------------------------------
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


# 2. Keys and values, allocated once: a reorder copies only what differs ----------------------------------------------
class BeamLayer(DynamicLayer):
    """One layer's keys and values (sentences * beams, heads, time, size), written in place."""

    def __init__(self, keys: Tensor, values: Tensor, beam_size: int, max_new_tokens: int):
        super().__init__()
        self.start = self.length = keys.shape[2]
        self.keys = self._room(keys, beam_size, max_new_tokens)
        self.values = self._room(values, beam_size, max_new_tokens)
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def _room(self, states: Tensor, beam_size: int, max_new_tokens: int) -> Tensor:
        rows, heads, time, size = states.shape
        room = states.new_empty(rows * beam_size, heads, time + max_new_tokens, size)
        room[:, :, :time] = states.repeat_interleave(beam_size, 0)
        return room

    def update(self, key_states: Tensor, value_states: Tensor, *args, **options) -> tuple[Tensor, Tensor]:
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length:end], self.values[:, :, self.length:end] = key_states, value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        return self.length

    def copy_rows(self, target: Tensor, source: Tensor, shared: int) -> None:
        """Give rows `target` what rows `source` wrote after their first `shared` new tokens."""
        for states in (self.keys, self.values):
            states[target, :, self.start + shared:self.length] = states[source, :, self.start + shared:self.length]

    def select_rows(self, parent: Tensor) -> None:
        """Give every row what row `parent` (rows,) wrote."""
        for states in (self.keys, self.values):
            new = states[:, :, self.start:self.length]
            new.copy_(new.index_select(0, parent))


class BeamCache(Cache):
    """The cache of a beam search: the prefix is computed once a sentence and shared by its beams."""

    def __init__(self, prefill: Cache, beam_size: int, max_new_tokens: int):
        super().__init__(layers=[BeamLayer(layer.keys, layer.values, beam_size, max_new_tokens)
                                 for layer in prefill.layers])
        rows, device = self.layers[0].keys.shape[0], self.layers[0].keys.device
        self.writer = torch.zeros(rows, max_new_tokens, dtype=torch.long, device=device)  # row that wrote each position
        self.rows = torch.arange(rows, device=device)

    @property
    def on_cpu(self) -> bool:
        return self.rows.device.type == "cpu"

    def reorder(self, parent: Tensor) -> None:
        """Make every row continue row `parent` (rows,)."""
        written = self.layers[0].length - self.layers[0].start
        if written and self.on_cpu:
            self._copy_what_differs(parent, written)
        elif written:
            for layer in self.layers:
                layer.select_rows(parent)
        if written < self.writer.shape[1]:
            self.writer[:, written] = self.rows

    def _copy_what_differs(self, parent: Tensor, written: int) -> None:
        """Copy rows that change only, from the first position with two writers on: up to it they agree.

        To know which these are would let an accelerator wait; there all new tokens of all rows are copied instead.
        """
        target = (parent != self.rows).nonzero().flatten()
        if not len(target):
            return
        source = parent[target]
        same = self.writer[source, :written] == self.writer[target, :written]
        shared = int(same.long().cumprod(1).sum(1).min())
        for layer in self.layers:
            layer.copy_rows(target, source, shared)
        self.writer[target, :written] = self.writer[source, :written]


# 3. What phrases cost ------------------------------------------------------------------------------------------------
def phrase_costs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 phrases: Collection[str]) -> dict[str, list[tuple[int, float]]]:
    """Return the tokens of each phrase behind a comma: id, and -log p(token | comma and the tokens before), in nats.

    The last one is of another comma behind the phrase.
    """
    context = tokenizer.encode(CONTEXT, add_special_tokens=False)
    costs = {}
    for batch in batches(sorted(set(phrases)), PHRASES_AT_ONCE):  # sorted: those that begin alike in one tree
        sequences = [context + tokenizer.encode(" " + phrase, add_special_tokens=False) + context[-1:]
                     for phrase in batch]
        losses = _losses(model, sequences, len(context))
        costs |= {phrase: list(zip(ids[len(context):], row)) for phrase, ids, row in zip(batch, sequences, losses)}
    return costs


def _losses(model: PreTrainedModel, sequences: Sequence[list[int]], start: int) -> list[list[float]]:
    """Return -log p(token | the tokens before it) of the tokens from `start` on of each sequence, in nats.

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
    steps = [(place[tuple(ids[:length])], ids[length]) for ids in sequences for length in range(start, len(ids))]
    context, token = torch.tensor(steps, device=model.device).T
    losses = iter((logits.logsumexp(-1)[context] - logits[context, token]).tolist())
    return [[next(losses) for _ in ids[start:]] for ids in sequences]
