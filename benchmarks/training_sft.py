"""SFT on packed against padded rows: `python benchmarks/training.py sft`.

Processor time, both sides in turn in one process, medians over the rounds; exit code 1 where a target is missed.
"""
import argparse
import copy
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from datasets import disable_progress_bars
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.utils import logging

from npkit.study.profiles import DataConfig, load_profile, override
from npkit.text import corpus
from npkit.text.policy import Policy, build_policy, evaluating
from npkit.training import sft
from npkit.training.packed_attention import attending_by_prompt

SFT_TARGET, SFT_TOLERANCE = 1.8, 1e-6  # packed over padded, in real tokens a second; their losses, in nats a token


# 1. SFT: packed rows against padded batches --------------------------------------------------------------------------
def sft_trainer(policy: Policy, sequences: list[list[int]], config, packing: bool, folder: str) -> sft.SFTTrainer:
    """Return the kit's trainer of a copy of the policy, for one epoch without checkpoints."""
    model, tokenizer = policy
    max_tokens = model.config.max_position_embeddings
    return sft.build_trainer(copy.deepcopy(model), tokenizer, sequences, config, packing=packing, seed=0,
                             folder=Path(folder), max_prompt_tokens=max_tokens)


def train_seconds(policy: Policy, sequences: list[list[int]], config, packing: bool) -> tuple[float, float]:
    """Return the processor seconds of one epoch, those of packing or padding's preparation included, and the loss."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        trainer = sft_trainer(policy, sequences, config, packing, folder)
        loss = trainer.train().training_loss
        return time.process_time() - started, loss


@torch.no_grad()
def losses_by_prompt(policy: Policy, sequences: list[list[int]], config, packing: bool) -> dict[tuple, Tensor]:
    """Return the losses (time - 1,) of each distinct prompt's tokens, as the trainer lays prompts out in batches."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        trainer = sft_trainer(policy, sequences, config, packing, folder)
        for batch in trainer.get_train_dataloader():
            labels = batch.pop("labels")
            with evaluating(trainer.model), attending_by_prompt(trainer.model) if packing else nullcontext():
                logits = trainer.model(**batch, use_cache=False).logits
            rows = cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100)
            for ids, targets, row in zip(batch["input_ids"], labels, rows, strict=True):
                found |= cut_prompts(ids.tolist(), targets, row, policy[1].eos_token_id)
    return found


def cut_prompts(ids: list[int], labels: Tensor, losses: Tensor, eos_token_id: int) -> dict[tuple, Tensor]:
    """Return the losses of each prompt of one row, which ends with EOS; padding after the last EOS is left out."""
    found, start = {}, 0
    for end in [place + 1 for place, token in enumerate(ids) if token == eos_token_id]:
        found[tuple(ids[start:end])] = losses[start:end - 1]
        start = end
    return found


def sft_against_padding(args: argparse.Namespace) -> bool:
    """Print the speeds and losses of both ways; say whether the targets are met."""
    disable_progress_bars()
    logging.disable_progress_bar()
    profile = load_profile("tiny")
    prompts = corpus.read_prompts(DataConfig(source=args.source), seed=0)["prompt"].tolist()
    policy = build_policy(profile.policy, prompts, seed=0)
    encoded = sft.encode_prompts(policy[1], prompts[:args.prompts], profile.policy.max_prompt_tokens)
    sequences = [row for row in encoded if row[-1] == policy[1].eos_token_id]
    config = override(profile.sft, num_epochs=1, save_steps=10**9)
    lengths = [len(row) for row in sequences]
    print(f"{len(sequences)} prompts of {args.source}, {sum(lengths)} tokens, mean {sum(lengths) / len(lengths):.1f}, "
          f"longest {max(lengths)}; batch_size {config.batch_size}; {policy[0].num_parameters():,} weights, "
          f"attention {policy[0].config._attn_implementation}, {args.threads} thread(s), torch {torch.__version__}")
    times = {packing: [] for packing in (False, True)}
    for round_number in range(args.rounds + 1):
        for packing, seconds in times.items():
            spent, loss = train_seconds(policy, sequences, config, packing)
            if round_number:  # the first warms up
                seconds.append(spent)
                print(f"round {round_number} {'packed' if packing else 'padded'}: "
                      f"{sum(lengths) / spent:8.0f} tokens a CPU-second, training loss {loss:.4f}", flush=True)
    ratios = [padded / packed for padded, packed in zip(times[False], times[True], strict=True)]
    padded, packed = (losses_by_prompt(policy, sequences, config, packing) for packing in (False, True))
    assert padded.keys() == packed.keys() == {tuple(row) for row in sequences}, "a prompt is missing"
    means = [torch.cat([*losses.values()]).double().mean().item() for losses in (padded, packed)]
    worst = max((padded[row] - packed[row]).abs().max().item() for row in padded)
    print(f"packed / padded: median {median(ratios):.2f}, lowest {min(ratios):.2f}, highest {max(ratios):.2f} "
          f"(target {SFT_TARGET})")
    print(f"loss of a token: padded {means[0]:.8f}, packed {means[1]:.8f}, difference {abs(means[0] - means[1]):.1e} "
          f"(target {SFT_TOLERANCE:g}); largest of a single token {worst:.1e}")
    return median(ratios) >= SFT_TARGET and abs(means[0] - means[1]) <= SFT_TOLERANCE


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", default="npkit.glyphworld.corpus:generate", help="prompts, as data.source")
    parser.add_argument("--prompts", type=int, default=4096, help="how many to train on")
    parser.add_argument("--rounds", type=int, default=5)
