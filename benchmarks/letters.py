"""Required phrases whose letters take several tokens: are they written at once? `python benchmarks/letters.py`.

Names with diacritics, Chinese and Japanese words, emoji: a byte-level tokenizer spells their letters in up to four
tokens. Each phrase is required alone; printed is how many nats the decoded text loses against the best of "the phrase
at once behind a comma, in one of its spellings, then the end", and how often a part is repeated.
"""
import argparse

import numpy as np
import pandas as pd
import torch

from npkit.glyphworld.corpus import generate
from npkit.neurologic import Constraints, any_of, decode
from npkit.neurologic.vocabulary import written_forms
from npkit.study.profiles import NeurologicConfig, load_profile, override
from npkit.text.policy import Policy, build_policy, load_policy, sequence_logprobs

FIRST = ["rené", "józef", "françois", "björn", "øyvind", "zdzisław", "łukasz", "jiří", "çetin", "ángel", "émile",
         "ögmundur", "théophile", "søren", "mikalojus", "władysław", "dušan", "šime", "nüshu", "georgia o’"]
LAST = ["magritte", "chełmoński", "müller", "ångström", "beksiński", "čiurlionis", "lévy", "muñoz", "güler", "mærsk"]
WORDS = ["水彩画", "浮世絵", "油絵", "城", "大きな木", "夜景", "写真", "墨絵", "漫画", "красный", "акварель", "портрет",
         "مرحبا", "ألوان", "पेंटिंग", "สีน้ำ", "한국화", "수채화", "ζωγραφική", "τέχνη", "ציור", "naïve café",
         "l’été", "mañana", "déjà vu",
         "smörgåsbord", "crème brûlée", "Ærø", "Łódź", "Dvořák"]
EMOJI = ["🔥", "🎨", "👩‍🎨", "🌊", "🏰", "🦊", "✨", "🌸", "❤️", "🇫🇷", "⛰️", "🌈",
         "🐉", "🧙‍♂️", "📷", "🎭", "☀️", "🌙", "⚡", "🍄"]
PREFIXES = ["a fox", "a castle on the hill", "an old man", "portrait of a woman"]


def phrases(number: int) -> list[str]:
    """Return different phrases, names, words and emoji alone and in pairs."""
    names = [f"{first} {last}" for last in LAST for first in FIRST]
    pairs = [f"{word} {emoji}" for emoji in EMOJI[:3] for word in WORDS]
    return [*WORDS, *EMOJI, *pairs, *names][:number]


def untrained(vocab_size: int, prompts: str) -> Policy:
    """Return the tiny policy with random weights and a tokenizer of `vocab_size` tokens trained on `prompts`."""
    texts = pd.read_json(prompts, lines=True)["prompt"] if prompts else generate(20_000, seed=0)
    config = override(load_profile("tiny").policy, vocab_size=vocab_size)
    model, tokenizer = build_policy(config, texts, seed=0)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(8)  # far from uniform: some tokens are much dearer than others
    return model.eval(), tokenizer


def losses(policy: Policy, wanted: list[str], config: NeurologicConfig) -> pd.DataFrame:
    """Return for each phrase what its text loses against writing it at once, in nats, and whether it repeats a part."""
    prefixes = [PREFIXES[number % len(PREFIXES)] for number in range(len(wanted))]
    sets = [Constraints((("c", any_of(phrase)),)) for phrase in wanted]
    found = decode(*policy, prefixes, sets, config)
    at_once = [max(sequence_logprobs(*policy, [prefix] * len(forms), [f", {form}" for form in forms]))
               for prefix, forms in zip(prefixes, map(written_forms, wanted))]
    repeats = [len(set(parts)) < len(parts) for each in found if (parts := each.prompt.lower().split(", "))]
    assert all(each.certificate.holds for each in found)
    return pd.DataFrame({"phrase": wanted, "lost": np.array(at_once) - [each.logprob for each in found],
                         "repeats": repeats, "prompt": [each.prompt for each in found]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="", help="a folder; left out, untrained policies of the sizes below")
    parser.add_argument("--vocab-sizes", default="1024,8192")
    parser.add_argument("--prompts", default="", help="JSONL their tokenizers learn from; left out, GlyphWorld")
    parser.add_argument("--phrases", type=int, default=300)
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--beam", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = NeurologicConfig(max_new_tokens=args.new_tokens, beam_size=args.beam)
    policies = {args.policy: load_policy(args.policy)} if args.policy else {
        f"untrained, {size} tokens": untrained(int(size), args.prompts) for size in args.vocab_sizes.split(",")}
    for name, policy in policies.items():
        table = losses(policy, phrases(args.phrases), config)
        print(f"{name}: {len(table)} phrases, {(table['lost'] <= 10).sum()} within 10 nats, most lost "
              f"{table['lost'].max():.1f}, repeats {table['repeats'].sum()}")
        print(table.nlargest(5, "lost").to_string(index=False))


if __name__ == "__main__":
    main()
