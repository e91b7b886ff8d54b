"""How much better than one suffix for all the best prompt of each prefix is: `python benchmarks/headroom.py`.

The public judges painted pictures. By search over one modifier or none of each category are found: the suffix that is
best on average over training prefixes, and the best suffix of each held-out prefix; both are then painted from seeds
that the search has not seen, beside a random suffix, what people wrote, and what the policies in --policy write.
"""
import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from npkit.findings.stats import paired_bootstrap
from npkit.glyphworld.corpus import generate
from npkit.glyphworld.people.public import utility
from npkit.glyphworld.vocabulary import CATEGORIES
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import to_bytes
from npkit.study.profiles import load_profile
from npkit.text import policy

SEARCH_SEED, FRESH_SEED = 10_000, 20_000  # of the pictures that a suffix is chosen by, and is measured by
ROUNDS = 2  # through all categories
MAX_NEW_TOKENS = 24
Paint = Callable[[list[str], list[int]], np.ndarray]  # prompts, seeds -> pictures


def worth(paint: Paint, prefixes: list[str], suffixes: list[str], seeds: range) -> np.ndarray:
    """Return the mean utility (n,) of the pictures of each prefix with its suffix, over `seeds`."""
    prompts = [prefix + suffix for prefix, suffix in zip(prefixes, suffixes, strict=True) for _ in seeds]
    pictures = paint(prompts, [seed for _ in prefixes for seed in seeds])
    asked = [prefix for prefix in prefixes for _ in seeds]
    return utility(pictures, asked).reshape(len(prefixes), len(seeds)).mean(1)


def suffix_of(words: dict[str, str | None]) -> str:
    return "".join(f", {word}" for word in words.values() if word)


def search(paint: Paint, prefixes: list[str], seeds: range) -> str:
    """Return the best suffix found for `prefixes`: categories in turn, each time the best word of one."""
    words: dict[str, str | None] = dict.fromkeys(CATEGORIES)
    for category in list(CATEGORIES) * ROUNDS:
        choices = [words | {category: word} for word in (None, *CATEGORIES[category])]
        suffixes = [suffix_of(choice) for choice in choices for _ in prefixes]  # painted in as few batches as can be
        values = worth(paint, prefixes * len(choices), suffixes, seeds).reshape(len(choices), -1).mean(1)
        words = choices[int(np.argmax(values))]
    return suffix_of(words)


def random_suffix(rng: np.random.Generator) -> str:
    return suffix_of({category: str(rng.choice(words)) for category, words in CATEGORIES.items()})


def load_paint(settings: dict) -> Paint:
    """Return a function that paints as `tiny` does."""
    image_model = load_image_model(load_profile("tiny", settings).images, "cpu")

    def paint(prompts: list[str], seeds: list[int]) -> np.ndarray:
        return to_bytes(image_model.render(prompts, seeds))

    return paint


def written_by(folder: Path, prefixes: list[str]) -> list[str]:
    model, tokenizer = policy.load_policy(folder)
    return policy.generate(model, tokenizer, prefixes, max_new_tokens=MAX_NEW_TOKENS, generator_seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, nargs="*", default=[], help="folders of trained policies")
    parser.add_argument("--prefixes", type=int, default=48, help="held-out prefixes; half as many training prefixes")
    parser.add_argument("--set", nargs="*", default=[], metavar="images.KEY=VALUE", help="another image model")
    args = parser.parse_args()
    torch.set_num_threads(1)
    paint = load_paint(dict(each.split("=", 1) for each in args.set))
    human = generate(3 * args.prefixes, seed=77)
    prefixes, endings = zip(*((before.rstrip(), comma + after) for before, comma, after in
                              (prompt.partition(",") for prompt in human)), strict=True)
    training, held_out = list(prefixes[:args.prefixes // 2]), list(prefixes[-args.prefixes:])
    rng, seeds = np.random.default_rng(0), range(SEARCH_SEED, SEARCH_SEED + 2)
    constant = search(paint, training, seeds)
    suffixes = {"prefix": [""] * len(held_out), "random": [random_suffix(rng) for _ in held_out],
                "human": list(endings[-args.prefixes:]), "constant": [constant] * len(held_out)}
    suffixes |= {str(folder): written_by(folder, held_out) for folder in args.policy}
    suffixes["best of each"] = [search(paint, [prefix], seeds) for prefix in held_out]
    measure = partial(worth, paint, held_out, seeds=range(FRESH_SEED, FRESH_SEED + 4))
    table = pd.DataFrame({name: measure(suffixes=texts) for name, texts in suffixes.items()})
    print(f"constant suffix: {constant}\n")
    print(pd.DataFrame({"utility": {name: str(paired_bootstrap(table[name], rng)) for name in table},
                        "over the constant suffix": {name: str(paired_bootstrap(table[name] - table["constant"], rng))
                                                     for name in table}}).to_string())


if __name__ == "__main__":
    main()
