"""Variants: the ways to make a prompt of a test prefix that evaluation compares, and the prompts of the eight."""
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from datasets import Dataset

from npkit.errors import NpkitError
from npkit.text.corpus import fold

VARIANTS = ("prefix", "human", "sft", "sft+beam", "sft+nl", "ppo", "ppo+beam", "ppo+nl")
DECODED = ("beam", "nl")  # by notebook 05: the likeliest completion, and the likeliest under the default clauses
Sampler = Callable[[Sequence[str]], list[str]]  # prefixes -> completions
Fits = Callable[[Sequence[str]], list[bool]]


def test_prefixes(dataset: Dataset, num_prefixes: int, seed: int, fits: Fits | None = None) -> list[str]:
    """Return `num_prefixes` different prefixes of the test split, in an order that depends on the seed alone.

    `fits` says of prefixes which ones the policy can read (`policy.fits`); the others are left out.
    """
    rows = zip(dataset["prefix"], dataset["split"], strict=True)
    prefixes = sorted({fold(prefix): prefix for prefix, split in sorted(rows) if split == "test"}.values())
    if fits:
        prefixes = [prefix for prefix, readable in zip(prefixes, fits(prefixes), strict=True) if readable]
    if len(prefixes) < num_prefixes:
        raise NpkitError(f"evaluation.num_prefixes is {num_prefixes}, but the test split has {len(prefixes)} different "
                         "prefixes: lower it, raise data.test_share or use a larger corpus")
    return [prefixes[index] for index in np.random.default_rng(seed).permutation(len(prefixes))[:num_prefixes]]


def human_prompts(dataset: Dataset, prefixes: Sequence[str]) -> list[str]:
    """Return for each prefix the first prompt of the test split that a person made of it."""
    first = {}
    for prefix, prompt, split in zip(dataset["prefix"], dataset["prompt"], dataset["split"], strict=True):
        if split == "test":
            first.setdefault(prefix, prompt)
    return [first[prefix] for prefix in prefixes]


def decoded_prompts(decoded: pd.DataFrame, variant: str, prefixes: Sequence[str]) -> list[str]:
    """Return the prompts that notebook 05 decoded for a variant, in the order of `prefixes`."""
    rows = decoded[decoded["variant"] == variant].drop_duplicates("prefix").set_index("prefix")["completion"]
    missing = [prefix for prefix in prefixes if prefix not in rows.index]
    if missing:
        raise NpkitError(f"decoded.parquet has no {variant} prompt for {len(missing)} of {len(prefixes)} test prefixes "
                         f"(first: {missing[0]!r}): run notebook 05_neurologic_decoding with the same settings")
    return [prefix + rows[prefix] for prefix in prefixes]


def prompts_for_variants(prefixes: Sequence[str], dataset: Dataset, samplers: Mapping[str, Sampler],
                         decoded: pd.DataFrame) -> dict[str, list[str]]:
    """Return variant -> one prompt for each prefix.

    `samplers` maps "sft" and "ppo" to `policy.generate` with everything but the prefixes filled in; `decoded` is the
    table of notebook 05 with the prompts of each policy's `DECODED` variants, "sft+nl" being one.
    """
    prompts = {"prefix": list(prefixes), "human": human_prompts(dataset, prefixes)}
    for variant, sample in samplers.items():
        prompts[variant] = [prefix + completion for prefix, completion in zip(prefixes, sample(prefixes), strict=True)]
        prompts |= {f"{variant}+{way}": decoded_prompts(decoded, f"{variant}+{way}", prefixes) for way in DECODED}
    return {variant: prompts[variant] for variant in VARIANTS}
