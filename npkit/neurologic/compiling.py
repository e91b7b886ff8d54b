"""Compiling: from constraints and a vocabulary to the automaton, with the plans that keep its promise."""
import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from npkit.neurologic.automaton import FAR, Automaton, Counts, plain_counts
from npkit.neurologic.clauses import Clause, Constraints, checked, squeeze
from npkit.neurologic.trie import BAN, Tables, Trie, chains
from npkit.neurologic.vocabulary import BREAK, END, Vocabulary

SEPARATORS, FILLER = (",", ";", ".", " -", " "), "s"  # what may stand between phrases; what turns "text" into "texts"


@lru_cache(maxsize=256)
def compile_constraints(constraints: Constraints, vocabulary: Vocabulary) -> Automaton:
    """Return the automaton of a set of constraints over a vocabulary."""
    clauses = [clause for _, clause in checked(constraints).wanted]
    layout = lay_out(clauses)
    limited = sum(1 << bit for bit, slot in enumerate(layout) if slot.limited)
    trie = Trie(max(1, len(layout)), limited)
    for bit, slot in enumerate(layout):
        for phrase in slot.phrases:
            trie.add(phrase, bit)
    for phrase in (*map(squeeze, constraints.excluded), "  "):  # two spaces in a row would smuggle a banned phrase in
        trie.add(phrase)
    tables = trie.tables()
    proposals = propose([squeeze(literal.phrase) for clause in clauses for literal in clause], vocabulary)
    next_node, next_gains = read_proposals(tables, vocabulary.token_bytes[proposals].numpy())
    begins_with_break = (vocabulary.first_class[proposals] == BREAK).numpy()
    going, after_break, escape, ends = plans(layout, tables, next_node, next_gains, begins_with_break)
    done_there = ends & (not constraints.ordered)  # at once with the phrase before it
    restart = np.where(done_there | ~ends.any(1, keepdims=True), 0, after_break).max(0)  # behind any other phrase
    table = torch.from_numpy
    return Automaton(
        delta=table(tables.delta.take(tables.column, axis=1)), gains=table(tables.gains.take(tables.column, axis=1)),
        pending=table(tables.pending), progress=table(tables.progress).float(), next_node=table(next_node),
        next_gains=table(next_gains), going=table(going - restart), closing=table(after_break - restart),
        escape=table(escape), proposals=proposals[None], restart=table(restart)[None],
        weight=torch.zeros(1, len(restart)), full=torch.tensor([(1 << len(layout)) - 1]), root=torch.tensor([0]),
        exact=torch.zeros(0).short(), exact_base=torch.zeros_like(table(escape)), exact_sets=torch.zeros(1, 0).long(),
        ordered=torch.tensor([True]) if constraints.ordered else None,
        counts=count(clauses, layout, table(restart)) if any(clauses[slot.clause].counts for slot in layout) else None)


# 1. Bits -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Slot:
    """What a bit stands for: phrases of a clause, any of which sets it, wanted or limited."""
    clause: int
    phrases: tuple[str, ...]
    limited: bool = False


def lay_out(clauses: Sequence[Clause]) -> list[Slot]:
    """Return what each bit stands for: one bit a clause, or, of one that counts, one or two for each phrase."""
    layout = []
    for number, clause in enumerate(clauses):
        phrases = [squeeze(literal.phrase) for literal in clause]
        if not clause.counts:
            layout.append(Slot(number, tuple(phrases)))
        else:
            uses = [limited for limited, used in ((False, clause.min_count > 0), (True, clause.capped)) if used]
            layout += [Slot(number, (phrase,), limited) for limited in uses for phrase in phrases]
    return layout


def count(clauses: Sequence[Clause], layout: Sequence[Slot], restart: Tensor) -> Counts:
    """Return how the bits count; of equally cheap ones the lower is the cheaper."""
    of_clause = torch.tensor([[slot.clause == number for number in range(len(clauses))] for slot in layout]).float()
    limited = torch.tensor([[slot.limited] for slot in layout]).float()
    wanted = of_clause * (1 - limited)
    order = torch.arange(len(layout))
    cost = restart * len(layout) + order
    cheaper = (wanted @ wanted.T) * (cost[:, None] <= cost) + torch.diag(limited[:, 0])
    most = [clause.max_count if clause.capped else FAR for clause in clauses]
    return Counts(wanted=wanted[None], limited=(of_clause * limited)[None], cheaper=cheaper[None],
                  least=torch.tensor([[[float(clause.min_count) for clause in clauses]]]),
                  most=torch.tensor([[most]]).float())


# 2. Proposals --------------------------------------------------------------------------------------------------------
def propose(phrases: Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """Return the tokens that spell `phrases` (after a space or not, as given or in small letters), and separators."""
    spellings = [space + phrase for given in phrases for phrase in {given, given.lower()} for space in ("", " ")]
    token_ids = {token_id for text in (*spellings, *SEPARATORS, FILLER) for token_id in vocabulary.spell(text)}
    return torch.tensor(sorted(token_ids))


def read_proposals(tables: Tables, token_bytes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the node after every token (nodes, tokens) from every node, and the bits it sets.

    A token is read byte by byte only where its first byte goes on with a phrase (and from the base nodes); elsewhere it
    leads where it does from the node that this one falls back on, and sets what that sets and what is pending.
    """
    columns = tables.column[token_bytes[:, (token_bytes != END).any(0)]]
    first = columns[:, 0]
    walked = tables.inner[:, first]
    walked[:3] = True
    start, token = np.nonzero(walked)
    node, bits = start, np.zeros_like(start)
    for column in columns[token].T:
        place = node * tables.delta.shape[1] + column
        bits, node = bits | tables.gains.take(place), tables.delta.take(place)
    walk = np.full(walked.shape, -1)  # whose end is where the token leads
    walk[walked] = np.arange(len(start))
    for back in chains(tables.fail):
        np.copyto(walk, walk[back], where=walk < 0)
    return node.take(walk), bits.take(walk) | tables.gains.take(first, axis=1)


# 3. Plans ------------------------------------------------------------------------------------------------------------
def plans(layout: Sequence[Slot], tables: Tables, next_node: np.ndarray, next_gains: np.ndarray,
          begins_with_break: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the fewest proposals from each node to a phrase of each bit, (nodes, bits): with any one first, and with
    one that begins with a BREAK; the fewest (nodes,) until nothing banned or limited is pending; and where phrases end.

    On its way to a phrase a plan completes no limited one but that phrase itself: whatever was counted before, it
    can be followed.
    """
    bits = range(max(1, len(layout)))
    limited = sum(1 << bit for bit, slot in enumerate(layout) if slot.limited)
    pending, here = tables.pending, tables.pending | tables.closed
    clean, may_end, fresh = next_gains & BAN == 0, pending & BAN == 0, next_gains & ~pending[:, None]
    ends = (here[:, None] >> np.arange(len(bits)) & 1 == 1) & may_end[:, None]
    going, after_break = np.full((2, len(pending), len(bits)), FAR)
    free = [bit for bit in bits if not limited >> bit & 1 and not _limit_of(bit, layout)]
    lanes = [(free, limited)] + [([bit], limited & ~_limit_of(bit, layout)) for bit in bits
                                 if bit not in free and not limited >> bit & 1]
    for columns, barred in lanes:
        ends[:, columns] &= (here & barred == 0)[:, None]
        first = clean & (fresh & barred == 0)
        inside = first & (next_gains & ~fresh & limited == 0)
        goals = ends[:, columns]
        if columns is free:
            goals = np.column_stack([goals, may_end & (pending & limited == 0)])
        distance = distances(next_node, inside, goals)
        if columns is free:
            distance, escape = distance[:, :-1], distance[:, -1]
        going[:, columns] = distance
        after_break[:, columns] = onward(distance, next_node[:, begins_with_break], first[:, begins_with_break])
    return going, after_break, escape, ends & [not limited >> bit & 1 for bit in bits]


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


MAX_SETS = 16_384  # the exact table has a column for each set of bits


@lru_cache(maxsize=16)
def solve(automaton: Automaton) -> Automaton:
    """Return the automaton with `exact`, the fewest proposals that finish from each node with each set of bits.

    A plan writes every phrase on its own; here two may share words ("oil painting", "painting studio"). It takes up
    to seconds, not milliseconds, and is for sets that no plan fits into the tokens allowed. An automaton of more than
    `MAX_SETS` sets is returned as it is.
    """
    sets = possible_sets(automaton)
    if not sets:
        return automaton
    known = torch.tensor([sets])
    next_node, gained = automaton.next_node.numpy(), automaton.next_gains.numpy()
    nodes, width = next_node.shape
    does = np.stack([gained, automaton.pending.numpy()[:, None].repeat(width, 1)]).reshape(2, -1)
    _, examples, kind = np.unique(does, axis=1, return_index=True, return_inverse=True)  # of what a proposal does
    node, gains = torch.from_numpy(examples // width)[None], torch.from_numpy(gained.flatten()[examples])[None]
    kind, every_node = kind.reshape(nodes, width), torch.arange(nodes)[None]
    exact = np.full((len(sets) + 1, nodes), FAR)  # the last row is of what may not be done
    for bits in sorted(sets, key=int.bit_count, reverse=True):  # from a set the way leads to larger ones only
        met = automaton.gain(torch.full_like(node, bits), gains, node)
        row = torch.searchsorted(known, met).clamp(max=len(sets) - 1)
        lost = (gains & BAN != 0) | automaton.over(met) | (known.gather(1, row) != met)
        behind = exact[row.masked_fill(lost, len(sets))[0].numpy()[kind], next_node]
        at_end = automaton.at_end(torch.full_like(every_node, bits), every_node)
        goals = automaton.done(at_end) & (automaton.pending & BAN == 0)
        start = np.where(goals[0].numpy(), 0, np.minimum(FAR, 1 + behind.min(1)))
        stays = ((met == bits) & ~lost)[0].numpy()
        exact[bisect_left(sets, bits)] = settle(start, np.where(stays[kind], next_node, nodes))
    return replace(automaton, exact=torch.from_numpy(exact[:-1].T.flatten()).short(),
                   exact_base=torch.arange(nodes) * len(sets), exact_sets=known)


def settle(start: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the fewest tokens from each node (nodes,), which are those of `start` or one more than behind a step."""
    while True:
        shorter = np.minimum(start, 1 + np.append(start, FAR).take(steps).min(1))
        if (shorter == start).all():
            return start
        start = shorter


def possible_sets(automaton: Automaton) -> list[int]:
    """Return the sets of bits that texts have before they break a limit, in order; none where they are too many."""
    bits = automaton.restart.shape[1]
    if automaton.ordered is not None:
        return [(1 << number) - 1 for number in range(bits + 1)]
    counts = automaton.counts or plain_counts(bits)
    sets = [0]
    for wanted, limited, most in zip(counts.wanted[0].T, counts.limited[0].T, counts.most[0, 0].tolist()):
        wanted, limited = ([1 << bit for bit in each.nonzero().flatten().tolist()] for each in (wanted, limited))
        for sure, maybe in itertools.zip_longest(wanted, limited, fillvalue=0):  # what surely stands may stand
            sets = [found | state for found in sets for state in {0, maybe, maybe | sure}
                    if ((found | state) & sum(limited)).bit_count() <= most]
            if len(sets) > MAX_SETS:
                return []
    return sorted(sets)
