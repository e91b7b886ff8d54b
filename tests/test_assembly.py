"""Training from the command line: the artifact of the notebook, by one process or by two, killed or not."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import REWARDED_FOR_WORDS, ROOT
from safetensors.torch import load_file

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.findings import evaluation
from npkit.study.artifacts import open_run
from npkit.study.profiles import parse_settings
from npkit.text import corpus, policy
from npkit.training import assembly, processes

SETTINGS = ["data.num_prompts=500", "data.ppo_share=0.3", "policy.num_layers=2", "policy.hidden_size=32",
            "policy.num_heads=2", "sft.num_epochs=3", "sft.learning_rate=5e-3", "sft.save_steps=2",
            "ppo.num_updates=4", "ppo.episodes_per_update=16", "ppo.minibatch_size=8", "ppo.num_ppo_epochs=2",
            "ppo.max_new_tokens=8", "ppo.save_updates=1", "runtime.num_threads=1", "runtime.device=cpu",
            *REWARDED_FOR_WORDS]
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]


def find(stage: str):
    return open_run(stage, "tiny", 0, parse_settings(SETTINGS))


def make_data() -> None:
    run = find("data")
    run.make(lambda folder: corpus.write_corpus(run.config.data, 0, folder))


def weights(stage: str) -> dict[str, torch.Tensor]:
    return load_file(find(stage).folder / "model/model.safetensors")


def start_two(home: Path, *stages: str) -> subprocess.Popen:
    """Start `npkit train` on each stage, in turn, as two gloo processes."""
    code = ("import sys; from npkit.__main__ import main; options = sys.argv[1:]; "
            f"sys.exit(max(main(['train', stage, '--processes', '2', *options]) for stage in {stages!r}))")
    script = home / "both.py"
    home.mkdir(exist_ok=True)
    script.write_text(code)
    environment = os.environ | {"NPKIT_HOME": str(home), "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
               str(script), *OPTIONS]
    with open(home / "log", "a", encoding="utf-8") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def finish_two(home: Path, *stages: str) -> None:
    process = start_two(home, *stages)
    try:
        assert process.wait(600) == 0, (home / "log").read_text()[-3000:]
    except subprocess.TimeoutExpired:
        kill(process)
        raise


def kill(process: subprocess.Popen) -> None:
    """Kill torchrun and its workers, which lead process groups of their own."""
    workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True,
                             check=True).stdout.split()
    for pid in [process.pid, *map(int, workers)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def kill_two_at(home: Path, stage: str, checkpoint: str) -> None:
    """Start both trainings and kill every process as soon as a checkpoint of one of them appears."""
    process = start_two(home, "sft", "ppo")
    while not (find(stage).scratch / checkpoint).exists():
        assert process.poll() is None, (home / "log").read_text()[-3000:]
        time.sleep(0.02)
    kill(process)


def test_inputs_and_process_counts_are_checked(npkit_home, capsys):
    assert main(["train", "sft", *OPTIONS]) == 2
    assert "sft needs the artifact of stage data" in capsys.readouterr().err
    make_data()
    assert main(["train", "sft", "--processes", "2", *OPTIONS]) == 2
    assert "--processes 2, but 1 at work: start them with torchrun --nproc-per-node 2" in capsys.readouterr().err
    assert find("sft").artifact is None


def test_what_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    assert processes.divide(6, "ppo.minibatch_size") == 2
    with pytest.raises(NpkitError, match="ppo.minibatch_size is 8, which 3 processes cannot share evenly"):
        processes.divide(8, "ppo.minibatch_size")


@pytest.mark.slow
def test_two_processes_train_as_one_does_killed_or_not(tmp_path, monkeypatch, npkit_home):
    """The tolerances are those of README: sums in another order round differently, and Adam magnifies that."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for home in (npkit_home, whole, killed):
        monkeypatch.setenv("NPKIT_HOME", str(home))
        make_data()
    monkeypatch.setenv("NPKIT_HOME", str(npkit_home))
    assert main(["train", "sft", *OPTIONS]) == main(["train", "ppo", *OPTIONS]) == 0
    alone = {stage: (weights(stage), find(stage).artifact.metrics) for stage in ("sft", "ppo")}
    finish_two(whole, "sft", "ppo")
    monkeypatch.setenv("NPKIT_HOME", str(killed))
    kill_two_at(killed, "sft", "checkpoint-4")
    kill_two_at(killed, "ppo", "checkpoint-3")
    finish_two(killed, "sft", "ppo")
    resumed = {stage: weights(stage) for stage in ("sft", "ppo")}
    monkeypatch.setenv("NPKIT_HOME", str(whole))
    for stage, (ours, metrics) in alone.items():
        two = find(stage).artifact.metrics
        assert (metrics["train/num_processes"], two["train/num_processes"]) == (1, 2)
        assert all(torch.equal(value, resumed[stage][name]) for name, value in weights(stage).items())
        assert all(torch.allclose(value, ours[name], atol=1e-4) for name, value in weights(stage).items())
        for name in ("train/loss", "eval/perplexity") if stage == "sft" else ("objective/score", "policy/entropy"):
            assert two[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(tmp_path):
    """A small round of the benchmark, SFT only; a killed PPO is in the test above and in test_ppo.py."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, str(ROOT / "benchmarks/kills.py"), "--kills", "4", "--only-sft"],
                           env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr[-3000:]
    [row] = [line.split() for line in found.stdout.splitlines() if line.startswith("sft")]
    assert int(row[2]) == 4


def test_notebook_and_command_line_call_one_function():
    cells = json.loads((ROOT / "notebooks/04_ppo.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert code.count("assembly.write_ppo(") == code.count("assembly.ppo_prefixes(") == 1
    assert not re.search(r"\b48\b", code), "how many prefixes are shown is said in assembly"


def test_the_best_policy_is_chosen_on_other_prefixes_and_pictures(npkit_home, monkeypatch):
    """Neither on those that PPO is paid for, nor on those that the notebook compares and evaluation reports."""
    monkeypatch.setattr(assembly, "NUM_SHOWN", 4)  # of a corpus this small
    make_data()
    find("sft").make(lambda folder: policy.save_policy(
        *policy.build_policy(find("sft").config.policy, ["a cat"] * 9, seed=0), folder / "model") or {})
    run = find("ppo")
    tokenizer = policy.load_policy(run.input("sft").path / "model")[1]
    prefixes, shown, deciding = assembly.ppo_prefixes(run, tokenizer)
    assert prefixes and deciding and not set(prefixes) & {*shown, *deciding} and not set(shown) & set(deciding)
    assert len(shown) == assembly.NUM_SHOWN and len(deciding) <= run.config.ppo.eval_prefixes
    painted = []

    class Scorer:
        """Notes the seeds that pictures are painted from."""

        def known(self, names):
            return names

        def scores(self, prefixes, prompts, seed, names):
            painted.append(seed)
            return {name: torch.zeros(len(prompts)) for name in names}

    for reward in assembly.ppo_rewards(run, Scorer()):
        reward(["a cat"], [", vivid"])
    assert len(set(painted)) == 2
    for seed in range(5):
        reported = range(evaluation.picture_seeds(seed, 1)[0], evaluation.picture_seeds(seed, 30)[-1] + 10_000)
        assert assembly.deciding_seed(seed) not in {seed, *reported}
