"""Checkpoints: torn ones are passed over, strange ones refused, and what was cut is trained again to the same bits."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from npkit.errors import NpkitError
from npkit.study.profiles import PolicyConfig, PPOConfig, SFTConfig
from npkit.text import policy
from npkit.training import checkpoints, reinforcement, sft

SIZES = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=320, max_prompt_tokens=48)
PROMPTS = [f"a {subject}, {style}, {word}" for subject in ("cat", "moon") for style in ("oil painting", "8 k")
           for word in ("golden hour", "sharp focus", "by alphonse mucha")]
DATA = Dataset.from_dict({"prompt": PROMPTS * 4, "split": (["validation"] + ["sft"] * 11) * 4})
CONFIG = SFTConfig(max_steps=6, batch_size=32, learning_rate=5e-3, save_steps=2)


def train(folder: Path, sizes: PolicyConfig = SIZES, callbacks=()):
    """Train a small policy with checkpoints in `folder`; return its rows and its weights."""
    model, tokenizer = policy.build_policy(sizes, PROMPTS, seed=0)
    rows = sft.train_sft(model, tokenizer, DATA, CONFIG, seed=0, folder=folder, max_prompt_tokens=48,
                         callbacks=callbacks)
    return rows, model.state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished training: its folder, with checkpoints 4 and 6, its rows and weights."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, *train(folder)


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of the finished training's folder."""
    return Path(shutil.copytree(trained[0], tmp_path / "copy"))


def cut(file: Path, share: float = 0.6) -> None:
    """Take the end off a file, as a kill or a full disk would."""
    content = file.read_bytes()
    file.write_bytes(content[:int(share * len(content))])


def test_the_newest_checkpoint_is_taken(folder):
    assert checkpoints.newest_checkpoint(folder) == str(folder / "checkpoint-6")
    assert [path.name for path in checkpoints.checkpoints(folder)] == ["checkpoint-6", "checkpoint-4"]
    assert checkpoints.newest_checkpoint(folder / "missing") is None


@pytest.mark.parametrize("name", ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt",
                                  "rng_state.pth", "processes.json"])
def test_a_checkpoint_with_a_cut_or_missing_file_is_passed_over(folder, name):
    cut(folder / "checkpoint-6" / name)
    assert checkpoints.newest_checkpoint(folder) == str(folder / "checkpoint-4")
    (folder / "checkpoint-6" / name).write_bytes(b"")
    assert checkpoints.newest_checkpoint(folder) == str(folder / "checkpoint-4")
    (folder / "checkpoint-6" / name).unlink()
    assert checkpoints.newest_checkpoint(folder) == str(folder / "checkpoint-4")
    (folder / "checkpoint-4" / name).unlink()
    assert checkpoints.newest_checkpoint(folder) is None


def test_a_checkpoint_of_several_processes_needs_the_generators_of_all(folder):
    checkpoint = folder / "checkpoint-6"
    (checkpoint / "processes.json").write_text('{"num_processes": 2}')
    assert not checkpoints.is_whole(checkpoint)
    for rank in range(2):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    assert checkpoints.is_whole(checkpoint)
    cut(checkpoint / "rng_state_1.pth")
    assert not checkpoints.is_whole(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
def test_training_goes_on_from_the_last_whole_checkpoint_to_the_same_bits(trained, folder, name):
    cut(folder / "checkpoint-6" / name)
    rows, weights = train(folder)
    assert rows == trained[1]
    assert all(torch.equal(weights[key], value) for key, value in trained[2].items())
    assert checkpoints.is_whole(folder / "checkpoint-6")


class Killed(TrainerCallback):
    """Kills the run after the step that follows its first checkpoint."""

    def on_step_end(self, args, state, control, **others):
        if state.global_step == 3:
            raise InterruptedError


def test_training_goes_on_with_the_threads_of_its_checkpoint(trained, tmp_path, capsys):
    """This training's loss at step 4 is 5.172041893 by two threads and 5.172041416 by one: threads share the sums."""
    before = torch.get_num_threads()
    with pytest.raises(InterruptedError):
        train(tmp_path, callbacks=[Killed()])
    try:
        torch.set_num_threads(before % 2 + 1)
        rows, weights = train(tmp_path)
        assert torch.get_num_threads() == before % 2 + 1, "only the training has the other number"
    finally:
        torch.set_num_threads(before)
    assert f"was written with {before} thread(s), this run has {before % 2 + 1}" in capsys.readouterr().err
    assert rows == trained[1]
    assert all(torch.equal(weights[key], value) for key, value in trained[2].items())


def test_a_finished_training_is_only_read(trained, folder):
    before = (folder / "checkpoint-6/trainer_state.json").stat().st_mtime_ns
    rows, weights = train(folder)
    assert rows == trained[1]
    assert all(torch.equal(weights[key], value) for key, value in trained[2].items())
    assert (folder / "checkpoint-6/trainer_state.json").stat().st_mtime_ns == before


def test_ppo_resumed_from_its_last_update_makes_no_further_one(tmp_path):
    """The updates end in the middle of an epoch over the prefixes, where Trainer would go on."""
    config = PPOConfig(num_updates=3, episodes_per_update=4, minibatch_size=4, num_ppo_epochs=1, max_new_tokens=4,
                       save_updates=1)
    found = []
    for _ in range(2):
        model, tokenizer = policy.build_policy(SIZES, PROMPTS, seed=0)
        ref_model, _ = policy.build_policy(SIZES, PROMPTS, seed=0)
        rows = reinforcement.train_ppo(
            model, ref_model, tokenizer, ["a cat", "a moon"] * 10,
            lambda prefixes, completions: [len(text) for text in completions], config, seed=0, folder=tmp_path,
            max_prompt_tokens=48)
        found.append((rows, model.state_dict()))
    (rows, weights), (again, same) = found
    assert [row["update"] for row in rows] == [1, 2, 3]
    assert again == rows
    assert all(torch.equal(weights[key], same[key]) for key in weights)


@pytest.mark.parametrize(("changes", "words"), [
    ({"hidden_size": 64}, "hidden_size 32 where this one has 64"),
    ({"num_layers": 2}, "num_hidden_layers 1 where this one has 2"),
    ({"vocab_size": 300}, "where this one has 300"),
])
def test_a_checkpoint_of_another_model_is_refused(folder, changes, words):
    with pytest.raises(NpkitError, match="is a checkpoint of another model") as caught:
        train(folder, PolicyConfig(**{**vars(SIZES), **changes}))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert checkpoints.newest_checkpoint(folder) == str(folder / "checkpoint-6"), "nothing was lost"


def test_a_checkpoint_of_two_processes_is_refused_by_one(folder):
    checkpoint = folder / "checkpoint-6"
    for rank in range(2):
        shutil.copy(checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth")
    (checkpoint / "processes.json").write_text(json.dumps({"num_processes": 2}))
    with pytest.raises(NpkitError, match=r"was written by 2 process\(es\) and this run has 1"):
        train(folder)


FULL_DISK = """
import resource, sys
import torch
from pathlib import Path
from transformers import TrainerCallback
sys.path.insert(0, {tests!r})
import test_checkpoints as own
from npkit.text import policy
from npkit.training import sft
from npkit.errors import NpkitError

class Full(TrainerCallback):
    def on_save(self, args, state, control, **others):
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))  # from now on files are cut

torch.set_num_threads({threads})
model, tokenizer = policy.build_policy(own.SIZES, own.PROMPTS, seed=0)
try:
    sft.train_sft(model, tokenizer, own.DATA, own.CONFIG, seed=0, folder=Path({folder!r}), max_prompt_tokens=48,
                  callbacks=[Full()])
except NpkitError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("limit", [40_000, 150_000])
def test_a_full_disk_is_a_sentence_and_leaves_the_last_good_checkpoint(trained, tmp_path, limit):
    """The first limit cuts the weights, the second one the optimizer's state, twice as large."""
    code = FULL_DISK.format(tests=str(Path(__file__).parent), limit=limit, folder=str(tmp_path),
                            threads=torch.get_num_threads())
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = child.stderr.strip().splitlines()[-1]
    assert child.returncode == 1
    assert "checkpoint-4 cannot be written, is the disk full? (" in said
    assert said.endswith("free some space and run again, to go on from checkpoint-2")
    assert checkpoints.newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    rows, weights = train(tmp_path)
    assert rows == trained[1]
    assert all(torch.equal(weights[key], value) for key, value in trained[2].items())
