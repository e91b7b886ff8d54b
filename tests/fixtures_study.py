"""A study without a training: the artifacts of sft and ppo of the settings as they are, with random policies."""
from pathlib import Path

import torch

from npkit.glyphworld.corpus import generate
from npkit.study.artifacts import open_run
from npkit.study.profiles import PolicyConfig
from npkit.text.policy import build_policy, save_policy

SIZES = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=1024, max_prompt_tokens=192)


def toy_policy(folder: Path, seed: int) -> dict[str, float]:
    """Write a policy with random weights, whose tokenizer knows GlyphWorld's words; return its metrics."""
    torch.manual_seed(seed)
    save_policy(*build_policy(SIZES, generate(2000, 0), seed), folder / "model")
    return {"toy": float(seed)}


def make_toy_study() -> None:
    """Write artifacts of sft and ppo where `npkit.start` finds them, in $NPKIT_HOME."""
    for seed, stage in enumerate(("sft", "ppo")):
        open_run(stage, "tiny").make(lambda folder, seed=seed: toy_policy(folder, seed))
