"""Checkpoints on a full disk: the error says so, the last good one is whole, and the run goes on from it to the bit."""
import copy

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from npkit.errors import NpkitError
from npkit.study.profiles import PolicyConfig, PPOConfig, SFTConfig
from npkit.text import policy
from npkit.text.policy import Policy, load_policy
from npkit.training import sft
from npkit.training.checkpoints import newest_checkpoint, saving
from npkit.training.reinforcement import train_ppo
from npkit.training.rollouts import read_samples

SIZES = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=320, max_prompt_tokens=48)
PROMPTS = [f"a {subject}, {style}" for subject in ("cat", "castle", "moon") for style in ("oil painting", "8k")] * 4

PREFIXES = ["a cat", "a castle", "a moon", "a castle in the snow"] * 4
CONFIG = PPOConfig(num_updates=4, episodes_per_update=8, minibatch_size=4, num_ppo_epochs=2, max_new_tokens=6,
                   learning_rate=1e-3, save_updates=2)


def share_of_a(prefixes: list[str], completions: list[str]) -> list[float]:
    """The toy reward: the share of letters a."""
    return [text.count("a") / max(1, len(text)) for text in completions]


def fresh() -> Policy:
    """Return the same small policy each time."""
    return policy.build_policy(SIZES, PROMPTS, seed=0)


def fill(disk, leave: int) -> None:
    """Write a file that leaves about `leave` bytes of the disk free."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, file.tell() - leave))


@pytest.mark.parametrize(("leave", "left_out"), [(0, "samples-000004.parquet"), (100_000, "checkpoint-4")])
def test_ppo_on_a_full_disk_keeps_the_last_checkpoint(small_disk, tmp_path, leave, left_out):
    model, tokenizer = fresh()
    calls = []

    def filling(prefixes, completions):
        calls.append(1)
        if len(calls) == 4:
            fill(small_disk, leave)
        return share_of_a(prefixes, completions)

    def train(folder, reward, trained):
        return train_ppo(trained, copy.deepcopy(model), tokenizer, PREFIXES, reward, CONFIG, seed=3, folder=folder,
                         max_prompt_tokens=48)

    with pytest.raises(NpkitError, match=rf"{left_out} cannot be written, .* full. .*; free .* from checkpoint-2"):
        train(small_disk / "work", filling, copy.deepcopy(model))
    assert not (small_disk / "work" / left_out).exists(), "no half of it stays"
    newest = newest_checkpoint(small_disk / "work")
    assert newest.endswith("checkpoint-2")
    load_policy(newest)
    (small_disk / "ballast").unlink()
    resumed, whole = copy.deepcopy(model), copy.deepcopy(model)
    assert train(small_disk / "work", share_of_a, resumed) == train(tmp_path / "whole", share_of_a, whole)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True))
    assert read_samples(small_disk / "work").equals(read_samples(tmp_path / "whole"))


def test_sft_on_a_full_disk_keeps_the_last_checkpoint(small_disk):
    class Filling(TrainerCallback):
        """Fills the disk after the first checkpoint."""

        def on_step_end(self, args, state, control, **others):
            if state.global_step == 3:
                fill(small_disk, leave=100_000)

    model, tokenizer = fresh()
    data = Dataset.from_dict({"prompt": PROMPTS, "split": ["sft"] * 20 + ["validation"] * 4})
    with pytest.raises(NpkitError, match="checkpoint-4 cannot be written, .* full. .*; free .* from checkpoint-2"):
        sft.train_sft(model, tokenizer, data, SFTConfig(max_steps=6, save_steps=2), seed=0, folder=small_disk / "work",
                      max_prompt_tokens=48, callbacks=[Filling()])
    assert newest_checkpoint(small_disk / "work").endswith("checkpoint-2")
    assert not (small_disk / "work" / "checkpoint-4").exists()


def test_only_errors_of_writing_are_told_as_such(tmp_path):
    with pytest.raises(KeyError, match="a bug"), saving(tmp_path / "checkpoint-1"):
        raise KeyError("a bug")
    (tmp_path / "half").write_text("ha")
    with pytest.raises(NpkitError, match="half cannot be written, .* full. .OSError"), saving(tmp_path / "half"):
        raise OSError("No space left on device")
    assert not (tmp_path / "half").exists()
