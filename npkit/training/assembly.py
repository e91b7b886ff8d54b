"""Assembly: the trainings of notebooks 02 and 04, put together once, for notebook, command line and plan."""
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerCallback

from npkit.errors import NpkitError
from npkit.study import artifacts
from npkit.study.artifacts import STAGES, Artifact, Run
from npkit.training import processes

if TYPE_CHECKING:
    from npkit.scoring.rewards import Scorer  # these import torch and diffusers, which a plan does not need
    from npkit.training.rollouts import Reward

NUM_SHOWN = 48  # validation prefixes that notebook 04 compares policies on; the next decide which policy is best


# 1. From the command line, in one process or several -----------------------------------------------------------------
def train(stage: str, profile: str, seed: int = 0, settings: Mapping[str, object] | None = None,
          num_processes: int = 0) -> Artifact:
    """Return the artifact of a training, made by all processes at work where there is none.

    Other than `num_processes` of them (0: any number) raises: a launcher may start fewer than it was asked for.
    """
    run = artifacts.start(STAGES[stage].notebook, profile=profile, seed=seed, settings=settings)
    run.need(STAGES[stage].inputs)
    processes.join(on_cpu=run.device.type == "cpu")
    if num_processes not in (0, processes.count()):
        raise NpkitError(f"--processes {num_processes}, but {processes.count()} at work: start them with "
                         f"torchrun --nproc-per-node {num_processes} -m npkit train {stage}")
    return make_together(run, lambda folder: write_sft(run, folder) if stage == "sft"
                         else load_and_write_ppo(run, folder))


def make_together(run: Run, function: Callable[[Path], dict[str, float]]) -> Artifact:
    """Return the artifact that every process works on and the main one writes, under `run.make`'s lock."""
    if not processes.is_main():
        if processes.from_main(None):
            function(run.folder)
        processes.from_main(None)  # until the artifact is whole
        return run.artifact
    started = []

    def together(folder: Path) -> dict[str, float]:
        started.append(processes.from_main(True))
        return function(folder)

    artifact = run.make(together)
    if not started:
        processes.from_main(False)
    processes.from_main(True)
    return artifact


def write_sft(run: Run, folder: Path) -> dict[str, float]:
    """Train the SFT policy as notebook 02 does; return its metrics."""
    from npkit.training import sft
    return sft.write_policy(run.input("data").dataset("prompts"), run.config, run.seed, folder, run.scratch, run.device,
                            callbacks=progress(sft.ProgressLines(every=100)))


def load_and_write_ppo(run: Run, folder: Path) -> dict[str, float]:
    """Train the PPO policy as notebook 04 does, which loads the same parts in cells of its own; return its metrics."""
    from npkit.scoring import images, judges
    from npkit.scoring.cache import shared_cache
    from npkit.scoring.rewards import Scorer
    from npkit.text.policy import load_policy
    (policy, tokenizer), (ref_policy, _) = (load_policy(run.input("sft").path / "model") for _ in range(2))
    image_model = images.load_image_model(run.config.images, run.device)
    scorer = Scorer(image_model, judges.load_judges(run.config, run.device), shared_cache())
    return write_ppo(run, folder, policy=policy.to(run.device), ref_policy=ref_policy.to(run.device),
                     tokenizer=tokenizer, scorer=scorer, callbacks=progress(UpdateLines()))


class UpdateLines(TrainerCallback):
    """Prints a line with score and KL at every PPO update."""

    def on_log(self, args, state, control, logs, **others) -> None:
        if "update" in logs:
            print(f"update {state.global_step} of {state.max_steps}: score {logs['objective/score']:.2f}, "
                  f"KL {logs['objective/kl']:.2f}", flush=True)


def progress(callback: TrainerCallback) -> list[TrainerCallback]:
    """Return the callbacks of this process: the main one alone prints."""
    return [callback] if processes.is_main() else []


# 2. PPO, for notebook and command line -------------------------------------------------------------------------------
def ppo_prefixes(run: Run, tokenizer: PreTrainedTokenizerFast) -> tuple[list[str], list[str], list[str]]:
    """Return the prefixes that PPO trains on, those that notebook 04 shows, those that decide which policy is best."""
    from npkit.text.policy import fits
    prompts = run.input("data").table("prompts")

    def of_split(name: str) -> list[str]:
        prefixes = prompts.loc[prompts["split"] == name, "prefix"].unique().tolist()
        fitting = fits(tokenizer, prefixes, run.config.policy.max_prefix_tokens)
        return [prefix for prefix, ok in zip(prefixes, fitting, strict=True) if ok]

    validation = of_split("validation")
    return of_split("ppo"), validation[:NUM_SHOWN], validation[NUM_SHOWN:][:run.config.ppo.eval_prefixes]


def ppo_rewards(run: Run, scorer: "Scorer") -> "tuple[Reward, Reward]":
    """Return the reward that PPO is paid, and the same on other pictures, by which the best policy is chosen.

    A policy may have learnt what the noise of its own pictures likes; evaluation has seeds of its own as well.
    """
    from npkit.scoring.rewards import gain_over_prefix
    return tuple(gain_over_prefix(scorer, run.config.ppo.weights, seed) for seed in (run.seed, deciding_seed(run.seed)))


def deciding_seed(seed: int) -> int:
    """Return the picture seed of the held-out prefixes, far from training's and from evaluation's."""
    return 1_000_000 * (seed + 1) + 500_000


def write_ppo(run: Run, folder: Path, *, policy: PreTrainedModel, ref_policy: PreTrainedModel,
              tokenizer: PreTrainedTokenizerFast, scorer: "Scorer", callbacks: Sequence[TrainerCallback] = ()
              ) -> dict[str, float]:
    """Train `policy` in place by `ppo.algorithm` and fill the artifact's folder; return its metrics.

    Of several processes only the main one writes; the others return nothing.
    """
    from npkit.training.reinforcement import train_ppo, write_policy
    from npkit.training.rollouts import read_samples
    prefixes, _, deciding = ppo_prefixes(run, tokenizer)
    reward, deciding_reward = ppo_rewards(run, scorer)
    rows = train_ppo(policy, ref_policy, tokenizer, prefixes, reward, run.config.ppo, seed=run.seed, folder=run.scratch,
                     max_prompt_tokens=run.config.policy.max_prompt_tokens, heldout=deciding,
                     heldout_reward=deciding_reward, callbacks=callbacks)
    if not processes.is_main():
        return {}
    samples = read_samples(run.scratch)
    metrics = write_policy(folder, policy, tokenizer, rows, samples, run.scratch)
    truncated = scorer.image_model.truncated_share(list(samples["prefix"] + samples["completion"]))
    return metrics | {"images/truncated": truncated}
