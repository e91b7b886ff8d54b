"""Trie: wanted and banned phrases as paths of bytes, and the tables of the Aho-Corasick automaton over them."""
from collections import deque
from functools import cache

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
        self.shares.append({})
        return len(self.children) - 1

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return delta and gains (nodes, 257), pending and closed (nodes,), progress (nodes, bits)."""
        nodes = len(self.children)
        delta = np.tile(np.arange(nodes)[:, None], 257)
        progress = np.zeros((nodes, self.num_bits))
        for node, shares in enumerate(self.shares):
            progress[node, list(shares)] = list(shares.values())
        fail = [WORD, WORD, FOREIGN, *[None] * (nodes - 3)]
        queue = deque([WORD, FOREIGN, BREAK])
        while queue:
            node = queue.popleft()
            back = fail[node]
            delta[node, :END] = BYTE_CLASS if node == WORD else delta[back, :END]
            self.pending[node] |= self.pending[back]
            self.closed[node] |= self.closed[back]
            np.maximum(progress[node], progress[back], out=progress[node])
            for byte, child in self.children[node].items():
                if fail[child] is None:
                    fail[child] = delta[node, byte]
                    queue.append(child)
                delta[node, byte] = child
        pending, closed = np.array(self.pending), np.array(self.closed)
        gains = closed[delta]
        gains[:, :END] |= np.where(BYTE_CLASS == BREAK, pending[:, None], 0)
        gains[:, :END] |= np.where(BYTE_CLASS == FOREIGN, pending[:, None] & self.avoided, 0)
        gains[:, END] = 0
        return delta, gains, pending, closed, progress


@cache
def spellings(char: str) -> tuple[bytes, ...]:
    """Return the bytes of a character's small and capital spellings, as far as they are as many as its own."""
    found = {spelling.encode() for spelling in (char, char.lower(), char.upper())}
    return tuple(sorted(spelling for spelling in found if len(spelling) == len(char.encode())))
