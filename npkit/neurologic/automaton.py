"""Automaton: wanted and banned phrases compiled to one machine over bytes, whose node says where a text stands."""
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from npkit.errors import NpkitError
from npkit.neurologic.clauses import Constraints, checked, has_boundary

WORD, FOREIGN, BREAK = 0, 1, 2  # nodes with no phrase begun, by the last byte: ASCII word byte, not ASCII, other/start
BAN = 1 << 62                   # the bit of a banned phrase; bit c is clause c
END = 256                       # fills up the bytes of short tokens; stays at its node
FAR = 10_000                    # more tokens than any completion has
MAX_TOKEN_BYTES = 32            # longer tokens are runs of dashes and debris: never written
SEPARATORS, FILLER = (",", ";", ".", " -", " "), "s"  # what may stand between phrases; what turns "text" into "texts"

CONTROL = frozenset([*range(32), 127])  # a prompt is one line
BYTE_CLASS = np.full(256, BREAK)
BYTE_CLASS[[byte for byte in range(128) if chr(byte).isalnum() or chr(byte) == "_"]] = WORD
BYTE_CLASS[128:] = FOREIGN


# 1. The vocabulary as bytes ------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a byte-level tokenizer, as the bytes they write."""
    tokenizer: PreTrainedTokenizerBase
    token_bytes: Tensor  # (tokens, most bytes), filled up with END
    first_class: Tensor  # (tokens,) WORD, FOREIGN or BREAK: what the token's first byte is
    never: Tensor        # (tokens,) True for special tokens, control characters, and rows beyond the tokenizer
    ids: Mapping[bytes, int]

    def spell(self, text: str) -> frozenset[int]:
        """Return the tokens of two spellings of `text`: the tokenizer's own, and one of the fewest tokens."""
        return _spell(self, text)

    def fewest(self, spelling: bytes) -> list[int]:
        """Return the token ids of a shortest spelling; none if the vocabulary cannot write it."""
        best: list[list[int] | None] = [[]] + [None] * len(spelling)  # of the first 0, 1, 2 ... bytes
        for end in range(1, len(spelling) + 1):
            starts = range(max(0, end - MAX_TOKEN_BYTES), end)
            options = [best[start] + [self.ids[spelling[start:end]]] for start in starts
                       if best[start] is not None and spelling[start:end] in self.ids]
            best[end] = min(options, key=len, default=None)
        return best[-1] or []

    def to(self, device: torch.device) -> "Vocabulary":
        return replace(self, token_bytes=self.token_bytes.to(device), first_class=self.first_class.to(device),
                       never=self.never.to(device))


@lru_cache(maxsize=50_000)  # the sets of a batch draw their phrases from the same lists
def _spell(vocabulary: Vocabulary, text: str) -> frozenset[int]:
    own = vocabulary.tokenizer.encode(text, add_special_tokens=False)
    fewest = vocabulary.fewest(text.encode())
    return frozenset(fewest if vocabulary.never[own].any() else [*fewest, *own])


@lru_cache(maxsize=4)
def read_vocabulary(tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> Vocabulary:
    """Return the vocabulary of a byte-level tokenizer, for a model with `num_tokens` logits."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    spellings = [b""] * num_tokens
    for token, token_id in tokenizer.get_vocab().items():
        if token_id not in special:
            spellings[token_id] = _bytes_of(token)
    kept = [spelling if 0 < len(spelling) <= MAX_TOKEN_BYTES and not CONTROL.intersection(spelling) else b""
            for spelling in spellings]
    longest = max(map(len, kept))
    table = torch.tensor([[*spelling, *[END] * (longest - len(spelling))] for spelling in kept])
    ids = {spelling: token_id for token_id, spelling in enumerate(kept) if spelling}
    return Vocabulary(tokenizer, table, torch.tensor([*BYTE_CLASS, BREAK])[table[:, 0]], table[:, 0] == END, ids)


def _bytes_of(token: str) -> bytes:
    alphabet = byte_alphabet()
    if not alphabet.keys() >= set(token):
        raise NpkitError(f"token {token!r} is not spelled in bytes: NeuroLogic decoding takes byte-level tokenizers, "
                         "such as GPT-2's")
    return bytes(alphabet[char] for char in token)


@cache
def byte_alphabet() -> dict[str, int]:
    """Return the byte behind each character of GPT-2's alphabet: printable bytes as they are, others from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


# 2. Phrases as paths of bytes ----------------------------------------------------------------------------------------
class Trie:
    """Phrases as paths of bytes from the base nodes; `tables` adds the failure links (Aho and Corasick, 1975).

    A wanted phrase begins after a BREAK only, and counts when a BREAK byte or the end of the text follows. A banned
    one begins and ends at any byte but an ASCII word byte. Beside a letter like "é" both are on the safe side.
    """

    def __init__(self, num_clauses: int):
        self.num_clauses = num_clauses
        self.children: list[dict[int, int]] = [{}, {}, {}]  # WORD, FOREIGN, BREAK
        self.pending, self.closed = [0] * 3, [0] * 3        # bits of phrases that end here: with the word; in any case
        self.shares: list[dict[int, float]] = [{}, {}, {}]  # clause -> largest share written of a phrase of it

    def add(self, phrase: str, clause: int | None = None) -> None:
        """Add a wanted phrase of `clause`, or (None) a banned one."""
        node = WORD if not has_boundary(phrase[0]) else FOREIGN if clause is None else BREAK
        for written, char in enumerate(phrase, 1):
            node = self._step(node, char)
            if clause is not None:
                self.shares[node][clause] = max(self.shares[node].get(clause, 0.0), written / len(phrase))
        ends = self.pending if has_boundary(phrase[-1]) else self.closed
        ends[node] |= BAN if clause is None else 1 << clause

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
        """Return delta and gains (nodes, 257), pending and closed (nodes,), progress (nodes, clauses)."""
        nodes = len(self.children)
        delta = np.tile(np.arange(nodes)[:, None], 257)
        progress = np.zeros((nodes, self.num_clauses))
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
        gains[:, :END] |= np.where(BYTE_CLASS == FOREIGN, pending[:, None] & BAN, 0)
        gains[:, END] = 0
        return delta, gains, pending, closed, progress


@cache
def spellings(char: str) -> tuple[bytes, ...]:
    """Return the bytes of a character's small and capital spellings, as far as they are as many as its own."""
    found = {spelling.encode() for spelling in (char, char.lower(), char.upper())}
    return tuple(sorted(spelling for spelling in found if len(spelling) == len(char.encode())))


# 3. The machine ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Automaton:
    """The tables of one set of constraints, or (`stack`) of a batch of examples that share one space of nodes.

    Bit c of `gains` and `pending` is clause c, BAN a banned phrase. A *plan* writes one phrase of every unmet clause,
    one after another, in proposed tokens; `restart` is the length of its steps, `going` and `closing` what the first
    step takes more or less, from where the text stands: with any token next, or with one that begins with a BREAK.
    """
    delta: Tensor       # (nodes, 257) node after a byte
    gains: Tensor       # (nodes, 257) bits that reading a byte sets for good
    pending: Tensor     # (nodes,) bits that the end of the word would set
    progress: Tensor    # (nodes, clauses) largest share written of a phrase of the clause
    next_node: Tensor   # (nodes, proposals) node after a proposed token
    next_gains: Tensor  # (nodes, proposals) bits it sets
    going: Tensor       # (nodes, clauses)
    closing: Tensor     # (nodes, clauses)
    escape: Tensor      # (nodes,) tokens until no banned phrase is pending
    proposals: Tensor   # (examples, proposals) tokens worth trying: those of the phrases' spellings, and separators
    restart: Tensor     # (examples, clauses)
    full: Tensor        # (examples,) the bits of all clauses
    root: Tensor        # (examples,) first of the nodes

    def read(self, node: Tensor, token_bytes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the node after the bytes (..., length) and the bits they set."""
        return read_bytes(self.delta, self.gains, node, token_bytes)

    def read_text(self, text: str) -> tuple[Tensor, Tensor]:
        """Return the node after `text` from its beginning, and the bits it sets; for one set of constraints."""
        return self.read(torch.tensor(BREAK), torch.tensor(list(text.encode())))

    def members(self, bits: Tensor) -> Tensor:
        """Return the clauses of bit sets: (...) -> (..., clauses), True where the clause is in."""
        return (bits[..., None] >> torch.arange(self.restart.shape[1], device=bits.device)) & 1 == 1

    def assess(self, node: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for hypotheses (examples, ...), the tokens they still need and the largest share of a phrase in hand.

        Whoever needs n > 0 tokens has a proposed token after which n - 1 or fewer are needed: keeping the need within
        the tokens that are left satisfies every clause, by construction.
        """
        pending, unmet = self.pending[node], self.full[:, None] & ~met
        owed = self.members(unmet & ~pending)
        closing = self._plan(owed, self.closing[node]).masked_fill(pending & BAN != 0, FAR)
        going = torch.where(unmet == 0, self.escape[node], self._plan(self.members(unmet), self.going[node]))
        share = self.progress[node].masked_fill(~owed, 0).amax(-1)
        return torch.minimum(closing, going), share

    def _plan(self, owed: Tensor, first: Tensor) -> Tensor:
        steps = (self.restart[:, None] * owed).sum(-1)
        return torch.where(owed.any(-1), steps + first.masked_fill(~owed, FAR).amin(-1), 0)

    def to(self, device: torch.device) -> "Automaton":
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def read_bytes(delta: Tensor, gains: Tensor, node: Tensor, token_bytes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the node after reading `token_bytes` (..., length) from `node` (...), and the bits they set."""
    bits = torch.zeros((), dtype=torch.long, device=node.device)
    for byte in token_bytes.unbind(-1):
        bits = bits | gains[node, byte]
        node = delta[node, byte]
    return node, bits


# 4. Compiling --------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=256)
def compile_constraints(constraints: Constraints, vocabulary: Vocabulary) -> Automaton:
    """Return the automaton of a set of constraints over a vocabulary."""
    wanted = [[squeeze(literal.phrase) for literal in clause] for _, clause in checked(constraints).wanted]
    trie = Trie(max(1, len(wanted)))
    for clause, phrases in enumerate(wanted):
        for phrase in phrases:
            trie.add(phrase, clause)
    for phrase in (*map(squeeze, constraints.excluded), "  "):  # two spaces in a row would smuggle a banned phrase in
        trie.add(phrase)
    delta, gains, pending, closed, progress = map(torch.from_numpy, trie.tables())
    proposals = propose([phrase for phrases in wanted for phrase in phrases], vocabulary)
    next_node, next_gains = read_proposals(delta, gains, vocabulary.token_bytes[proposals])
    may_end = (pending & BAN == 0)[:, None]
    ends = ((pending | closed)[:, None] >> torch.arange(progress.shape[1]) & 1 == 1) & may_end
    allowed = next_gains & BAN == 0
    distance = distances(next_node, allowed, torch.cat([ends, may_end], 1))
    after_break = onward(distance, next_node, allowed & (vocabulary.first_class[proposals] == BREAK))[:, :-1]
    restart = after_break.masked_fill(ends | ~ends.any(1, keepdim=True), 0).amax(0)  # behind a phrase of another clause
    return Automaton(
        delta=delta, gains=gains, pending=pending, progress=progress.float(), next_node=next_node,
        next_gains=next_gains, going=distance[:, :-1] - restart, closing=after_break - restart,
        escape=distance[:, -1], proposals=proposals[None], restart=restart[None],
        full=torch.tensor([(1 << len(wanted)) - 1]), root=torch.tensor([0]))


def squeeze(phrase: str) -> str:
    """Return `phrase` with single spaces."""
    return " ".join(phrase.split())


def propose(phrases: Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """Return the tokens that spell `phrases` (after a space or not, as given or in small letters), and separators."""
    spellings = [space + phrase for given in phrases for phrase in {given, given.lower()} for space in ("", " ")]
    token_ids = {token_id for text in (*spellings, *SEPARATORS, FILLER) for token_id in vocabulary.spell(text)}
    return torch.tensor(sorted(token_ids))


def read_proposals(delta: Tensor, gains: Tensor, token_bytes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the node after every token (nodes, tokens) from every node, and the bits it sets."""
    length = (token_bytes != END).sum(1)
    by_length = length.argsort(descending=True, stable=True)  # so that no byte is read behind a token's end
    node = torch.arange(len(delta))[:, None].repeat(1, len(length))
    bits = torch.zeros_like(node)
    for place in range(int(length.max())):
        count = int((length > place).sum())
        byte = token_bytes[by_length[:count], place]
        bits[:, :count] |= gains[node[:, :count], byte]
        node[:, :count] = delta[node[:, :count], byte]
    back = by_length.argsort()
    return node[:, back], bits[:, back]


def onward(distance: Tensor, next_node: Tensor, allowed: Tensor) -> Tensor:
    """Return 1 + the smallest distance (nodes, goals) behind any allowed proposal (nodes, proposals)."""
    nowhere = torch.full_like(distance[:1], FAR)
    steps = torch.where(allowed, next_node, len(distance)).flatten()
    return 1 + torch.cat([distance, nowhere]).index_select(0, steps).view(*next_node.shape, -1).amin(1)


def distances(next_node: Tensor, allowed: Tensor, goals: Tensor) -> Tensor:
    """Return the fewest proposals from each node to each goal: (nodes, goals), 0 where `goals` holds, at most FAR."""
    distance = torch.where(goals, 0, FAR)
    while True:
        shorter = torch.minimum(distance, onward(distance, next_node, allowed))
        if torch.equal(shorter, distance):
            return distance
        distance = shorter


def stack(automata: Sequence[Automaton], fill_token: int) -> Automaton:
    """Return one automaton for a batch: example i starts at `root[i]` and keeps its own clauses and proposals.

    Equal constraints share their nodes. Missing proposals are filled with `fill_token`, one that never scores.
    """
    distinct = list(dict.fromkeys(automata))
    which = torch.tensor([distinct.index(automaton) for automaton in automata])
    sizes = torch.tensor([len(automaton.delta) for automaton in distinct])
    roots = sizes.cumsum(0) - sizes
    clauses = max(automaton.restart.shape[1] for automaton in distinct)
    width = max(automaton.proposals.shape[1] for automaton in distinct)

    def joined(name: str, columns: int | None = None, fill: int = 0) -> Tensor:
        tables = [getattr(automaton, name) for automaton in distinct]
        return torch.cat([pad(table, (0, columns - table.shape[1]), value=fill) if columns else table
                          for table in tables])

    offset = roots.repeat_interleave(sizes)[:, None]
    return Automaton(
        delta=joined("delta") + offset, next_node=joined("next_node", width) + offset, gains=joined("gains"),
        next_gains=joined("next_gains", width), pending=joined("pending"), progress=joined("progress", clauses),
        going=joined("going", clauses), closing=joined("closing", clauses), escape=joined("escape"),
        proposals=joined("proposals", width, fill_token)[which], restart=joined("restart", clauses)[which],
        full=joined("full")[which], root=roots[which])
