"""Automaton: wanted and banned phrases compiled to one machine over bytes, whose node says where a text stands."""
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from npkit.neurologic.trie import BAN
from npkit.neurologic.vocabulary import BREAK

FAR = 10_000  # more tokens than any completion has


class Movable:
    """A dataclass of tensors, or of tables of their own, that moves to a device as one."""

    def to(self, device: torch.device) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value if value is None else value.to(device) for name, value in values.items()})


@dataclass(frozen=True, eq=False)
class Counts(Movable):
    """Which bits are phrases of the same clause, and how many of them it takes.

    A phrase that is both wanted and limited has two bits: one is set where it surely stands, one where it may.
    """
    wanted: Tensor   # (examples, bits, clauses) 1.0 where the bit is a phrase that the clause wants
    limited: Tensor  # (examples, bits, clauses) 1.0 where it is one that the clause takes only so many of
    cheaper: Tensor  # (examples, bits, bits) 1.0 where the first bit is no dearer than the second, of the same clause
    least: Tensor    # (examples, 1, clauses)
    most: Tensor     # (examples, 1, clauses)


@dataclass(frozen=True, eq=False)
class Automaton(Movable):
    """The tables of one set of constraints, or (`stack`) of a batch of examples that share one space of nodes.

    Bits of `gains` and `pending` are what decoding must collect: one for each clause, or for each phrase of a clause
    that counts; BAN is a banned phrase. A *plan* collects what is missing, one phrase after another, in proposed
    tokens; `restart` is the length of its steps, `going` and `closing` what the first step takes more or less, from
    where the text stands: with any token next, or with one that begins with a BREAK.
    """
    delta: Tensor       # (nodes, 257) node after a byte
    gains: Tensor       # (nodes, 257) bits that reading a byte sets for good
    pending: Tensor     # (nodes,) bits that the end of the word would set
    progress: Tensor    # (nodes, bits) largest share written of a phrase
    next_node: Tensor   # (nodes, proposals) node after a proposed token
    next_gains: Tensor  # (nodes, proposals) bits it sets
    going: Tensor       # (nodes, bits)
    closing: Tensor     # (nodes, bits)
    escape: Tensor      # (nodes,) tokens until no phrase that is banned or limited is pending
    proposals: Tensor   # (examples, proposals) tokens worth trying: those of the phrases' spellings, and separators
    restart: Tensor     # (examples, bits)
    full: Tensor        # (examples,) all bits
    weight: Tensor      # (examples, bits) nats that writing a phrase of the bit is expected to cost; 0 until estimated
    root: Tensor        # (examples,) first of the nodes
    exact: Tensor       # (entries,) fewest tokens still needed, where that is known; elsewhere plans bound it
    exact_base: Tensor  # (nodes,) entry of the node with the first of its example's sets
    exact_sets: Tensor  # (examples, sets) the sets of bits for which it is known, in order; BAN: no more
    counts: Counts | None = None    # None: every clause is one bit
    ordered: Tensor | None = None   # (examples,) whether bits count from the lowest up only; None: no example

    # Bits ------------------------------------------------------------------------------------------------------------
    def members(self, bits: Tensor) -> Tensor:
        """Return the bits of bit sets: (...) -> (..., bits), True where the bit is in."""
        return (bits[..., None] >> torch.arange(self.restart.shape[1], device=bits.device)) & 1 == 1

    def gain(self, met: Tensor, bits: Tensor, node: Tensor) -> Tensor:
        """Return `met` with the bits set by a token read at `node`, all (examples, ...)."""
        if self.ordered is None:
            return met | bits & self.full[:, None]
        pending = self.pending[node]  # confirmed by the token's first byte, before anything else that it sets
        met = met | bits & pending & self._turn(met)
        return met | bits & ~pending & self._turn(met)

    def at_end(self, met: Tensor, node: Tensor) -> Tensor:
        """Return `met` with the bits that the end of the word at `node` sets, (examples, ...)."""
        return met | self.pending[node] & self._turn(met)

    def _turn(self, met: Tensor) -> Tensor:
        full = self.full[:, None]
        if self.ordered is None:
            return full
        unmet = full & ~met
        return torch.where(self.ordered[:, None], unmet & -unmet, full)

    # Clauses ---------------------------------------------------------------------------------------------------------
    def done(self, met: Tensor) -> Tensor:
        """Say for bit sets (examples, ...) whether they satisfy every clause."""
        if self.counts is None:
            return met == self.full[:, None]
        return (self._lacking(met) == 0).all(-1) & ~self.over(met)

    def over(self, met: Tensor) -> Tensor | bool:
        """Say for bit sets (examples, ...) whether a clause has, or with those it lacks will have, too many phrases."""
        if self.counts is None:
            return False
        return (self.members(met).float() @ self.counts.limited + self._lacking(met) > self.counts.most).any(-1)

    def _lacking(self, met: Tensor) -> Tensor:
        return (self.counts.least - self.members(met).float() @ self.counts.wanted).clamp(min=0)

    def num_met(self, met: Tensor) -> Tensor:
        """Return for bit sets (examples, ...) how many of the phrases needed they have."""
        members = self.members(met)
        if self.counts is None:
            return members.sum(-1)
        return torch.minimum(members.float() @ self.counts.wanted, self.counts.least).sum(-1).long()

    def owed(self, met: Tensor) -> Tensor:
        """Return the bits (examples, ..., bits) that a plan collects: of each clause the cheapest that it lacks."""
        unmet = self.members(self.full[:, None] & ~met)
        if self.counts is None:
            return unmet
        return unmet & (unmet.float() @ self.counts.cheaper <= self._lacking(met) @ self.counts.wanted.mT)

    # Plans -----------------------------------------------------------------------------------------------------------
    def assess(self, node: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for hypotheses (examples, ...), the tokens they still need and what the phrase in hand is worth, its
        weight by the share of it that is written.

        Whoever needs n > 0 tokens has a proposed token after which n - 1 or fewer are needed: keeping the need within
        the tokens that are left satisfies every clause, by construction.
        """
        at_end = self.at_end(met, node)
        owed_now, owed_at_end = self.owed(met), self.owed(at_end)
        closed_out = (self.pending[node] & BAN != 0) | self.over(at_end)
        closing = self._plan(owed_at_end, self.closing[node], at_end).masked_fill(closed_out, FAR)
        going = torch.where(owed_now.any(-1), self._plan(owed_now, self.going[node], met), self.escape[node])
        need = torch.minimum(closing, going)
        if self.counts is not None:
            need = need.masked_fill(self.over(met), FAR)
        if self.exact_sets.shape[1]:
            column = torch.searchsorted(self.exact_sets, met).clamp(max=self.exact_sets.shape[1] - 1)
            known = self.exact_sets.gather(1, column) == met
            need = torch.where(known, self.exact[torch.where(known, self.exact_base[node] + column, 0)], need)
        in_hand = self.progress[node] * self.weight[:, None]
        return need, in_hand.masked_fill(~owed_at_end, 0).amax(-1)

    def worth(self, met: Tensor) -> Tensor:
        """Return what the phrases needed that bit sets (examples, ...) have are worth, in nats."""
        members = self.members(met).float()
        if self.counts is None:
            return (members * self.weight[:, None]).sum(-1)
        wanted, least = self.counts.wanted, self.counts.least
        cheapest = torch.where(wanted > 0, self.weight[..., None], torch.inf).amin(1, keepdim=True)
        return (torch.minimum(members @ wanted, least) * cheapest.where(least > 0, 0)).sum(-1)

    def _plan(self, owed: Tensor, first: Tensor, met: Tensor) -> Tensor:
        steps = (self.restart[:, None] * owed).sum(-1)
        begun = owed if self.ordered is None else owed & self.members(self._turn(met))
        return torch.where(owed.any(-1), steps + first.masked_fill(~begun, FAR).amin(-1), 0)

    # Texts -----------------------------------------------------------------------------------------------------------
    def read(self, node: Tensor, token_bytes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the node after the bytes (..., length) and the bits they set."""
        bits = torch.zeros((), dtype=torch.long, device=node.device)
        for byte in token_bytes.unbind(-1):
            bits = bits | self.gains[node, byte]
            node = self.delta[node, byte]
        return node, bits

    def read_text(self, text: str) -> tuple[int, int]:
        """Return the node after `text` from its beginning, and the bits it sets; for one set of constraints."""
        delta, gains, full = self.delta.numpy(), self.gains.numpy(), int(self.full)
        node, met = BREAK, 0
        for byte in text.encode():
            unmet = full & ~met
            turn = full if self.ordered is None else unmet & -unmet
            met |= int(gains[node, byte]) & (turn | BAN)
            node = int(delta[node, byte])
        return node, met


def stack(automata: Sequence[Automaton], fill_token: int) -> Automaton:
    """Return one automaton for a batch: example i starts at `root[i]` and keeps its own clauses and proposals.

    Equal constraints share their nodes. Missing proposals are filled with `fill_token`, one that never scores.
    """
    distinct = list(dict.fromkeys(automata))
    which = torch.tensor([distinct.index(automaton) for automaton in automata])
    sizes = torch.tensor([len(automaton.delta) for automaton in distinct])
    roots = sizes.cumsum(0) - sizes
    bits = max(automaton.restart.shape[1] for automaton in distinct)
    width = max(automaton.proposals.shape[1] for automaton in distinct)
    sets = max(automaton.exact_sets.shape[1] for automaton in distinct)
    entries = torch.tensor([len(automaton.exact) for automaton in distinct])

    def joined(name: str, columns: int | None = None, fill: int = 0) -> Tensor:
        tables = [getattr(automaton, name) for automaton in distinct]
        return torch.cat([pad(table, (0, columns - table.shape[1]), value=fill) if columns else table
                          for table in tables])

    offset = roots.repeat_interleave(sizes)[:, None]
    in_order = torch.tensor([automaton.ordered is not None for automaton in automata])
    return Automaton(
        delta=joined("delta") + offset, next_node=joined("next_node", width) + offset, gains=joined("gains"),
        next_gains=joined("next_gains", width), pending=joined("pending"), progress=joined("progress", bits),
        going=joined("going", bits), closing=joined("closing", bits), escape=joined("escape"),
        proposals=joined("proposals", width, fill_token)[which], restart=joined("restart", bits)[which],
        full=joined("full")[which], weight=joined("weight", bits)[which], root=roots[which],
        exact=joined("exact"), exact_sets=joined("exact_sets", sets, BAN)[which],
        exact_base=joined("exact_base") + (entries.cumsum(0) - entries).repeat_interleave(sizes),
        counts=_stack_counts(distinct, bits, which), ordered=in_order if in_order.any() else None)


def _stack_counts(automata: Sequence[Automaton], bits: int, which: Tensor) -> Counts | None:
    """Return the counts of a batch, a clause that is one bit as a count of one; None where all are."""
    if all(automaton.counts is None for automaton in automata):
        return None
    found = [automaton.counts or plain_counts(int(automaton.full).bit_length()) for automaton in automata]
    clauses = max(counts.wanted.shape[2] for counts in found)

    def joined(name: str, *shape: int, fill: int = 0) -> Tensor:
        tables = [getattr(counts, name) for counts in found]
        return torch.cat([pad(table, (0, shape[1] - table.shape[2], 0, shape[0] - table.shape[1]), value=fill)
                          for table in tables])[which]

    return Counts(wanted=joined("wanted", bits, clauses), limited=joined("limited", bits, clauses),
                  cheaper=joined("cheaper", bits, bits), least=joined("least", 1, clauses),
                  most=joined("most", 1, clauses, fill=FAR))


def plain_counts(clauses: int) -> Counts:
    """Return the counts of clauses that are one bit each."""
    single, ones = torch.eye(clauses)[None], torch.ones(1, 1, clauses)
    return Counts(wanted=single, limited=0 * single, cheaper=single, least=ones, most=FAR * ones)
