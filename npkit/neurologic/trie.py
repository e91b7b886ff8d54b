"""Trie: wanted and banned phrases as paths of bytes, and the tables of the Aho-Corasick automaton over them."""
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
        self.children: list[dict[int, int]] = [{}, {}, {}]  # WORD, FOREIGN, BREAK
        self.pending, self.closed = [0] * 3, [0] * 3        # bits of phrases that end here: with the word; in any case
        self.depth = [WORD, FOREIGN, BREAK]  # 3 a byte, and the base node: a failure link leads to a smaller one
        self.shares: list[dict[int, float]] = [{}, {}, {}]  # bit -> largest share written of a phrase of it

    def add(self, phrase: str, bit: int | None = None) -> None:
        """Add a phrase that sets `bit`, or (None) a banned one."""
        flag = BAN if bit is None else 1 << bit
        node = WORD if not has_boundary(phrase[0]) else FOREIGN if flag & self.avoided else BREAK
        for written, char in enumerate(phrase, 1):
            node = self._step(node, char)
            if not flag & self.avoided:
                self.shares[node][bit] = max(self.shares[node].get(bit, 0.0), written / len(phrase))
        ends = self.pending if has_boundary(phrase[-1]) else self.closed
        ends[node] |= flag

    def _step(self, node: int, char: str) -> int:
        """Return the node after `char`; its small and its capital spelling lead to the same one."""
        edges = []
        for spelling in spellings(char):
            inner = node
            for byte in spelling[:-1]:
                inner = self.children[inner].get(byte) or self._grow(inner, byte)
            edges.append((inner, spelling[-1]))
        known = [self.children[inner][byte] for inner, byte in edges if byte in self.children[inner]]
        after = known[0] if known else self._grow(*edges[0])
        for inner, byte in edges:
            self.children[inner][byte] = after
        return after

    def _grow(self, node: int, byte: int) -> int:
        self.children[node][byte] = len(self.children)
        self.children.append({})
        self.pending.append(0)
        self.closed.append(0)
        self.depth.append(self.depth[node] + 3)
        self.shares.append({})
        return len(self.children) - 1

    def tables(self) -> "Tables":
        """Return the automaton of the trie, built level by level."""
        nodes = len(self.children)
        delta = np.empty((nodes, 257), dtype=int)
        delta[:, END] = np.arange(nodes)
        progress = np.zeros((nodes, self.num_bits))
        written = [(node, bit, share) for node, shares in enumerate(self.shares) for bit, share in shares.items()]
        for node, bit, share in written:
            progress[node, bit] = share
        pending, closed = np.array(self.pending), np.array(self.closed)
        fail = np.array([WORD, WORD, FOREIGN, *[WORD] * (nodes - 3)])
        edges = np.array([(node, byte, child) for node, children in enumerate(self.children)
                          for byte, child in children.items()])
        depths = np.array(self.depth)
        edges = edges[depths[edges[:, 0]].argsort(kind="stable")]
        each_depth = np.unique(depths)
        levels = np.split(depths.argsort(kind="stable"), np.searchsorted(np.sort(depths), each_depth[1:]))
        leaving = np.split(edges, np.searchsorted(depths[edges[:, 0]], each_depth[1:]))
        delta[WORD, :END] = BYTE_CLASS
        for level, level_edges in zip(levels, leaving):
            back = fail[level]
            delta[level, :END] = delta[back, :END]
            pending[level] |= pending[back]
            closed[level] |= closed[back]
            progress[level] = np.maximum(progress[level], progress[back])
            node, byte, child = level_edges.T
            fail[child] = delta[node, byte]
            delta[node, byte] = child
        gains = closed[delta] if closed.any() else np.zeros_like(delta)
        ends = np.flatnonzero(pending)
        gains[ends, :END] |= np.where(BYTE_CLASS == BREAK, pending[ends, None], 0)
        gains[ends, :END] |= np.where(BYTE_CLASS == FOREIGN, pending[ends, None] & self.avoided, 0)
        gains[:, END] = 0
        inner = np.zeros((nodes, 257), dtype=bool)
        inner[edges[:, 0], edges[:, 1]] = True
        return Tables(delta, gains, pending, closed, progress, fail, inner, levels)


class Tables(NamedTuple):
    """The automaton over bytes, as arrays."""
    delta: np.ndarray     # (nodes, 257) node after a byte
    gains: np.ndarray     # (nodes, 257) bits that reading a byte sets for good
    pending: np.ndarray   # (nodes,) bits that the end of the word would set
    closed: np.ndarray    # (nodes,) bits of phrases that end here whatever follows
    progress: np.ndarray  # (nodes, bits) largest share written of a phrase
    fail: np.ndarray      # (nodes,) the longest other phrase that may have begun
    inner: np.ndarray     # (nodes, 257) True where a byte goes on with a phrase; elsewhere the node reads as `fail`
    levels: list[np.ndarray]  # the nodes, so that `fail` leads to an earlier level


@cache
def spellings(char: str) -> tuple[bytes, ...]:
    """Return the bytes of a character's small and capital spellings, as far as they are as many as its own."""
    found = {spelling.encode() for spelling in (char, char.lower(), char.upper())}
    return tuple(sorted(spelling for spelling in found if len(spelling) == len(char.encode())))
