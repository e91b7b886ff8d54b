"""Baselines: prompts that took no training, to tell what modifiers, their choice or a judge's choice bring alone."""
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from datasets import Dataset

from npkit.findings.evaluation import BASELINES, GROUP
from npkit.findings.texts import modifiers_in
from npkit.findings.variants import Sampler
from npkit.text.keywords import Keywords

if TYPE_CHECKING:
    from npkit.scoring.rewards import Scorer  # for type hints only

NUM_BOOSTERS = 3  # of the fixed suffix


# 1. Without a model --------------------------------------------------------------------------------------------------
def boosters(words: Keywords) -> list[str]:
    """Return the boosters that people use most; of a list without that category, its most used keywords."""
    rows = words.get("booster") or sorted((row for rows in words.values() for row in rows), key=lambda row: -row.count)
    return [row.phrase for row in rows[:NUM_BOOSTERS]]


def modifiers_of_people(dataset: Dataset, words: Keywords) -> list[list[str]]:
    """Return for each prompt of the SFT split the keywords in its completion: nothing of the test split is read."""
    rows = zip(dataset["completion"], dataset["split"], strict=True)
    return modifiers_in([completion for completion, split in rows if split == "sft"], words)


def draw_modifiers(prefixes: Sequence[str], people: Sequence[Sequence[str]], seed: int,
                   by_frequency: bool = False) -> list[str]:
    """Return each prefix with modifiers drawn from those of `people`, as many as one of them, drawn as well, used.

    Every modifier is as likely as another, or `by_frequency` as likely as people use it; none comes twice. Each prefix
    has a generator of its own, so that its prompt depends on no other; both ways to draw give it the same number. Where
    people used none of the keywords, nothing is added.
    """
    counts = Counter(phrase for phrases in people for phrase in phrases)
    if not counts:
        return list(prefixes)
    phrases = sorted(counts)
    shares = np.array([counts[phrase] for phrase in phrases]) / counts.total() if by_frequency else None
    prompts = []
    for prefix in prefixes:
        rng = np.random.default_rng((seed, zlib.crc32(prefix.encode())))
        number = len(set(people[rng.integers(len(people))]))
        prompts.append(", ".join([prefix, *rng.choice(phrases, number, replace=False, p=shares)]))
    return prompts


# 2. With the judge's choice ------------------------------------------------------------------------------------------
class BestOfN(NamedTuple):
    """The prompts of which the judge thought best, and the number of pictures that it had to look at for that."""
    prompts: list[str]
    num_pictures: int


def choosing_seed(seed: int) -> int:
    """Return the picture seed by which the best of n is chosen, far from those of PPO's and of evaluation's pictures.

    Chosen and evaluated by the same picture, the best of n would be partly the luckiest of n.
    """
    return 1_000_000 * (seed + 1) + 750_000


def best_of_n(prefixes: Sequence[str], sample: Sampler, scorer: "Scorer", *, weights: Mapping[str, float], n: int,
              seed: int) -> BestOfN:
    """Return for each prefix the best of `n` sampled prompts by the judges that pay PPO (judge -> weight).

    A sampler that draws anew for a prefix that comes again (`policy.generate`) draws first what a single call draws:
    variant `sft` is one of the n.
    """
    drawn = [prefix + completion for prefix, completion in
             zip([*prefixes] * n, sample([*prefixes] * n), strict=True)]
    candidates = [drawn[place::len(prefixes)] for place in range(len(prefixes))]
    best = []
    for number, start in enumerate(range(0, len(prefixes), GROUP)):
        part, asked = candidates[start:start + GROUP], prefixes[start:start + GROUP]
        scores = scorer.scores([prefix for prefix in asked for _ in range(n)], [each for row in part for each in row],
                               choosing_seed(seed) + number, list(weights))
        pay = sum(weight * scores[name] for name, weight in weights.items()).reshape(-1, n)
        best += [row[index] for row, index in zip(part, pay.argmax(1).tolist(), strict=True)]
    return BestOfN(best, sum(len(set(row)) for row in candidates))


# 3. All of them ------------------------------------------------------------------------------------------------------
def baseline_prompts(prefixes: Sequence[str], dataset: Dataset, words: Keywords, best: Sequence[str],
                     seed: int) -> dict[str, list[str]]:
    """Return baseline -> one prompt for each prefix; `best` are the prompts of `best_of_n`."""
    people = modifiers_of_people(dataset, words)
    suffix = ", ".join(["", *boosters(words)])
    found = ([prefix + suffix for prefix in prefixes], draw_modifiers(prefixes, people, seed),
             draw_modifiers(prefixes, people, seed, by_frequency=True), list(best))
    return dict(zip(BASELINES, found, strict=True))
