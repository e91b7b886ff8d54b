"""Texts: what the prompts of a variant look like, without a picture: length, variety, repetition, likelihood.

A completion is what a prompt has besides its prefix; a modifier is a keyword of the profile's list in a completion.
"""
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import entropy, t

from npkit.errors import NpkitError
from npkit.findings.stats import Interval
from npkit.text.keywords import Keywords, word_pattern

if TYPE_CHECKING:
    from npkit.text.policy import Policy  # for type hints only: it imports torch, and most measures need none

BLEU_ORDER, BLEU_TEXTS = 4, 100  # up to 4-grams; of more texts the first ones are compared with each other
BLEU_MISS = 0.1  # stands for no common n-gram (method 1 of Chen and Cherry 2014, as nltk has it)
NUM_COMMONEST = 10
JACKKNIFE_GROUPS = 50
MEASURES = {  # column of the table -> what it says
    "prefix_retained": "share of the prompts with all words of the prefix, in its order",
    "words": "words added",
    "modifiers": "modifiers added",
    "living_artists": "share of the completions that name a living artist",
    "distinct_1": "different words over all words of all completions",
    "distinct_2": "the same of pairs of neighbouring words",
    "self_bleu": "4-gram BLEU of a completion against the others, mean: 1 where all are alike",
    "modifier_entropy": "bits: 1 where two modifiers share all places, 3 where eight do",
    "top_10": "share that the ten commonest modifiers have of all",
    "commonest": "share of the commonest completion",
    "perplexity": "of the completions under SFT, EOS included",
    "too_long": "share of the prompts that SFT cannot read to their end, which have no part in the perplexity",
}


# 1. Words and modifiers ----------------------------------------------------------------------------------------------
def words_of(text: str) -> list[str]:
    """Return the words of a text in small letters, without punctuation."""
    return re.findall(r"\w+", text.lower())


def completions(prompts: Sequence[str], prefixes: Sequence[str]) -> list[str]:
    """Return what each prompt has behind its prefix; all of it where it does not begin with the prefix."""
    return [prompt.removeprefix(prefix) for prompt, prefix in zip(prompts, prefixes, strict=True)]


def modifiers_in(texts: Sequence[str], words: Keywords) -> list[list[str]]:
    """Return the keywords in each text, in small letters and in order; a longer one hides those inside it."""
    pattern = word_pattern(tuple(row.phrase for rows in words.values() for row in rows))
    return [pattern.findall(text.lower()) for text in texts]


def prefix_retained(prompts: Sequence[str], prefixes: Sequence[str]) -> float:
    """Return the share of prompts in which the words of the prefix stand side by side, whatever the punctuation."""
    pairs = ((f" {' '.join(words_of(prefix))} ", f" {' '.join(words_of(prompt))} ")
             for prompt, prefix in zip(prompts, prefixes, strict=True))
    return float(np.mean([prefix in prompt for prefix, prompt in pairs]))


# 2. Variety ----------------------------------------------------------------------------------------------------------
def ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    """Return how often each run of `n` words occurs in one text."""
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Return distinct-n (Li et al. 2016): different n-grams over all n-grams of all texts; 0 where there are none.

    It falls as texts are added, so only sets of equally many texts can be compared.
    """
    counts = sum((ngrams(words, n) for words in texts), Counter())
    return len(counts) / max(1, counts.total())


def bleu(words: Sequence[str], others: Sequence[Sequence[str]], order: int = BLEU_ORDER) -> float:
    """Return BLEU (Papineni et al. 2002) of a text against several: the geometric mean of its n-gram precisions.

    An n-gram counts at most as often as the one of the others has it that has it most. Too short a text is worth less
    (the brevity penalty). Of a text with fewer than `order` words only the n-grams that it has are asked for; one
    without words is worth 1 if another has none either, else 0.
    """
    if not words:
        return float(any(not other for other in others))
    precisions = []
    for n in range(1, min(order, len(words)) + 1):
        own, found = ngrams(words, n), [ngrams(other, n) for other in others]
        common = sum(min(count, max(other[gram] for other in found)) for gram, count in own.items())
        precisions.append((common or BLEU_MISS) / own.total())
    closest = min((len(other) for other in others), key=lambda length: (abs(length - len(words)), length))
    penalty = min(0.0, 1 - closest / len(words))
    return float(np.exp(penalty + np.mean(np.log(precisions))))


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """Return the mean BLEU of each text against all others (Zhu et al. 2018), of the first `BLEU_TEXTS`: 1 if alike."""
    chosen = texts[:BLEU_TEXTS]
    return float(np.mean([bleu(words, [*chosen[:place], *chosen[place + 1:]]) for place, words in enumerate(chosen)]))


def modifier_entropy(modifiers: Sequence[Sequence[str]]) -> float:
    """Return the entropy in bits of the modifiers of all texts together; 0 where there are none."""
    counts = Counter(chain.from_iterable(modifiers))
    return float(entropy(list(counts.values()), base=2)) if counts else 0.0


def top_share(modifiers: Sequence[Sequence[str]], number: int = NUM_COMMONEST) -> float:
    """Return which share of all modifiers the `number` commonest ones are; 0 where there are none."""
    counts = Counter(chain.from_iterable(modifiers))
    return sum(count for _, count in counts.most_common(number)) / max(1, counts.total())


def jackknife(values: Sequence, statistic: Callable[[Sequence], float], groups: int = JACKKNIFE_GROUPS) -> Interval:
    """Return a statistic of all values with its 95 % interval by the delete-a-group jackknife.

    The values are dealt into groups, the statistic is taken without each group in turn, and what these results differ
    by gives the standard error (Kott 2001). A bootstrap would be wrong here: a resample repeats values, and so has
    less variety than the sample.
    """
    groups = min(groups, len(values))
    left = [statistic([value for place, value in enumerate(values) if place % groups != group])
            for group in range(groups)]
    error = np.sqrt((groups - 1) / groups * np.sum((left - np.mean(left)) ** 2))
    whole, half = statistic(values), t.ppf(0.975, groups - 1) * error
    return Interval(whole, float(whole - half), float(whole + half), len(values))


# 3. Likelihood -------------------------------------------------------------------------------------------------------
def perplexity(policy: "Policy", prefixes: Sequence[str], texts: Sequence[str]) -> tuple[float, float]:
    """Return the perplexity of completions under a policy, EOS included, and the share of prompts too long for it.

    The exponential of the mean loss over all tokens; the too long ones are left out.
    """
    from npkit.text.policy import max_tokens, sequence_logprobs
    model, tokenizer = policy
    num_tokens = [len(ids) + 1 for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    starts = map(len, tokenizer(list(prefixes))["input_ids"])
    rows = [(prefix, text, length) for prefix, text, length, start in
            zip(prefixes, texts, num_tokens, starts, strict=True) if start + length <= max_tokens(model)]
    if not rows:
        raise NpkitError(f"all {len(texts)} prompts are longer than the policy's {max_tokens(model)} tokens")
    kept, read, lengths = zip(*rows, strict=True)
    loss = -sum(sequence_logprobs(model, tokenizer, kept, read))
    return float(np.exp(loss / sum(lengths))), 1 - len(rows) / len(texts)


# 4. The table --------------------------------------------------------------------------------------------------------
def measures(prompts: Sequence[str], prefixes: Sequence[str], words: Keywords, policy: "Policy") -> dict[str, float]:
    """Return the `MEASURES` of one variant's prompts, and the ends of the entropy's interval."""
    written = completions(prompts, prefixes)
    split, modifiers = [words_of(text) for text in written], modifiers_in(written, words)
    living = {row.phrase.lower() for rows in words.values() for row in rows if row.living_artist}
    likelihood, too_long = perplexity(policy, prefixes, written)
    bits = jackknife(modifiers, modifier_entropy)
    found = (prefix_retained(prompts, prefixes), np.mean(list(map(len, split))), np.mean(list(map(len, modifiers))),
             np.mean([bool(living & set(phrases)) for phrases in modifiers]), distinct(split, 1), distinct(split, 2),
             self_bleu(split), bits.mean, top_share(modifiers),
             Counter(map(tuple, split)).most_common(1)[0][1] / len(split), likelihood, too_long)
    return dict(zip(MEASURES, map(float, found), strict=True)) | {"entropy_low": bits.low, "entropy_high": bits.high}


def text_table(prompts: Mapping[str, Sequence[str]], prefixes: Sequence[str], words: Keywords,
               policy: "Policy") -> pd.DataFrame:
    """Return a row a variant with its `measures`; `policy` is SFT's."""
    return pd.DataFrame([{"variant": variant} | measures(texts, prefixes, words, policy)
                         for variant, texts in prompts.items()])


def flat_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return the manifest's metrics of a `text_table`, such as "text_self_bleu/ppo"."""
    return {f"text_{name}/{row['variant']}": round(float(row[name]), 6)
            for row in table.to_dict("records") for name in MEASURES}
