"""Pairs: which two pictures a rater is shown, on which side each stands, and in which order the questions come.

Both pictures of a pair are of one prefix and from one noise, so that they differ by the words of two variants alone.
"""
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from npkit.errors import NpkitError
from npkit.study.code import short_hash

QUESTIONS = {"prettier": "Which picture is prettier?",
             "shows": "Which picture shows the prompt better?"}  # asked apart: never both on one screen
SHOWS_THE_PROMPT = ("shows",)  # questions that need it; beside the other one it would only lead the eye


@dataclass(frozen=True)
class Pair:
    """Two prompts of one prefix, by two variants, to be painted from the picture seed `seed`."""
    prefix: str
    seed: int
    first: str  # a variant
    second: str
    first_prompt: str
    second_prompt: str

    @cached_property
    def name(self) -> str:
        """A short hash of the pair's contents: two files of one study call a pair the same."""
        return short_hash(json.dumps(astuple(self)))

    @property
    def prompts(self) -> tuple[str, str]:
        return self.first_prompt, self.second_prompt

    @property
    def variants(self) -> tuple[str, str]:
        return self.first, self.second


@dataclass(frozen=True)
class Question:
    """One question to one rater: a pair, what is asked of it, and the variant whose picture stands on the left."""
    pair: Pair
    asked: str  # a key of QUESTIONS
    left: str

    @property
    def right(self) -> str:
        first, second = self.pair.variants
        return second if self.left == first else first

    @property
    def prompts(self) -> tuple[str, str]:
        """The prompts of the left and of the right picture."""
        return self.pair.prompts if self.left == self.pair.first else self.pair.prompts[::-1]


def make_pairs(rows: pd.DataFrame, variants: Sequence[str], num_prefixes: int, pairs_per_prefix: int, seed: int
               ) -> list[Pair]:
    """Return the pairs of the prompts in `rows` (columns prefix, variant, prompt, seed: a study's `scores`).

    `num_prefixes` of the prefixes, or all where there are fewer, have `pairs_per_prefix` meetings of two variants
    each. All meetings come about equally often, and `seed` alone decides which. Two equal prompts paint one picture:
    nobody could choose, so they are no pair, and another meeting takes their place.
    """
    first_seeds = rows.groupby("prefix", sort=False)["seed"].min()
    prompts = rows.drop_duplicates(["prefix", "variant"]).pivot(index="prefix", columns="variant", values="prompt")
    missing = [name for name in variants if name not in prompts]
    if missing or len(set(variants)) < 2:
        raise NpkitError(f"pairs need at least two different variants of {', '.join(map(str, prompts.columns))}, got "
                         f"{', '.join(variants) or 'none'}")
    rng, found = np.random.default_rng(seed), []
    prefixes = [prompts.index[place] for place in rng.permutation(len(prompts))[:num_prefixes]]
    meetings = list(combinations(variants, 2))
    meetings = [meetings[place] for place in rng.permutation(len(meetings))]
    for number, prefix in enumerate(prefixes):
        start = number * pairs_per_prefix % len(meetings)
        told = [Pair(prefix, int(first_seeds[prefix]), *names, *prompts.loc[prefix, list(names)])
                for names in meetings[start:] + meetings[:start]]
        found += [pair for pair in told if pair.first_prompt != pair.second_prompt][:pairs_per_prefix]
    return found


def left_of(rater: str, pair: Pair) -> str:
    """Return the variant whose picture this rater sees on the left: by a coin that rater and pair alone decide."""
    return pair.variants[_digest("side", rater, pair.name)[0] % 2]


def questions_for(rater: str, pairs: Sequence[Pair], answered: Collection[tuple[str, str]] = ()) -> list[Question]:
    """Return what a rater has not answered yet, one question after the other, each in an order of the rater's own.

    `answered` holds (name of a pair, question asked). The order is decided by the rater and the pairs alone, so that
    somebody who comes back goes on where they stopped.
    """
    blocks = sorted(QUESTIONS, key=lambda asked: _digest("block", rater, asked))
    return [Question(pair, asked, left_of(rater, pair)) for asked in blocks
            for pair in sorted(pairs, key=lambda pair: _digest("order", rater, asked, pair.name))
            if (pair.name, asked) not in answered]


def pairs_for(rater: str, pairs: Sequence[Pair], number: int = 0) -> list[Pair]:
    """Return the pairs that a rater is asked about: `number` of them, drawn by the rater's name; 0: all of them."""
    if not 0 <= number <= len(pairs):
        raise NpkitError(f"a rater is asked about 1 to {len(pairs)} of {len(pairs)} pairs, or 0 for all; got {number}")
    drawn = sorted(pairs, key=lambda pair: _digest("drawn", rater, pair.name))
    return drawn[:number or len(pairs)]


def _digest(*words: str) -> bytes:
    """Return the same random bytes for the same words, in every process (Python's `hash` is another in each)."""
    return hashlib.sha256("\0".join(words).encode()).digest()
