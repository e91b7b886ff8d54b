"""Trie: wanted and banned phrases as paths of bytes, and the tables of the Aho-Corasick automaton over them."""
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from npkit.neurologic.clauses import has_boundary
from npkit.neurologic.vocabulary import BREAK, BYTE_CLASS, END, FOREIGN, WORD

BAN = 1 << 62  # the bit of a banned phrase; wanted ones have those below

# Nodes WORD, FOREIGN and BREAK have no phrase begun and tell the last byte's class; at the start stands a BREAK.


class Trie:
    """Phrases as paths of bytes from the base nodes; `tables` adds the failure links (Aho and Corasick, 1975).

    A wanted phrase begins after a BREAK only, and counts when a BREAK byte or the end of the text follows. A banned
    or limited one begins and ends at any byte but an ASCII word byte. Beside a letter like "é" all are on the safe
    side.
    """

    def __init__(self, num_bits: int, limited: int):
        self.num_bits, self.avoided = num_bits, BAN | limited
        self.edges: dict[int, int] = {}  # node * 256 + byte -> node after the byte; the base nodes are there
        self.pending, self.closed = [0] * 3, [0] * 3        # bits of phrases that end here: with the word; in any case
        self.depth = [WORD, FOREIGN, BREAK]  # 3 a byte, and the base node: a failure link leads to a smaller one
        self.shares: dict[tuple[int, int], float] = {}  # node, bit -> largest share written of a phrase of it

    def add(self, phrase: str, bit: int | None = None) -> None:
        """Add a phrase that sets `bit`, or (None) a banned one."""
        flag = BAN if bit is None else 1 << bit
        node = WORD if not has_boundary(phrase[0]) else FOREIGN if flag & self.avoided else BREAK
        for written, char in enumerate(phrase, 1):
            node = self._step(node, char)
            if not flag & self.avoided:
                self.shares[node, bit] = max(self.shares.get((node, bit), 0.0), written / len(phrase))
        ends = self.pending if has_boundary(phrase[-1]) else self.closed
        ends[node] |= flag

    def _step(self, node: int, char: str) -> int:
        """Return the node after `char`; its small and its capital spelling lead to the same one."""
        last, after = [], 0
        for spelling in spellings(char):
            inner = node
            for byte in spelling[:-1]:
                inner = self.edges.get(inner * 256 + byte) or self._grow(inner * 256 + byte)
            edge = inner * 256 + spelling[-1]
            last.append(edge)
            after = after or self.edges.get(edge)
        after = after or self._grow(last[0])
        for edge in last:
            self.edges[edge] = after
        return after

    def _grow(self, edge: int) -> int:
        node = self.edges[edge] = len(self.depth)
        self.depth.append(self.depth[edge // 256] + 3)
        self.pending.append(0)
        self.closed.append(0)
        return node

    def tables(self) -> "Tables":
        """Return the automaton of the trie."""
        start, byte = np.divmod(np.fromiter(self.edges, np.int64), 256)
        used = np.unique(byte)
        classes = np.array([WORD, FOREIGN, BREAK, *BYTE_CLASS[used], END])  # of a column
        column = np.array([*BYTE_CLASS, len(classes) - 1])                  # of a byte in no phrase: of its class
        column[used] = range(3, len(classes) - 1)
        delta = np.full((len(self.depth), len(classes)), -1)
        delta[start, column[byte]] = np.fromiter(self.edges.values(), np.int64)
        inner = delta >= 0
        delta[WORD] = np.where(inner[WORD], delta[WORD], classes)
        delta[:, -1] = np.arange(len(delta))  # END stays where it is
        pending, closed, fail = np.array(self.pending), np.array(self.closed), np.array(self._failures())
        progress = np.zeros((len(delta), self.num_bits))
        for place, share in self.shares.items():
            progress[place] = share
        for back in chains(fail):
            delta = np.where(delta < 0, delta[back], delta)
            pending |= pending[back]
            closed |= closed[back]
            progress = np.maximum(progress, progress[back])
        gains = closed[delta] | np.where(classes == BREAK, pending[:, None], 0)
        gains |= np.where(classes == FOREIGN, pending[:, None] & self.avoided, 0)
        gains[:, -1] = 0  # and sets nothing
        return Tables(delta, gains, pending, closed, progress, fail, inner, column)

    def _failures(self) -> list[int]:
        """Return for each node that of the longest other beginning of a phrase that its text ends with."""
        fail, class_of = [WORD, WORD, FOREIGN, *[WORD] * (len(self.depth) - 3)], BYTE_CLASS.tolist()
        for edge in sorted(self.edges, key=lambda edge: self.depth[edge // 256]):
            node, byte = divmod(edge, 256)
            back = fail[node]
            while back != WORD and back * 256 + byte not in self.edges:
                back = fail[back]
            longest = None if node == WORD else self.edges.get(back * 256 + byte)
            fail[self.edges[edge]] = class_of[byte] if longest is None else longest
        return fail


def chains(fail: np.ndarray) -> Iterator[np.ndarray]:
    """Yield where each node leads by 1, 2, 4 ... failure links, to the last: WORD.

    What nodes inherit from the nearest that has it, or collect from all, is found in as many rounds.
    """
    while fail.any():
        yield fail
        fail = fail[fail]
    yield fail


class Tables(NamedTuple):
    """The automaton over bytes, as arrays; bytes in no phrase share the column of their class."""
    delta: np.ndarray     # (nodes, columns) node after a byte
    gains: np.ndarray     # (nodes, columns) bits that reading a byte sets for good
    pending: np.ndarray   # (nodes,) bits that the end of the word would set
    closed: np.ndarray    # (nodes,) bits of phrases that end here whatever follows
    progress: np.ndarray  # (nodes, bits) largest share written of a phrase
    fail: np.ndarray      # (nodes,) the longest other phrase that may have begun
    inner: np.ndarray     # (nodes, columns) True where a byte goes on with a phrase; elsewhere the node reads as `fail`
    column: np.ndarray    # (257,) of a byte, and of END


@cache
def spellings(char: str) -> tuple[bytes, ...]:
    """Return the bytes of a character's small and capital spellings, as far as they are as many as its own."""
    found = {spelling.encode() for spelling in (char, char.lower(), char.upper())}
    return tuple(sorted(spelling for spelling in found if len(spelling) == len(char.encode())))
