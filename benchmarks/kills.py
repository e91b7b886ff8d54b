"""Trainings killed at random moments and resumed until they end: `python benchmarks/kills.py`.

Each is `npkit train sft` or `npkit train ppo` in a process of its own that gets SIGKILL, again and again, and starts
anew; its weights are then compared, to the bit, with those of a run that nobody killed. Exit code 1 where one differs
or a start after a kill fails.
"""
import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from npkit.__main__ import main as npkit
from npkit.study.artifacts import Run, open_run
from npkit.study.profiles import parse_settings
from npkit.text import corpus
from npkit.training import checkpoints

SETTINGS = ("data.num_prompts=400", "data.ppo_share=0.3", "policy.num_layers=2", "policy.hidden_size=64",
            "policy.num_heads=2", "sft.num_epochs=4", "sft.learning_rate=5e-3", "sft.save_steps=1",
            "ppo.num_updates=6", "ppo.episodes_per_update=16", "ppo.minibatch_size=8", "ppo.num_ppo_epochs=2",
            "ppo.max_new_tokens=12", "ppo.save_updates=1", "ppo.reward_judge=oracle",
            "judges.oracle.kind=text_function", "judges.oracle.head=",  # reads the prompt: no pictures
            "judges.oracle.model=npkit.glyphworld.people.public:liked_words",
            "runtime.num_threads=1", "runtime.device=cpu")
CONTEXT = multiprocessing.get_context("fork")  # the imports are paid once


def train(stage: str, home: Path) -> None:
    """Run `npkit train` with its output thrown away; the exit code is that of the command."""
    os.environ["NPKIT_HOME"] = str(home)
    torch.set_num_threads(1)
    with open(home / f"{stage}.log", "a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        options = [word for setting in SETTINGS for word in ("--set", setting)]
        sys.exit(npkit(["train", stage, *options]))


def attempt(stage: str, home: Path, seconds: float | None) -> int | None:
    """Return the exit code of one start, None where SIGKILL came first."""
    process = CONTEXT.Process(target=train, args=(stage, home))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def weights_hash(run: Run) -> str:
    """Return a short SHA-256 of an artifact's weights and of its metrics by step, whatever their order in a row."""
    rows = [json.loads(row) for row in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if row]
    content = (run.folder / "model/model.safetensors").read_bytes() + json.dumps(rows, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def new_home(folder: Path, source: Path | None = None) -> Path:
    """Return a new home with the artifacts that another one has."""
    folder.mkdir()
    if source:
        shutil.copytree(source / "artifacts", folder / "artifacts")
    os.environ["NPKIT_HOME"] = str(folder)
    return folder


def torture(stage: str, start: Path, num_kills: int, rng: random.Random, folder: Path) -> dict:
    """Train once undisturbed, then runs with `num_kills` kills in all; return the counts."""
    home, began = new_home(folder / f"{stage}-whole", start), time.monotonic()
    settings = parse_settings(SETTINGS)
    if attempt(stage, home, None):
        sys.exit(f"the run without a kill failed:\n{(home / f'{stage}.log').read_text()[-3000:]}")
    duration = time.monotonic() - began
    expected = weights_hash(open_run(stage, "tiny", 0, settings))
    counts = {"runs": 0, "kills": 0, "torn": 0, "crashes": 0, "differing": 0}
    while counts["kills"] < num_kills:
        home, code = new_home(folder / f"{stage}-{counts['runs']}", start), None
        run = open_run(stage, "tiny", 0, settings)
        for _ in range(min(4, num_kills - counts["kills"])):
            code = attempt(stage, home, rng.uniform(0.1, 0.9) * duration)
            if code is not None:
                break
            counts["kills"] += 1
            counts["torn"] += any(not checkpoints.is_whole(path) for path in checkpoints.checkpoints(run.scratch))
        code = attempt(stage, home, None) if code is None else code
        counts["runs"] += 1
        counts["crashes"] += code != 0
        counts["differing"] += code == 0 and weights_hash(run) != expected
    return counts | {"hash": expected, "seconds": duration}


def torture_all(num_kills: int, stages: list[str], seed: int, folder: Path) -> dict[str, dict]:
    """Return the counts of the trainings; PPO starts from the undisturbed SFT policy."""
    rng, start = random.Random(seed), new_home(folder / "data")
    run = open_run("data", "tiny", 0, parse_settings(SETTINGS))
    run.make(lambda draft: corpus.write_corpus(run.config.data, 0, draft))
    starts = {"sft": start, "ppo": folder / "sft-whole"}
    return {stage: torture(stage, starts[stage], num_kills, rng, folder) for stage in stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12, help="at least so many for each training")
    parser.add_argument("--only-sft", action="store_true", help="leave PPO out")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = torture_all(args.kills, ["sft"] if args.only_sft else ["sft", "ppo"], args.seed, Path(folder))
    names = ("runs", "kills", "torn", "crashes", "differing", "hash", "seconds")
    print("training", *(f"{name:>12}" for name in names))
    for stage, counts in found.items():
        values = [f"{counts[name]:.1f}" if name == "seconds" else counts[name] for name in names]
        print(f"{stage:<8}", *(f"{value:>12}" for value in values))
    print("torn: kills that left a checkpoint half written; seconds: of the run without a kill")
    sys.exit(any(counts["crashes"] or counts["differing"] for counts in found.values()))


if __name__ == "__main__":
    main()
