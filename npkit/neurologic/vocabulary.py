"""Vocabulary: the tokens of a byte-level tokenizer as the bytes they write, and the spellings of phrases."""
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from npkit.errors import NpkitError
from npkit.neurologic.constraints import INVISIBLE, find_part, squeeze

# Classes of a byte: ASCII word byte; first byte of a character that is not ASCII, and may be a letter or not; any other
# ASCII; later byte of a character; first byte of an accented or foreign letter.
WORD, FOREIGN, BREAK, INSIDE, LETTER = range(5)
END = 256                                # fills up the bytes of short tokens
MAX_TOKEN_BYTES = 32                     # longer tokens are runs of dashes and debris: never written

CONTROL = frozenset([*range(32), 127])  # a prompt is one line
BYTE_CLASS = np.full(256, BREAK)
BYTE_CLASS[[byte for byte in range(128) if chr(byte).isalnum() or chr(byte) == "_"]] = WORD
BYTE_CLASS[128:192], BYTE_CLASS[192:] = INSIDE, FOREIGN

SPACES = [char for char in map(chr, range(0x3001)) if char.isspace() and not char.isascii()]

# First bytes of two-byte characters that are letters, as "é" and "ж": to second bytes of the few that are none, as "×".
LETTERS = {first: tuple(byte for byte in range(0x80, 0xC0) if not bytes([first, byte]).decode().isalnum())
           for first in range(0xC2, 0xE0)}
LETTERS = {first: others for first, others in LETTERS.items() if len(others) < 3}
NO_LETTERS = [bytes([first, byte]).decode() for first, others in LETTERS.items() for byte in others]
BYTE_CLASS[list(LETTERS)] = LETTER

# Beginnings of a character in UTF-8 (RFC 3629): its first bytes, those that may be second, and how many are to come.
# The first three rows stand also for what is left after a second byte.
HALVES = ((range(0xC2, 0xE0), range(0x80, 0xC0), 1), (range(0xE1, 0xF0), range(0x80, 0xC0), 2),
          (range(0xF1, 0xF4), range(0x80, 0xC0), 3), (range(0xE0, 0xE1), range(0xA0, 0xC0), 2),
          (range(0xED, 0xEE), range(0x80, 0xA0), 2), (range(0xF0, 0xF1), range(0x90, 0xC0), 3),
          (range(0xF4, 0xF5), range(0x80, 0x90), 3))
HALF_A_CHARACTER, NO_CHARACTER = 3, -1  # the first state of half a character; before it: WORD, FOREIGN and BREAK


def _utf8() -> np.ndarray:
    """Return the state (states, 257) after a byte: a class behind a whole character, a letter's WORD, or a half."""
    kinds = sorted(set(LETTERS.values()))  # of letters, by those among them that are none
    letters = HALF_A_CHARACTER + len(HALVES)
    after = np.full((letters + len(kinds), 257), NO_CHARACTER)
    after[:, END] = np.arange(len(after))
    after[:HALF_A_CHARACTER, :128] = BYTE_CLASS[:128]
    for state, (first, second, to_come) in enumerate(HALVES, HALF_A_CHARACTER):
        after[:HALF_A_CHARACTER, first] = state
        after[state, second] = FOREIGN if to_come == 1 else HALF_A_CHARACTER + to_come - 2
    for state, others in enumerate(kinds, letters):
        after[:HALF_A_CHARACTER, [first for first in LETTERS if LETTERS[first] == others]] = state
        after[state, 0x80:0xC0] = WORD
        after[state, list(others)] = FOREIGN
    return after


UTF8 = _utf8()
_, KINDS, KIND = np.unique(UTF8[:, :END], axis=1, return_index=True, return_inverse=True)  # a byte of each kind that it
                                                                                          # tells apart; kinds of bytes


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a byte-level tokenizer, as the bytes they write."""
    tokenizer: PreTrainedTokenizerBase
    token_bytes: Tensor  # (tokens, most bytes), filled up with END
    first_class: Tensor  # (tokens,) class of the token's first byte
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


@cache
def _byte_of_character() -> dict[str, int]:
    return {char: byte for byte, char in bytes_to_unicode().items()}


def _bytes_of(token: str) -> bytes:
    alphabet = _byte_of_character()
    if not alphabet.keys() >= set(token):
        raise NpkitError(f"token {token!r} is not spelled in bytes: NeuroLogic decoding takes byte-level tokenizers, "
                         "such as GPT-2's")
    return bytes(alphabet[char] for char in token)


# Forms and spellings --------------------------------------------------------------------------------------------------
@cache
def written_forms(phrase: str) -> tuple[str, ...]:
    """Return the spellings in which a wanted phrase may be written: as given, in small letters, Capitalised.

    And "8k" as "8K", "3d render" as "3D render": whoever writes that has written it, and need not write it again.
    """
    forms = [squeeze(phrase), squeeze(phrase.lower()), string.capwords(phrase)]
    forms += [re.sub(r"(?<=[0-9])[a-z]\b", lambda letter: letter[0].upper(), form) for form in forms]
    forms = dict.fromkeys(forms)
    return tuple(form for form in forms if find_part(phrase, form))  # "İ" in small letters is another word to `re`


@lru_cache(maxsize=50_000)
def short_forms(phrase: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return `phrase` as given, and those of its written forms that the tokenizer spells in fewer tokens."""
    given, *others = written_forms(phrase)
    length = {form: len(vocabulary.tokenizer.encode(" " + form, add_special_tokens=False)) for form in (given, *others)}
    return given, *(form for form in others if length[form] < length[given])


def smugglers(phrases: Sequence[str], avoids: bool) -> list[str]:
    """Return what is never written, lest a banned phrase be written with it: blanks other than one plain space, and
    what looks to a machine like a letter, as "×" after its first byte, unless one of `phrases` has it.
    """
    hidden = [char for char in (*INVISIBLE, *NO_LETTERS) if avoids and not any(char in phrase for phrase in phrases)]
    return ["  ", *SPACES, *hidden]


def no_letters(phrases: Sequence[str]) -> list[str]:
    """Return what may follow a phrase to avoid: nothing yet, or what `phrases` have of `NO_LETTERS`."""
    return ["", *(char for char in NO_LETTERS if any(char in phrase for phrase in phrases))]


@cache
def spellings(char: str) -> tuple[bytes, ...]:
    """Return the bytes of a character in any case, the shortest first; to `re`, "k" is also the Kelvin sign."""
    found = {char, *re.findall(re.escape(char), _cased(), re.IGNORECASE)}
    return tuple(sorted((each.encode() for each in found), key=lambda each: (len(each), each)))


@cache
def _cased() -> str:
    return "".join(char for char in map(chr, range(0x20000)) if char.lower() != char.upper())
