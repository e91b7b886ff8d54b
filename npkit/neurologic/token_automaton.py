"""Token automaton: phrases compiled to one machine over token ids, as published NeuroLogic decoding reads a text.

A phrase is one sequence of token ids. The same letters in other tokens are another text, and a phrase counts inside a
longer word: what `machine`, which reads bytes, does not let happen.
"""
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from npkit.neurologic.machine import BAN, Movable

Phrase = tuple[int, ...]
NO_TOKEN = 1 << 31  # fills up the alphabets of a batch: above every token id


# 1. Phrases as paths of tokens ---------------------------------------------------------------------------------------
class TokenTrie:
    """Phrases as paths of tokens from the root; `tables` adds the failure links (Aho and Corasick, 1975)."""

    def __init__(self, num_clauses: int):
        self.num_clauses = num_clauses
        self.children: list[dict[int, int]] = [{}]
        self.ends = [0]                             # bits of the phrases that end here
        self.shares: list[dict[int, float]] = [{}]  # clause -> largest share written of a phrase of it
        self.spent: list[set[int]] = [set()]        # tokens of the wanted phrases that end here

    def add(self, phrase: Phrase, clause: int | None = None) -> None:
        """Add a wanted phrase of `clause`, or (None) a banned one."""
        node = 0
        for written, token in enumerate(phrase, 1):
            node = self.children[node].get(token) or self._grow(node, token)
            if clause is not None:
                self.shares[node][clause] = max(self.shares[node].get(clause, 0.0), written / len(phrase))
        self.ends[node] |= BAN if clause is None else 1 << clause
        self.spent[node].update(() if clause is None else phrase)

    def _grow(self, node: int, token: int) -> int:
        self.children[node][token] = len(self.children)
        self.children.append({})
        self.ends.append(0)
        self.shares.append({})
        self.spent.append(set())
        return len(self.children) - 1

    def tables(self, symbol_of: dict[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return delta and spent (nodes, 1 + symbols), ends (nodes,), progress (nodes, clauses)."""
        nodes = len(self.children)
        delta = np.zeros((nodes, 1 + len(symbol_of)), dtype=np.int64)  # column 0: a token of no phrase, to the root
        spent = np.zeros(delta.shape, dtype=bool)
        progress = np.zeros((nodes, self.num_clauses), dtype=np.float64)
        fail = [0] * nodes
        queue = deque([0])
        while queue:
            node = queue.popleft()
            back = fail[node]
            delta[node] = delta[back]
            spent[node] = spent[back]
            spent[node, [symbol_of[token] for token in self.spent[node]]] = True
            self.ends[node] |= self.ends[back]
            progress[node, list(self.shares[node])] = list(self.shares[node].values())
            np.maximum(progress[node], progress[back], out=progress[node])
            for token, child in self.children[node].items():
                fail[child] = delta[back, symbol_of[token]] if node else 0
                delta[node, symbol_of[token]] = child
                queue.append(child)
        return delta, spent, np.array(self.ends), progress


# 2. The machine ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class TokenAutomaton(Movable):
    """The tables of one set of phrases, or (`join`) of a batch of examples that share one space of nodes.

    The alphabet is the tokens that occur in phrases, symbols 1, 2, ... in the order of their ids; symbol 0 is any other
    token and leads to the root. Bit c is clause c, BAN a banned phrase.
    """
    delta: Tensor     # (nodes, 1 + symbols) node after a symbol
    spent: Tensor     # (nodes, 1 + symbols) True: a token of a wanted phrase that ends here
    ends: Tensor      # (nodes,) bits of the phrases that end here
    begun: Tensor     # (nodes,) bits of the clauses of which a phrase is in hand, the last part of the text
    progress: Tensor  # (nodes, clauses) largest share written of a phrase of the clause
    symbols: Tensor   # (examples, symbols) token ids, ascending; NO_TOKEN fills up
    full: Tensor      # (examples,) the bits of all clauses
    root: Tensor      # (examples,) first of the nodes

    def read(self, node: Tensor, tokens: Tensor) -> Tensor:
        """Return the node after one token from `node`, both (examples, ...)."""
        flat = tokens.flatten(1).contiguous()
        place = torch.searchsorted(self.symbols, flat).clamp(max=self.symbols.shape[1] - 1)
        symbol = torch.where(self.symbols.gather(1, place) == flat, place + 1, 0)
        return self.delta[node, symbol.view_as(tokens)]

    def members(self, bits: Tensor) -> Tensor:
        """Return the clauses of bit sets: (...) -> (..., clauses), True where the clause is in."""
        return (bits[..., None] >> torch.arange(self.progress.shape[1], device=bits.device)) & 1 == 1


@lru_cache(maxsize=256)
def compile_phrases(clauses: tuple[tuple[Phrase, ...], ...], banned: tuple[Phrase, ...]) -> TokenAutomaton:
    """Return the automaton of clauses, each a tuple of phrases, and of banned phrases."""
    trie = TokenTrie(max(1, len(clauses)))
    for clause, phrases in enumerate(clauses):
        for phrase in phrases:
            trie.add(phrase, clause)
    for phrase in banned:
        trie.add(phrase)
    symbols = sorted({token for children in trie.children for token in children})
    tables = trie.tables({token: symbol for symbol, token in enumerate(symbols, 1)})
    delta, spent, ends, progress = map(torch.from_numpy, tables)
    bits = 1 << torch.arange(progress.shape[1])
    return TokenAutomaton(
        delta=delta, spent=spent, ends=ends, begun=((progress > 0) * bits).sum(1), progress=progress,
        symbols=torch.tensor([symbols or [NO_TOKEN]]), full=torch.tensor([(1 << len(clauses)) - 1]),
        root=torch.tensor([0]))


def join(automata: Sequence[TokenAutomaton]) -> TokenAutomaton:
    """Return one automaton for a batch: example i starts at `root[i]` and keeps its own clauses and symbols."""
    distinct = list(dict.fromkeys(automata))
    which = torch.tensor([distinct.index(automaton) for automaton in automata])
    sizes = torch.tensor([len(automaton.delta) for automaton in distinct])
    roots = sizes.cumsum(0) - sizes
    width = max(automaton.symbols.shape[1] for automaton in distinct)
    clauses = max(automaton.progress.shape[1] for automaton in distinct)

    def joined(name: str, columns: int | None = None, fill: int = 0) -> Tensor:
        tables = [getattr(automaton, name) for automaton in distinct]
        return torch.cat([pad(table, (0, columns - table.shape[1]), value=fill) if columns else table
                          for table in tables])

    return TokenAutomaton(
        delta=joined("delta", 1 + width) + roots.repeat_interleave(sizes)[:, None], spent=joined("spent", 1 + width),
        ends=joined("ends"), begun=joined("begun"), progress=joined("progress", clauses),
        symbols=joined("symbols", width, NO_TOKEN)[which], full=joined("full")[which], root=roots[which])
