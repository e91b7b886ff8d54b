"""Toy policy, whose probabilities are written down, and NeuroLogic decoding of it in plain Python, word by word.

The plain functions are those that the exercises of notebook 05 ask for; there they are put together to a search that
finds the same texts as `decode`, which does the same for a batch, on bytes, in tensors.
"""
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from npkit.errors import NpkitError
from npkit.neurologic.constraints import CNF, Constraints, any_of, checked, find
from npkit.text.policy import EOS, PAD, Policy

UNKNOWN = "<|unknown|>"
Words = tuple[str, ...]  # a phrase or its beginning; of letters where a text is read letter by letter: a str


# 1. A language model that can be written down ------------------------------------------------------------------------
def toy_policy(tokens: Sequence[str], next_probs: Mapping[str, Mapping[str, float]], max_tokens: int = 32,
               end_growth: float = 1.0) -> Policy:
    """Return a bigram policy: `next_probs[token][next]` is a probability, `""` the end, whatever is left out is even.

    Tokens are words with the space before them, such as " fox". The weight of the end grows by `end_growth` with every
    token before the last one: the longer a text, the likelier it ends. The network is a real GPT-2: one-hot embeddings
    of token and position, one block that adds nothing, and the table of log-probabilities as output layer.
    """
    names = [*tokens, "", PAD, UNKNOWN]
    probs = torch.full((len(names), len(names)), 1e-12)
    for row, token in enumerate(tokens):
        given = next_probs.get(token, {})
        even = max(0.0, 1 - sum(given.values())) / max(1, len(tokens) + 1 - len(given))
        probs[row, :len(tokens) + 1] = torch.tensor([given.get(name, even) for name in names[:len(tokens) + 1]])
    ends = torch.zeros(max_tokens, len(names))
    ends[:, len(tokens)] = torch.arange(max_tokens) * float(np.log(end_growth))
    return _bigram_gpt2(probs.clamp(min=1e-12).log(), ends), _word_tokenizer(tokens)


@torch.no_grad()
def _bigram_gpt2(logprobs: torch.Tensor, ends: torch.Tensor) -> GPT2LMHeadModel:
    """Return the network whose logits are the row of the last token plus the row of its position."""
    size, positions = len(logprobs), len(ends)
    width = size + positions
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=size, n_positions=positions, n_embd=width, n_layer=1, n_head=1, tie_word_embeddings=False,
        bos_token_id=size - 3, eos_token_id=size - 3, pad_token_id=size - 2)).eval()
    for weights in model.parameters():
        weights.zero_()
    norm = model.transformer.ln_f  # centres and scales the two-hot vector, and here is turned back into it
    model.transformer.wte.weight.copy_(1000 * torch.eye(size, width))
    model.transformer.wpe.weight.copy_(1000 * torch.eye(width)[size:])
    norm.weight.fill_((2 / width - 4 / width**2) ** 0.5)
    norm.bias.fill_(2 / width)
    model.lm_head.weight.copy_(torch.cat([logprobs, ends]).T)
    return model


def _word_tokenizer(tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelled = [token.replace(" ", "Ġ") for token in tokens]
    vocab = {token: number for number, token in enumerate([*spelled, EOS, PAD, UNKNOWN])}
    words = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    words.pre_tokenizer, words.decoder = alphabet, decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token=EOS, eos_token=EOS, pad_token=PAD,
                                   unk_token=UNKNOWN)


def draw_constraints(phrases: Sequence[str], rng: np.random.Generator) -> Constraints:
    """Return one to three clauses of one or two `phrases`, and up to two banned ones that stand in none of these."""
    while True:
        drawn, sizes = rng.permutation(phrases).tolist(), rng.integers(1, 3, rng.integers(1, 4))
        ends = np.cumsum([0, *sizes])
        wanted = tuple((f"clause {number}", any_of(*drawn[begin:end]))
                       for number, (begin, end) in enumerate(pairwise(ends), 1) if end <= len(drawn))
        banned = tuple(drawn[ends[-1]:ends[-1] + rng.integers(0, 3)])
        try:
            return checked(Constraints(wanted, banned, own_parts=False))
        except NpkitError:  # a banned phrase stands in a wanted one
            continue


# 2. What the exercises of notebook 05 ask for ------------------------------------------------------------------------
def clauses_hold(cnf: CNF, text: str) -> list[bool]:
    """Say for each clause whether one of its literals holds in `text`: a phrase that is there, or a banned one not."""
    return [any((find(literal.phrase, text) is not None) == literal.positive for literal in clause) for clause in cnf]


def next_state(state: Sequence, word: Sequence, phrases: Iterable[Sequence]) -> Sequence:
    """Return the longest end of `state` and one more word (or letter) that begins a phrase."""
    longer = state + word
    ends = (longer[start:] for start in range(len(longer)))
    return next((end for end in ends if any(phrase[:len(end)] == end for phrase in phrases)), longer[:0])


def read_token(state: str, token: str, banned: Sequence[str], next_state: Callable) -> tuple[str, bool]:
    """Return the state after the letters of `token`, and whether one of them completed a banned phrase."""
    completed = False
    for letter in token:
        state = next_state(state, letter, banned)
        completed |= any(state.endswith(phrase) for phrase in banned)
    return state, completed


class Hypothesis(NamedTuple):
    """A text so far, and what decoding must know of it."""
    text: Words
    score: float               # log-probability of the words behind the prefix
    state: Words = ()          # longest end of the text that begins a phrase
    met: frozenset = frozenset()  # numbers of the clauses met
    banned: bool = False       # its last word completes a banned phrase
    needed: int = 0            # words until every clause may be met
    rank: float = 0.0


def rank(hypothesis: Hypothesis, clauses: Sequence[Sequence[Words]], cost: Callable[[Words], float],
         bonus: float) -> float:
    """Return log-probability plus `bonus` times what the clauses met and the phrase in hand are worth, in nats."""
    worth = [min(map(cost, clause)) for clause in clauses]
    ends = [hypothesis.state[start:] for start in range(len(hypothesis.state))]
    in_hand = [worth[number] * cost(end) / cost(phrase)
               for number, clause in enumerate(clauses) if number not in hypothesis.met
               for phrase in clause for end in ends if phrase[:len(end)] == end]
    return hypothesis.score + bonus * (sum(worth[number] for number in hypothesis.met) + max(in_hand, default=0))


def words_needed(place: Hashable, after: Callable[[Hashable], Iterable[Hashable]], done: Callable[[Hashable], bool],
                 most: int) -> int:
    """Return the fewest words from `place` to one that is `done`, or `most` + 1 where `most` are not enough."""
    places = {place}
    for count in range(most + 1):
        if any(map(done, places)):
            return count
        places = {behind for each in places for behind in after(each)}
    return most + 1


def step(candidates: Sequence[Hypothesis], left: int, tolerance: int, count: int) -> list[Hypothesis]:
    """Return the `count` candidates that stay: possible ones near the most clauses met, the groups taking turns."""
    possible = [each for each in candidates if not each.banned and each.needed <= left]
    most = max((len(each.met) for each in possible), default=0)
    near = [each for each in possible if len(each.met) >= most - tolerance]
    turn, taken = {}, {}
    for each in sorted(near, key=lambda each: each.rank, reverse=True):
        turn[each] = taken[each.met] = taken.get(each.met, -1) + 1
    return sorted(turn, key=turn.get)[:count]


def fate(candidate: Hypothesis, left: int, candidates: Sequence[Hypothesis], beam: Sequence[Hypothesis],
         tolerance: int) -> str:
    """Say whether a candidate is in the `beam` that a step has chosen from `candidates`, or why it is not."""
    if candidate in beam:
        return "stays"
    if candidate.banned:
        return "dropped: its last word is banned"
    if candidate.needed > left:
        return "dropped: needs more words than are left"
    most = max(len(other.met) for other in candidates if not other.banned and other.needed <= left)
    if len(candidate.met) < most - tolerance:
        return "dropped: too many clauses behind"
    return "dropped: its group had its turns"
