"""Clauses and eight bans on real prompts, by our decoder and as published: `python benchmarks/coverage.py`.

A policy is trained on the prompts (kept in --work, so that a second call only decodes) or read from --policy, and
held-out prefixes are continued at the same beam by each decoder. Printed are the shares of clauses and of prompts
satisfied, bans broken, the log-probability per token in nats, and, read off the texts by splitting them at commas: the
share of clauses that a part of its own meets (or the user's own words do), required phrases glued to other words, met
by words that another clause takes as well, and written more than once.
"""
import argparse
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, load_from_disk

from npkit.neurologic import Constraints, Decoded, default_clauses, find, merge
from npkit.neurologic.published import decode_as_set
from npkit.study.profiles import NeurologicConfig, Profile, load_profile, override
from npkit.text import corpus, keywords
from npkit.text.policy import Policy, fits, load_policy, max_tokens
from npkit.training import sft

BANNED = ("8k", "highly detailed", "trending on artstation", "text", "blurry", "watermark", "signature", "out of frame")


def profile_of(prompts: str) -> Profile:
    """Return the tiny profile on a file of real prompts, with the real keywords and room for them."""
    return load_profile("tiny", {"data.source": prompts, "policy.vocab_size": 4096, "policy.max_prompt_tokens": 160,
                                 "policy.max_prefix_tokens": 64, "sft.num_epochs": 4,
                                 "neurologic.keywords": "npkit/text/keywords.toml"})


def prepared(profile: Profile, work: Path) -> Dataset:
    """Return the prompts with their splits, kept from one call to the next."""
    if not (work / "data").is_dir():
        corpus.prepare(profile.data, seed=0)[0].save_to_disk(work / "data")
    return load_from_disk(work / "data")


def trained(dataset: Dataset, profile: Profile, work: Path) -> Policy:
    """Return the policy trained on the prompts; a training that was cut short goes on."""
    if not (work / "policy/metrics.jsonl").is_file():
        (work / "policy").mkdir(exist_ok=True)
        sft.write_policy(dataset, profile, 0, work / "policy", work / "checkpoints", torch.device("cpu"),
                         [sft.ProgressLines(50)])
    return load_policy(work / "policy/model")


def clear_prefixes(dataset: Dataset, number: int) -> list[str]:
    """Return different test prefixes that say nothing banned."""
    prefixes = dict.fromkeys(row["prefix"].strip() for row in dataset if row["split"] == "test")
    return [prefix for prefix in prefixes if prefix and len(prefix) < 120
            and not any(find(phrase, prefix) for phrase in BANNED)][:number]


def parts_of(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",")]


def places(phrase: str, text: str) -> list[tuple[int, int]]:
    """Return where `phrase` stands in `text` as whole words, in any case."""
    return [match.span() for match in re.finditer(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE)]


def faults(found: Decoded) -> dict[str, int]:
    """Return how many clauses no part of its own meets, and how many phrases are glued, fused, or written twice."""
    unmet, glued, twice, spans = 0, 0, 0, []
    written = parts_of(found.prompt)
    for clause in found.certificate.clauses:
        by_user = any(places(phrase, found.prefix) for phrase in clause.any_of)
        own = [phrase for phrase in clause.any_of if phrase.lower() in written]
        unmet += not own and not by_user
        glued += not own and not by_user and any(places(phrase, found.completion) for phrase in clause.any_of)
        twice += sum(written.count(phrase.lower()) > 1 or bool(places(phrase, found.prefix)) and phrase.lower() in
                     parts_of(found.completion) for phrase in clause.any_of)
        spans += [(clause.start, clause.end)] if clause.start is not None and clause.end > len(found.prefix) else []
    spans.sort()
    fused = sum(first[1] > second[0] for first, second in itertools.pairwise(spans))
    return {"no own part": unmet, "glued": glued, "fused": fused, "twice": twice}


def measured(found: list[Decoded]) -> dict[str, float]:
    """Return one row of the table."""
    clauses = [clause.holds for each in found for clause in each.certificate.clauses]
    rows = pd.DataFrame([faults(each) for each in found]).sum()
    return {"unmet clauses": clauses.count(False), "prompts": np.mean([each.certificate.holds for each in found]),
            "bans broken": sum(len(each.certificate.violations) for each in found), **rows,
            "own part": 1 - rows["no own part"] / max(1, len(clauses)),
            "logprob/token": sum(each.logprob for each in found) / sum(each.num_tokens for each in found),
            "tokens": np.mean([each.num_tokens for each in found])}


def readable(policy: Policy, prefixes: list[str], new_tokens: int) -> list[str]:
    """Return the prefixes that the policy can read beside a completion; say how many it cannot."""
    model, tokenizer = policy
    good = [prefix for prefix, fit in zip(prefixes, fits(tokenizer, prefixes, max_tokens(model) - new_tokens)) if fit]
    print(f"{len(prefixes) - len(good)} of {len(prefixes)} prefixes are longer than the policy reads")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", default="../shared/prompts/diffusiondb_prompts.jsonl")
    parser.add_argument("--work", type=Path, default=Path("artifacts/benchmarks/coverage"))
    parser.add_argument("--policy", help="a folder; left out, one is trained")
    parser.add_argument("--decoders", default="ours,ours per token,lu2021,neuroprompts")
    parser.add_argument("--clauses", type=int, default=6, help="of the six categories, so many")
    parser.add_argument("--prefixes", type=int, default=500)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    profile = profile_of(args.prompts)
    dataset = prepared(profile, args.work)
    policy = load_policy(args.policy) if args.policy else trained(dataset, profile, args.work)
    prefixes = readable(policy, clear_prefixes(dataset, args.prefixes), args.new_tokens)
    defaults = default_clauses(keywords.load(profile.neurologic.keywords), 5, np.random.default_rng(0), BANNED)
    constraints = merge(dict(list(defaults.items())[:args.clauses]), {}, exclude=BANNED)
    base = override(profile.neurologic, beam_size=args.beam, max_new_tokens=args.new_tokens)
    decoders = {"ours": base, "ours per token": override(base, length_penalty=1.0),
                "lu2021": override(base, compat="lu2021"), "neuroprompts": override(base, compat="neuroprompts")}
    print(f"{len(prefixes)} prefixes, beam {args.beam}, at most {args.new_tokens} new tokens, {args.clauses} clauses, "
          "8 bans")
    report(policy, prefixes, constraints, {name: decoders[name] for name in args.decoders.split(",")})


def report(policy: Policy, prefixes: list[str], constraints: Constraints,
           decoders: dict[str, NeurologicConfig]) -> None:
    """Print a row a decoder, and the first prompt of each."""
    rows, examples = {}, {}
    for name, config in decoders.items():
        found = decode_as_set(*policy, prefixes, constraints, config)
        rows[name], examples[name] = measured(found), found[0].prompt
    print(pd.DataFrame(rows).T.round(3).to_string())
    for name, prompt in examples.items():
        print(f"{name}: {prompt}")


if __name__ == "__main__":
    main()
