"""Beam cache: keys and values of a beam search, allocated once; a reorder copies only what differs."""
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


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
