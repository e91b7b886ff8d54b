"""Six clauses and eight bans on real prompts, by our decoder and as published: `python benchmarks/coverage.py`.

A policy is trained on the prompts (kept in --work, so that a second call only decodes), and held-out prefixes are
continued at the same beam by each decoder. Printed are the shares of clauses and of prompts satisfied, bans broken,
the log-probability per token in nats, and the share of prompts that say a phrase between commas twice.
"""
import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, load_from_disk

from npkit.neurologic import Decoded, decode, default_clauses, find, merge
from npkit.study.profiles import Profile, load_profile, override
from npkit.text import corpus, keywords
from npkit.text.policy import Policy, load_policy
from npkit.training import sft

BANNED = ("8k", "highly detailed", "trending on artstation", "text", "blurry", "watermark", "signature", "out of frame")


def profile_of(prompts: str) -> Profile:
    """Return the tiny profile on a file of real prompts, with the real keywords and room for them."""
    return load_profile("tiny", {"data.source": prompts, "policy.vocab_size": 4096, "policy.max_prompt_tokens": 160,
                                 "policy.max_prefix_tokens": 64, "sft.num_epochs": 4,
                                 "neurologic.keywords": "npkit/text/keywords.toml"})


def trained(profile: Profile, work: Path) -> tuple[Policy, Dataset]:
    """Return the policy trained on the prompts and their splits; a training that was cut short goes on."""
    if not (work / "data").is_dir():
        load_dataset, _ = corpus.prepare(profile.data, seed=0)
        load_dataset.save_to_disk(work / "data")
    dataset = load_from_disk(work / "data")
    if not (work / "policy/metrics.jsonl").is_file():
        (work / "policy").mkdir(exist_ok=True)
        sft.write_policy(dataset, profile, 0, work / "policy", work / "checkpoints", torch.device("cpu"),
                         [sft.ProgressLines(50)])
    return load_policy(work / "policy/model"), dataset


def clear_prefixes(dataset: Dataset, number: int) -> list[str]:
    """Return different test prefixes that say nothing banned."""
    prefixes = dict.fromkeys(row["prefix"].strip() for row in dataset if row["split"] == "test")
    return [prefix for prefix in prefixes if prefix and len(prefix) < 120
            and not any(find(phrase, prefix) for phrase in BANNED)][:number]


def says_twice(prompt: str) -> bool:
    """Say whether a phrase between commas occurs twice."""
    phrases = [phrase.strip().lower() for phrase in prompt.split(",") if phrase.strip()]
    return len(set(phrases)) < len(phrases)


def measured(found: list[Decoded]) -> dict[str, float]:
    """Return one row of the table."""
    clauses = [clause.holds for each in found for clause in each.certificate.clauses]
    return {"clauses": np.mean(clauses), "prompts": np.mean([each.certificate.holds for each in found]),
            "bans broken": sum(len(each.certificate.violations) for each in found),
            "logprob/token": sum(each.logprob for each in found) / sum(each.num_tokens for each in found),
            "mean of prompts": np.mean([each.logprob / each.num_tokens for each in found]),
            "tokens": np.mean([each.num_tokens for each in found]),
            "says twice": np.mean([says_twice(each.prompt) for each in found])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", default="../shared/prompts/diffusiondb_prompts.jsonl")
    parser.add_argument("--work", type=Path, default=Path("artifacts/benchmarks/coverage"))
    parser.add_argument("--prefixes", type=int, default=500)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    profile = profile_of(args.prompts)
    policy, dataset = trained(profile, args.work)
    prefixes = clear_prefixes(dataset, args.prefixes)
    defaults = default_clauses(keywords.load(profile.neurologic.keywords), 5, np.random.default_rng(0))
    constraints = merge(defaults, {}, exclude=BANNED)  # a default keyword that is banned steps aside
    base = override(profile.neurologic, beam_size=args.beam, max_new_tokens=args.new_tokens)
    decoders = {"ours, by log-probability": base, "ours, per token": override(base, length_penalty=1.0),
                "lu2021": override(base, compat="lu2021"), "neuroprompts": override(base, compat="neuroprompts")}
    print(f"{len(prefixes)} prefixes, beam {args.beam}, at most {args.new_tokens} new tokens, 6 clauses, 8 bans")
    rows, examples = {}, {}
    for name, config in decoders.items():
        found = decode(*policy, prefixes, constraints, config)
        rows[name], examples[name] = measured(found), found[0].prompt
    print(pd.DataFrame(rows).T.round(3).to_string())
    for name, prompt in examples.items():
        print(f"{name}: {prompt}")


if __name__ == "__main__":
    main()
