"""Machine: where does the text stand? Phrases compiled to one automaton over bytes, whose node a text leads to.

Two automata of Aho and Corasick (1975) read every byte side by side, and a node of the machine is a pair of theirs:

* the *wanted* one knows phrases in the spellings that may be written (`written_forms`). Where phrases are parts of
  their own, each begins behind a comma and a space, and counts when a comma, or the end, follows;
* the *avoided* one knows banned and limited phrases in any case, as whole words wherever they stand.

Were they one, a banned "dark ART" would share its nodes with a wanted "art", and "dARk" would count as written. Both
know UTF-8: bytes that are no character are banned as a phrase is, and half a character is pending until it is whole.
"""
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from npkit.neurologic.constraints import COMMAS, has_boundary, squeeze
from npkit.neurologic.vocabulary import (
    BREAK,
    BYTE_CLASS,
    END,
    FOREIGN,
    HALF_A_CHARACTER,
    KIND,
    KINDS,
    NO_CHARACTER,
    UTF8,
    WORD,
    Vocabulary,
    no_letters,
    short_forms,
    smugglers,
    spellings,
    written_forms,
)

BAN = 1 << 62   # the bit of what is never written: a banned phrase, bytes that are no character
HALF = 1 << 61  # the bit of half a character, pending together with BAN; wanted and limited phrases have those below
COMMA = ord(",")
START, IN_WORD = 0, 1  # nodes: nothing read yet; inside a word that begins no phrase
SEPARATORS, FILLER = (",", ";", ".", " -", " "), "s"  # what may stand between phrases; what turns "text" into "texts"
SMALL_VOCABULARY = 64  # of so few tokens all are proposed
LAST_BYTES = (b"\xbf", b"\x80")  # one or the other completes any half of a character
STATE_AFTER = UTF8.tolist()  # read byte by byte faster than an array


class Movable:
    """A dataclass of tensors, or of tables of their own, that moves to a device as one."""

    def to(self, device: torch.device) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value if value is None else value.to(device) for name, value in values.items()})


# 1. The machine ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Machine(Movable):
    """The tables of one set of constraints, or (`stack_machines`) of a batch that shares one space of nodes.

    Bits of `gains` and `pending` say what has been written: one for each clause, or for each phrase of a clause that
    counts (`goals`); BAN is a banned phrase.
    """
    delta: Tensor       # (nodes, 257) node after a byte
    gains: Tensor       # (nodes, 257) bits that reading a byte sets for good
    pending: Tensor     # (nodes,) bits that the end of the text, or what ends a phrase, would set
    next_node: Tensor   # (nodes, proposals) node after a proposed token
    next_gains: Tensor  # (nodes, proposals) bits it sets
    proposals: Tensor   # (examples, proposals) tokens worth trying: those of the phrases' spellings, and separators
    root: Tensor        # (examples,) first of the nodes

    def read(self, node: Tensor, token_bytes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the node after the bytes (..., length) and the bits they set."""
        bits = torch.zeros((), dtype=torch.long, device=node.device)
        for byte in token_bytes.unbind(-1):
            bits = bits | self.gains[node, byte]
            node = self.delta[node, byte]
        return node, bits

    def read_text(self, text: str) -> tuple[int, int]:
        """Return the node after `text` from its beginning, and the bits it sets; for one set of constraints."""
        delta, gains = self.delta.numpy(), self.gains.numpy()
        node, bits = START, 0
        for byte in text.encode():
            bits |= int(gains[node, byte])
            node = int(delta[node, byte])
        return node, bits


class Compiled(NamedTuple):
    """A machine as it was built: with what `plans` needs to know of its nodes."""
    machine: Machine
    closed: np.ndarray         # (nodes,) bits of phrases that end here whatever follows
    ends_phrase: np.ndarray    # (proposals,) whether a token begins with what ends a phrase: a comma, or any BREAK
    phrase_nodes: list[tuple[int, str, str, list[int]]]  # bit, phrase, form, and the wanted automaton's nodes after
                               # each byte of the form
    comma_nodes: list[int]     # nodes of the wanted automaton where a part begins; none where phrases are mere words
    wanted_node: np.ndarray    # (nodes,) node of the wanted automaton
    wanted_fail: np.ndarray    # (wanted nodes,) its failure links


def compile_machine(wanted: Sequence[tuple[int, str]], limited: Sequence[tuple[int, str]], excluded: Sequence[str],
                    own_parts: bool, vocabulary: Vocabulary) -> Compiled:
    """Return the machine of phrases with the bits they set, and of phrases to avoid."""
    phrases = [squeeze(phrase) for _, phrase in (*wanted, *limited)]
    wanted_trie, avoided_trie, phrase_nodes = Trie(), Trie(), []
    begins = wanted_trie.begin_parts() if own_parts else []
    for bit, phrase in wanted:
        for form in written_forms(phrase):
            phrase_nodes.append((bit, phrase, form, wanted_trie.add_wanted(form, 1 << bit, begins)))
    for bit, phrase in limited:
        for ending in no_letters(phrases):
            avoided_trie.add_avoided(squeeze(phrase) + ending, 1 << bit)
    ascii_commas = [re.sub(f"[{COMMAS}]", ",", phrase) for phrase in excluded]  # as the prefix's commas are read
    banned = [squeeze(phrase) + ending for phrase in {*excluded, *ascii_commas} for ending in no_letters(phrases)]
    for phrase in (*banned, *smugglers(phrases, bool(excluded or limited))):
        avoided_trie.add_avoided(phrase, BAN)
    used = np.unique([edge % 256 for trie in (wanted_trie, avoided_trie) for edge in trie.edges] + [COMMA])
    column, byte_of = columns(used)
    classes = np.append(BYTE_CLASS, END)[byte_of]
    is_end = byte_of == COMMA if own_parts else classes == BREAK
    both = well_spaced(wanted_trie.tables(column, byte_of, is_end), begins, column), \
        avoided_trie.tables(column, byte_of, (classes == BREAK) | (classes == FOREIGN))
    proposals = propose(phrases, vocabulary)
    token_bytes = vocabulary.token_bytes[proposals].numpy()
    start = begins[1] if own_parts else BREAK  # the beginning is as good as ", "
    machine, pairs = product(both, (start, BREAK), column, token_bytes)
    closed = both[0].closed[pairs[0]] | both[1].closed[pairs[1]]
    return Compiled(replace(machine, proposals=proposals[None]), closed, is_end[column[token_bytes[:, 0]]],
                    phrase_nodes, begins if wanted else [], pairs[0], both[0].fail)


def propose(phrases: Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """Return the tokens that spell `phrases` (after a space or not, in small letters or a short form), and separators.

    Then those that complete a character that is none of theirs, lest whoever has begun one be lost.
    """
    writable = (~vocabulary.never).nonzero().flatten()
    if len(writable) <= SMALL_VOCABULARY:
        return writable
    spellings = [space + phrase for given in phrases
                 for phrase in {given.lower(), *short_forms(given, vocabulary)} for space in ("", " ")]
    token_ids = {token_id for text in (*spellings, *SEPARATORS, FILLER) for token_id in vocabulary.spell(text)}
    last_bytes = {vocabulary.ids[byte] for byte in LAST_BYTES if byte in vocabulary.ids}
    return torch.tensor(sorted(token_ids | last_bytes))


# 2. Phrases as paths of bytes ----------------------------------------------------------------------------------------
class Tables(NamedTuple):
    """One automaton over bytes, as arrays; bytes in no phrase that UTF-8 does not tell apart share a column."""
    delta: np.ndarray    # (nodes, columns) node after a byte
    gains: np.ndarray    # (nodes, columns) bits that reading a byte sets for good
    pending: np.ndarray  # (nodes,) bits that what ends a phrase would set
    closed: np.ndarray   # (nodes,) bits of phrases that end here whatever follows
    fail: np.ndarray     # (nodes,) the longest other phrase that may have begun
    inner: np.ndarray    # (nodes, columns) True where a byte goes on with a phrase; elsewhere the node reads as `fail`


class Trie:
    """Phrases as paths of bytes from the base nodes; `tables` adds the failure links (Aho and Corasick, 1975).

    The first nodes are the states of UTF8. They have no phrase begun and tell the last byte's class, or which bytes may
    complete the character that is begun.
    """

    def __init__(self):
        self.edges: dict[int, int] = {}  # node * 256 + byte -> node after the byte; the base nodes are there
        self.state = list(range(len(UTF8)))  # of UTF8, where the node's text leads alone
        self.pending, self.closed = [0] * len(UTF8), [0] * len(UTF8)
        self.depth = [WORD, FOREIGN, BREAK, *[WORD] * (len(UTF8) - HALF_A_CHARACTER)]  # 3 a byte, and the base node:

    def begin_parts(self) -> list[int]:
        """Return the nodes behind a comma, and behind the space that follows it: there a part of its own begins."""
        comma = self._byte(WORD, COMMA)
        space = self._byte(comma, ord(" "))
        self.edges[space * 256 + ord(" ")] = space  # and so it does where a prefix begins with a space
        return [comma, space]

    def add_wanted(self, phrase: str, flag: int, part_begins: Sequence[int]) -> list[int]:
        """Add a phrase in exactly this spelling, as a part of its own or (no `part_begins`) as words; return the node
        after each of its bytes.
        """
        node = part_begins[1] if part_begins else BREAK if has_boundary(phrase[0]) else WORD
        path = []
        for byte in phrase.encode():
            node = self._byte(node, byte)
            path.append(node)
        if part_begins:
            self.edges[part_begins[0] * 256 + phrase.encode()[0]] = path[0]  # ",phrase" of a prefix is a part as well
            self.pending[self._byte(node, ord(" "))] |= flag                 # and so is ", phrase ,"
        ends = self.pending if part_begins or has_boundary(phrase[-1]) else self.closed
        ends[node] |= flag
        return path

    def add_avoided(self, phrase: str, flag: int) -> None:
        """Add a phrase in any case. It begins and ends beside what is no letter, or may be none, as "城"."""
        node = FOREIGN if has_boundary(phrase[0]) else WORD
        for char in phrase:
            node = self._any_case(node, char)
        ends = self.pending if has_boundary(phrase[-1]) else self.closed
        ends[node] |= flag

    def _any_case(self, node: int, char: str) -> int:
        """Return the node after `char`; all its spellings lead to the same one."""
        last, after = [], 0
        for spelling in spellings(char):
            inner = node
            for byte in spelling[:-1]:
                inner = self._byte(inner, byte)
            last.append(inner * 256 + spelling[-1])
            after = after or self.edges.get(last[-1], 0)
        after = after or self._byte(*divmod(last[0], 256))
        self.edges.update(dict.fromkeys(last, after))
        return after

    def _byte(self, node: int, byte: int) -> int:
        edge = node * 256 + byte
        if edge not in self.edges:
            self.edges[edge] = len(self.depth)
            self.depth.append(self.depth[node] + 3)  # so that a failure link leads to a smaller one
            self.state.append(STATE_AFTER[self.state[node]][byte])
            self.pending.append(0)
            self.closed.append(0)
        return self.edges[edge]

    def tables(self, column: np.ndarray, byte_of: np.ndarray, is_end: np.ndarray) -> Tables:
        """Return the automaton of the trie, over the columns of bytes; `is_end` (columns,) ends a pending phrase."""
        start, byte = np.divmod(np.fromiter(self.edges, np.int64), 256)
        delta = np.full((len(self.depth), len(byte_of)), -1)
        delta[start, column[byte]] = np.fromiter(self.edges.values(), np.int64)
        inner, state = delta >= 0, np.array(self.state)
        pending, closed, fail = np.array(self.pending), np.array(self.closed), np.array(self._failures())
        for back in chains(fail):
            delta = np.where(delta < 0, delta[back], delta)
            pending |= pending[back]
            closed |= closed[back]
        utf8 = UTF8[:, byte_of][state]
        broken = utf8 == NO_CHARACTER
        delta = np.where(broken, FOREIGN, np.where(delta < 0, utf8, delta))
        gains = closed[delta] | np.where(is_end, pending[:, None], 0)
        gains[broken] |= BAN
        delta[:, -1], gains[:, -1] = np.arange(len(delta)), 0  # END stays where it is and sets nothing
        pending |= np.where(state >= HALF_A_CHARACTER, BAN | HALF, 0)
        return Tables(delta, gains, pending, closed, fail, inner)

    def _failures(self) -> list[int]:
        """Return for each node that of the longest other beginning of a phrase that its text ends with."""
        fail = [WORD] * len(UTF8) + [-1] * (len(self.depth) - len(UTF8))
        fail[BREAK] = FOREIGN
        for edge in sorted(self.edges, key=lambda edge: self.depth[edge // 256]):
            node, byte = divmod(edge, 256)
            if fail[self.edges[edge]] >= 0:  # known from a shorter spelling: "k", and not the Kelvin sign
                continue
            back = fail[node]
            while back != WORD and back * 256 + byte not in self.edges:
                back = fail[back]
            longest = None if node == WORD else self.edges.get(back * 256 + byte)
            fail[self.edges[edge]] = self.state[self.edges[edge]] if longest is None else longest
        return fail


def well_spaced(tables: Tables, part_begins: Sequence[int], column: np.ndarray) -> Tables:
    """Return the tables of a text in which a space follows each comma, and no comma that: BAN is set elsewhere.

    A comma inside a phrase is written as it is given. What a prefix has is read all the same.
    """
    if not part_begins:
        return tables
    behind = np.zeros((len(tables.fail), 2), dtype=bool)  # a comma; a comma and a space
    behind[part_begins, [0, 1]] = True
    for back in chains(tables.fail):
        behind |= behind[back]
    columns = np.arange(tables.gains.shape[1] - 1)  # without END
    is_comma, is_space = (columns == column[ord(char)] for char in ", ")
    begins = np.arange(len(behind))[:, None] == part_begins[0]
    wrong = behind[:, :1] & ~is_space & (begins | ~tables.inner[:, :-1]) | behind[:, 1:] & is_comma
    gains = tables.gains.copy()
    gains[:, :-1] |= np.where(wrong, BAN, 0)
    return tables._replace(gains=gains)


def chains(fail: np.ndarray) -> Iterator[np.ndarray]:
    """Yield where each node leads by 1, 2, 4 ... failure links, to the last: WORD.

    What nodes inherit from the nearest that has it, or collect from all, is found in as many rounds.
    """
    while fail.any():
        yield fail
        fail = fail[fail]
    yield fail


def columns(used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the column of every byte and of END (257,), and a byte of every column: one of each kind that UTF-8 tells
    apart, `used`, and END."""
    byte_of = np.array([*KINDS, *used, END])
    column = np.array([*KIND, len(byte_of) - 1])
    column[used] = range(len(KINDS), len(byte_of) - 1)
    return column, byte_of


# 3. Two automata as one ----------------------------------------------------------------------------------------------
def product(both: tuple[Tables, Tables], start: tuple[int, int], column: np.ndarray,
            token_bytes: np.ndarray) -> tuple[Machine, tuple[np.ndarray, np.ndarray]]:
    """Return the machine of the pairs of nodes that texts lead to, and the pairs, without proposals."""
    wanted, avoided = both
    size = len(avoided.delta)
    codes, number = reachable(both, [start[0] * size + start[1], WORD * size + WORD])
    first, second = np.divmod(codes, size)

    def paired(of_wanted: np.ndarray, of_avoided: np.ndarray) -> np.ndarray:
        return number.take(of_wanted[first] * size + of_avoided[second])

    (wanted_next, wanted_bits), (avoided_next, avoided_bits) = (
        read_tokens(tables, column[token_bytes[:, (token_bytes != END).any(0)]]) for tables in both)
    table = torch.from_numpy
    machine = Machine(
        delta=table(paired(wanted.delta, avoided.delta).take(column, axis=1)),
        gains=table((wanted.gains[first] | avoided.gains[second]).take(column, axis=1)),
        pending=table(wanted.pending[first] | avoided.pending[second]),
        next_node=table(paired(wanted_next, avoided_next)),
        next_gains=table(wanted_bits[first] | avoided_bits[second]),
        proposals=torch.zeros(1, len(token_bytes), dtype=torch.long), root=torch.tensor([0]))
    return machine, (first, second)


def reachable(both: tuple[Tables, Tables], starts: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes (wanted node * avoided nodes + avoided node) that bytes lead to from `starts`, in the order of
    their numbers, and the number of each code."""
    wanted, avoided = both
    size = len(avoided.delta)
    number = np.full(len(wanted.delta) * size, -1)
    new, codes = np.array(list(starts)), []
    while len(new):
        number[new] = np.arange(len(new)) + sum(map(len, codes))
        codes.append(new)
        after = wanted.delta[new // size] * size + avoided.delta[new % size]
        new = np.unique(after[number[after] < 0])
    return np.concatenate(codes), number


def read_tokens(tables: Tables, token_columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the node after every token (nodes, tokens) from every node, and the bits it sets.

    A token is read byte by byte only where its first byte goes on with a phrase (and from the base nodes); elsewhere it
    leads where it does from the node that this one falls back on, and sets what that sets and what is pending.
    """
    first = token_columns[:, 0]
    walked = tables.inner[:, first]
    walked[:len(UTF8)] = True
    start, token = np.nonzero(walked)
    node, bits = start, np.zeros_like(start)
    for column in token_columns[token].T:
        place = node * tables.delta.shape[1] + column
        bits, node = bits | tables.gains.take(place), tables.delta.take(place)
    walk = np.full(walked.shape, -1)  # whose end is where the token leads
    walk[walked] = np.arange(len(start))
    for back in chains(tables.fail):
        np.copyto(walk, walk[back], where=walk < 0)
    return node.take(walk), bits.take(walk) | tables.gains.take(first, axis=1)


# 4. Batches ----------------------------------------------------------------------------------------------------------
def stack_machines(machines: Sequence[Machine], which: Tensor, fill_token: int) -> Machine:
    """Return one machine for a batch: example i is `machines[which[i]]` and starts at its `root[i]`.

    Missing proposals are filled with `fill_token`, one that never scores.
    """
    sizes = torch.tensor([len(machine.delta) for machine in machines])
    roots = sizes.cumsum(0) - sizes
    offset = roots.repeat_interleave(sizes)[:, None]
    width = max(machine.proposals.shape[1] for machine in machines)
    return Machine(
        delta=joined(machines, "delta") + offset, gains=joined(machines, "gains"),
        pending=joined(machines, "pending"), next_node=joined(machines, "next_node", width) + offset,
        next_gains=joined(machines, "next_gains", width),
        proposals=joined(machines, "proposals", width, fill=fill_token)[which], root=roots[which])


def joined(tables: Sequence[Movable], name: str, *shape: int, fill: int = 0) -> Tensor:
    """Return one table of all, on top of each other; the last dimensions are filled up to `shape`."""
    parts = [getattr(each, name) for each in tables]
    return torch.cat([pad(part, [side for size, have in zip(reversed(shape), reversed(part.shape))
                                 for side in (0, size - have)], value=fill) if shape else part for part in parts])
