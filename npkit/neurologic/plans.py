"""Plans: how many tokens are still needed? A bound that turns the wish for a phrase into a promise.

A *plan* writes what is missing, one phrase after another, in proposed tokens. Whoever needs n tokens has a proposed
token after which n - 1 or fewer are needed, so that a search that keeps the need within the tokens that are left
satisfies every clause, by construction.
"""
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from npkit.neurologic.constraints import Constraints, checked
from npkit.neurologic.goals import FAR, Goals, Slot, goals_of, lay_out, plain_counts, stack_goals
from npkit.neurologic.machine import BAN, Compiled, Machine, Movable, chains, compile_machine, joined, stack_machines
from npkit.neurologic.vocabulary import Vocabulary

MAX_SETS = 16_384  # sets of bits that `solve` takes: its table has an entry for each node with each of them
LAST_TOKENS = 6    # where no more are left, the need is exact, if that takes no more sets than this:
CHEAP_SETS = 64


# 1. The bound --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Plans(Movable):
    """How many tokens each phrase takes. `restart` counts those of a phrase that is begun anew; its first step from a
    given node takes more or fewer: `any_first` where any token may come next, `end_first` where the next one must begin
    with what ends a phrase.
    """
    any_first: Tensor   # (nodes, bits) difference to `restart`
    end_first: Tensor   # (nodes, bits) difference to `restart`
    escape: Tensor      # (nodes,) tokens until no phrase that is banned or limited is pending
    restart: Tensor     # (examples, bits)
    exact: Tensor       # (entries,) tokens of the shortest way, where it has been looked for; elsewhere FAR
    exact_base: Tensor  # (nodes,) entry of the node with the first of its example's sets
    exact_sets: Tensor  # (examples, sets) the sets of bits that `exact` knows, in order; BAN: no more

    def assess(self, goals: Goals, pending: Tensor, node: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for hypotheses (examples, ...), the tokens they still need, and the bits (..., bits) that they would
        owe at the end of the text."""
        at_end = goals.at_end(met, pending)
        owed, owed_at_end = goals.owed(met), goals.owed(at_end)
        end_first = self._plan(goals, owed_at_end, self.end_first[node], at_end)
        end_first = end_first.masked_fill((pending & BAN != 0) | goals.over(at_end), FAR)
        any_first = torch.where(owed.any(-1), self._plan(goals, owed, self.any_first[node], met), self.escape[node])
        if goals.counts is not None:  # a phrase that is limited already may still be pending as wanted
            any_first = any_first.masked_fill(goals.over(met), FAR)
        need = torch.minimum(end_first, any_first)
        if self.exact_sets.shape[1]:
            column = torch.searchsorted(self.exact_sets, met.contiguous()).clamp(max=self.exact_sets.shape[1] - 1)
            known = self.exact_sets.gather(1, column) == met
            exact = self.exact[torch.where(known, self.exact_base[node] + column, 0)]
            need = torch.where(known, torch.minimum(need, exact), need)
        return need, owed_at_end

    def _plan(self, goals: Goals, owed: Tensor, first: Tensor, met: Tensor) -> Tensor:
        steps = (self.restart[:, None] * owed).sum(-1)
        begun = goals.next_in_order(met, owed)
        return torch.where(owed.any(-1), steps + first.masked_fill(~begun, FAR).amin(-1), 0)


# 2. What is compiled from one set of constraints ---------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Progress(Movable):
    """How far phrases are written, measured in what a model expects them to cost (`weigh` in `decoding`)."""
    share: Tensor   # (nodes, bits) largest share written of a phrase of the bit; 0 until a model has been asked
    weight: Tensor  # (examples, bits) nats that writing a phrase of the bit is expected to cost; 0 until then

    def in_hand(self, node: Tensor, owed: Tensor) -> Tensor:
        """Return what the phrase in hand is worth, in nats: its weight by the share of it that is written."""
        return (self.share[node] * self.weight[:, None]).masked_fill(~owed, 0).amax(-1)


@dataclass(frozen=True, eq=False)
class Tracker(Movable):
    """All that follows a text under its constraints: where it stands, what holds, and what is still needed."""
    machine: Machine
    goals: Goals
    plans: Plans
    progress: Progress


class Template(NamedTuple):
    """A tracker as it was compiled, with what its estimates need to know."""
    tracker: Tracker
    compiled: Compiled
    layout: list[Slot]

    def wanted_phrases(self) -> list[str]:
        return [phrase for slot in self.layout if not slot.limited for phrase in slot.phrases]


@lru_cache(maxsize=256)
def compile_constraints(constraints: Constraints, vocabulary: Vocabulary) -> Template:
    """Return the tracker of a set of constraints over a vocabulary."""
    layout = lay_out(checked(constraints))
    wanted, limited = ([(bit, phrase) for bit, slot in enumerate(layout) if slot.limited == each
                        for phrase in slot.phrases] for each in (False, True))
    compiled = compile_machine(wanted, limited, constraints.excluded, constraints.own_parts, vocabulary)
    plans = plan_phrases(layout, compiled, constraints.ordered)
    goals = goals_of(constraints, layout, plans.restart[0])
    progress = Progress(torch.zeros(len(compiled.closed), len(goals.bit)), torch.zeros(1, len(goals.bit)))
    return Template(Tracker(compiled.machine, goals, plans, progress), compiled, layout)


def shares(compiled: Compiled, costs: Mapping[str, Sequence[tuple[int, float]]], num_bits: int,
           comma_cost: float = 0.0) -> Tensor:
    """Return the largest share of a phrase of each bit that is written at each node, (nodes, bits).

    `costs` has of each phrase, and of forms that cost something else, the number of bytes and the cost of every token:
    a phrase half of whose cost is paid is half written, however few letters that is. Counted in letters, a dear first
    token would never pay; and a dear comma before a part of its own would not either, were it not paid for as well.
    """
    share = np.zeros((len(compiled.wanted_fail), num_bits))
    for bit, phrase, form, path in compiled.phrase_nodes:
        size, cost = (np.cumsum([0, *values]) for values in zip(*costs[form if form in costs else phrase]))
        written = np.arange(1, len(path) + 1) + size[-1] - len(path)  # bytes of its tokens, which begin with a space
        begun = comma_cost / max(comma_cost + cost[-1], 1e-9)
        share[path, bit] = np.maximum(share[path, bit], _paid(written, size, cost, begun))
        spaced = _paid(1, size, cost, begun) if size[1] == 1 else begun  # of " 🔥" the space is a token, and a dear one
        behind = [begun, spaced][:len(compiled.comma_nodes)]  # a comma; a comma and a space
        share[compiled.comma_nodes, bit] = np.maximum(share[compiled.comma_nodes, bit], behind)
    for back in chains(compiled.wanted_fail):
        share = np.maximum(share, share[back])
    return torch.from_numpy(share[compiled.wanted_node]).float()


def _paid(num_bytes: np.ndarray | int, size: np.ndarray, cost: np.ndarray, begun: float) -> np.ndarray:
    """Return the share of what comma and phrase cost that is paid behind so many bytes of the phrase and its space.

    `size` and `cost` are those of its first 0, 1, 2 ... tokens, `begun` the share of the comma.
    """
    return begun + (1 - begun) * np.interp(num_bytes, size, cost / cost[-1] if cost[-1] > 0 else size / size[-1])


# 3. Plans from tables ------------------------------------------------------------------------------------------------
def plan_phrases(layout: Sequence[Slot], compiled: Compiled, ordered: bool) -> Plans:
    """Return the plans over a machine, none of them exact yet."""
    any_first, end_first, escape, ends = distances_to_phrases(layout, compiled)
    done_there = ends & (not ordered)  # at once with the phrase before it
    restart = np.where(done_there | ~ends.any(1, keepdims=True), 0, end_first).max(0)  # behind any other phrase
    table = torch.from_numpy
    first = (table(each - restart).int() for each in (any_first, end_first))  # `amin` is ten times slower on 64 bits
    return Plans(*first, escape=table(escape), restart=table(restart)[None], exact=torch.full((1,), FAR).short(),
                 exact_base=torch.zeros(len(any_first), dtype=torch.long), exact_sets=torch.zeros(1, 0).long())


def distances_to_phrases(layout: Sequence[Slot],
                         compiled: Compiled) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the fewest proposals from each node to a phrase of each bit, (nodes, bits): with any one first, and with
    one that ends a phrase first; the fewest (nodes,) until nothing banned or limited is pending; and where phrases end.

    On its way to a phrase a plan completes no limited one but that phrase itself: whatever was counted before, it
    can be followed.
    """
    next_node, next_gains, pending = (each.numpy() for each in (
        compiled.machine.next_node, compiled.machine.next_gains, compiled.machine.pending))
    bits, begins_with_end = range(max(1, len(layout))), compiled.ends_phrase
    limited = sum(1 << bit for bit, slot in enumerate(layout) if slot.limited)
    here = pending | compiled.closed
    clean, may_end, fresh = next_gains & BAN == 0, pending & BAN == 0, next_gains & ~pending[:, None]
    ends = (here[:, None] >> np.arange(len(bits)) & 1 == 1) & may_end[:, None]
    any_first, end_first = np.full((2, len(pending), len(bits)), FAR)
    free = [bit for bit in bits if not limited >> bit & 1 and not _limit_of(bit, layout)]
    lanes = [(free, limited)] + [([bit], limited & ~_limit_of(bit, layout)) for bit in bits
                                 if bit not in free and not limited >> bit & 1]
    for group, barred in lanes:
        ends[:, group] &= (here & barred == 0)[:, None]
        first = clean & (fresh & barred == 0)
        inside = first & (next_gains & ~fresh & limited == 0)
        goals = ends[:, group]
        if group is free:
            goals = np.column_stack([goals, may_end & (pending & limited == 0)])
        distance = distances(next_node, inside, goals)
        if group is free:
            distance, escape = distance[:, :-1], distance[:, -1]
        any_first[:, group] = distance
        end_first[:, group] = onward(distance, next_node[:, begins_with_end], first[:, begins_with_end])
    return any_first, end_first, escape, ends & [not limited >> bit & 1 for bit in bits]


def _limit_of(bit: int, layout: Sequence[Slot]) -> int:
    """Return the bit (as a set) that limits the phrase that `bit` counts; 0 where nothing does."""
    return sum(1 << other for other, slot in enumerate(layout) if bit < len(layout) and slot.limited
               and slot.clause == layout[bit].clause and slot.phrases == layout[bit].phrases)


def onward(distance: np.ndarray, next_node: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return 1 + the smallest distance (nodes, goals) behind any allowed proposal (nodes, proposals); at most FAR."""
    steps = np.where(allowed, next_node, len(next_node))  # the last node is where no step may lead
    reached = np.pad(distance, ((0, 1), (0, 0)), constant_values=FAR).T.take(steps, axis=1)
    return np.minimum(FAR, 1 + reached.min(2, initial=FAR)).T


def distances(next_node: np.ndarray, allowed: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Return the fewest allowed proposals from each node to each goal, (nodes, goals); FAR where none leads there.

    Round after round one token further back, the goals that a node reaches being the bits of one integer.
    """
    steps = np.where(allowed, next_node, len(next_node))
    distance, place = np.where(goals, 0, FAR), 1 << np.arange(goals.shape[1])
    reached = np.append(goals @ place, 0)
    for length in itertools.count(1):
        behind = np.bitwise_or.reduce(reached.take(steps), axis=1)
        new = behind & ~reached[:-1]
        if not new.any():
            return distance
        distance[new[:, None] & place != 0] = length
        reached[:-1] |= new


# 4. Exact need -------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def solved(tracker: Tracker, longest: int, max_sets: int = MAX_SETS) -> Tracker:
    """Return the tracker with `exact`, the fewest proposals that finish from each node with each set of bits.

    A plan writes every phrase on its own and takes detours on the safe side; here two phrases may share words. Ways of
    up to `longest` tokens are the shortest. Where texts have more than `max_sets` sets of bits, the tracker is returned
    as it is.
    """
    machine, goals, plans = tracker.machine, tracker.goals, tracker.plans
    nodes = len(machine.pending)
    sets = possible_sets(goals, max_sets)
    if not sets:
        return tracker
    known = torch.tensor([sets])
    next_node, gained = successors(machine)
    pending = machine.pending.numpy()
    does = np.stack([gained, np.broadcast_to(pending[:, None], gained.shape)]).reshape(2, -1)
    kinds, kind = np.unique(does, axis=1, return_inverse=True)  # of what a proposal does
    gains, before = torch.from_numpy(kinds)[:, None]
    kind = kind.reshape(gained.shape)
    exact = np.full((len(sets) + 1, nodes + 1), FAR)  # the last row is of what may not be done
    place = {bits: number for number, bits in enumerate(sets)}
    for bits in sorted(sets, key=int.bit_count, reverse=True):  # from a set the way leads to larger ones only
        met = goals.gain(torch.full_like(gains, bits), gains, before)
        row = torch.searchsorted(known, met).clamp(max=len(sets) - 1)
        lost = (gains & BAN != 0) | (known.gather(1, row) != met)
        behind = exact[row.masked_fill(lost, len(sets))[0].numpy()[kind], next_node]
        at_end = goals.at_end(torch.full((1, nodes), bits), machine.pending[None])
        ended = goals.done(at_end)[0].numpy() & (pending & BAN == 0)
        start = np.where(ended, 0, np.minimum(FAR, 1 + behind.min(1)))
        stays = ((met == bits) & ~lost)[0].numpy()
        exact[place[bits], :-1] = settle(start, np.where(stays[kind], next_node, nodes), longest)
    table = torch.from_numpy(exact[:-1, :-1].T.flatten()).short()
    return replace(tracker, plans=replace(plans, exact=table, exact_base=torch.arange(nodes) * len(sets),
                                          exact_sets=known))


def successors(machine: Machine) -> tuple[np.ndarray, np.ndarray]:
    """Return the different nodes that proposals lead to from each node, and the bits set on the way, (nodes, ways).

    Most proposals begin no phrase and lead to the same few nodes. Rows are filled up with what sets BAN.
    """
    next_node, gains = machine.next_node.numpy(), machine.next_gains.numpy()
    different, number = np.unique(gains, return_inverse=True)
    code = np.sort(next_node * len(different) + number.reshape(gains.shape), axis=1)
    new = np.diff(code, axis=1, prepend=-1) != 0
    order = (~new).argsort(axis=1, kind="stable")[:, :new.sum(1).max()]
    code, new = (np.take_along_axis(each, order, 1) for each in (code, new))
    return np.where(new, code // len(different), len(next_node)), np.where(new, different[code % len(different)], BAN)


def settle(start: np.ndarray, steps: np.ndarray, longest: int) -> np.ndarray:
    """Return the fewest tokens from each node (nodes,), which are those of `start` or one more than behind a step."""
    for _ in range(longest):
        shorter = np.minimum(start, 1 + np.append(start, FAR).take(steps).min(1))
        if (shorter == start).all():
            break
        start = shorter
    return start


def possible_sets(goals: Goals, most_sets: int) -> list[int]:
    """Return the sets of bits that texts have before they break a limit, in order; none where they are too many."""
    bits = int(goals.full).bit_length()
    if goals.ordered is not None:
        return [(1 << number) - 1 for number in range(bits + 1)]
    counts = goals.counts or plain_counts(bits)
    sets = [0]
    for wanted, limited, most in zip(counts.wanted[0].T, counts.limited[0].T, counts.most[0, 0].tolist()):
        wanted, limited = ([1 << bit for bit in each.nonzero().flatten().tolist()] for each in (wanted, limited))
        for sure, maybe in itertools.zip_longest(wanted, limited, fillvalue=0):  # what surely stands may stand
            sets = [found | state for found in sets for state in {0, maybe, maybe | sure}
                    if ((found | state) & sum(limited)).bit_count() <= most]
            if len(sets) > most_sets:
                return []
    return sorted(sets)


# 5. Batches ----------------------------------------------------------------------------------------------------------
def stack(trackers: Sequence[Tracker], fill_token: int) -> Tracker:
    """Return one tracker for a batch: example i starts at `machine.root[i]` and keeps its own clauses and proposals.

    Equal constraints share their nodes.
    """
    distinct = list(dict.fromkeys(trackers))
    which = torch.tensor([distinct.index(tracker) for tracker in trackers])
    goals = stack_goals([each.goals for each in distinct], which)
    bits = len(goals.bit)
    progress = [each.progress for each in distinct]
    return Tracker(
        stack_machines([each.machine for each in distinct], which, fill_token), goals,
        stack_plans([each.plans for each in distinct], bits, which),
        Progress(joined(progress, "share", bits), joined(progress, "weight", bits)[which]))


def stack_plans(plans: Sequence[Plans], bits: int, which: Tensor) -> Plans:
    """Return the plans of a batch; those without exact needs have sets that no hypothesis has."""
    entries = torch.tensor([len(each.exact) for each in plans])
    nodes = torch.tensor([len(each.escape) for each in plans])
    sets = max(each.exact_sets.shape[1] for each in plans)
    return Plans(
        any_first=joined(plans, "any_first", bits), end_first=joined(plans, "end_first", bits),
        escape=joined(plans, "escape"),
        restart=joined(plans, "restart", bits)[which], exact=joined(plans, "exact"),
        exact_base=joined(plans, "exact_base") + (entries.cumsum(0) - entries).repeat_interleave(nodes),
        exact_sets=joined(plans, "exact_sets", sets, fill=BAN)[which])
