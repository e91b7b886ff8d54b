"""Training from the command line: the stages sft and ppo without their notebooks, in one process or several."""
from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import TrainerCallback

from npkit.errors import NpkitError
from npkit.study import artifacts
from npkit.study.artifacts import STAGES, Artifact, Run
from npkit.training import processes

NOTEBOOKS_OWN = 48  # validation prefixes that notebook 04 shows, before those that decide which policy is best


def train(stage: str, profile: str, seed: int = 0, settings: Mapping[str, object] | None = None,
          num_processes: int = 0) -> Artifact:
    """Return the artifact of a training, made by all processes at work where there is none.

    Other than `num_processes` of them (0: any number) raises: a launcher may start fewer than it was asked for.
    """
    run = artifacts.start(STAGES[stage].notebook, profile=profile, seed=seed, settings=settings)
    for name in STAGES[stage].inputs:
        run.input(name)
    processes.join(on_cpu=run.device.type == "cpu")
    if num_processes not in (0, processes.count()):
        raise NpkitError(f"--processes {num_processes}, but {processes.count()} at work: start them with "
                         f"torchrun --nproc-per-node {num_processes} -m npkit train {stage}")
    return make_together(run, lambda folder: write_sft(run, folder) if stage == "sft" else write_ppo(run, folder))


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


def write_ppo(run: Run, folder: Path) -> dict[str, float]:
    """Train the PPO policy as notebook 04 does; return its metrics."""
    from npkit.scoring import images, judges
    from npkit.scoring.cache import shared_cache
    from npkit.scoring.rewards import Scorer, gain_over_prefix
    from npkit.text.policy import fits, load_policy
    from npkit.training import ppo
    (policy, tokenizer), (ref_policy, _) = (load_policy(run.input("sft").path / "model") for _ in range(2))
    prompts, config = run.input("data").table("prompts"), run.config.ppo

    def prefixes_of(split: str) -> list[str]:
        prefixes = prompts.loc[prompts["split"] == split, "prefix"].unique().tolist()
        return [prefix for prefix, ok in zip(prefixes, fits(tokenizer, prefixes, run.config.policy.max_prefix_tokens))
                if ok]

    image_model = images.load_image_model(run.config.images, run.device)
    scorer = Scorer(image_model, judges.load_judges(run.config, run.device), shared_cache())
    deciding = prefixes_of("validation")[NOTEBOOKS_OWN:][:config.eval_prefixes]
    rows = ppo.train_ppo(
        policy.to(run.device), ref_policy.to(run.device), tokenizer, prefixes_of("ppo"),
        gain_over_prefix(scorer, config.weights, run.seed), config, seed=run.seed, folder=run.scratch,
        max_prompt_tokens=run.config.policy.max_prompt_tokens, heldout=deciding, callbacks=progress(UpdateLines()))
    if not processes.is_main():
        return {}
    samples = ppo.read_samples(run.scratch)
    metrics = ppo.write_policy(folder, policy, tokenizer, rows, samples, run.scratch)
    return metrics | {"images/truncated": image_model.truncated_share(list(samples["prefix"] + samples["completion"]))}


class UpdateLines(TrainerCallback):
    """Prints a line with score and KL at every PPO update."""

    def on_log(self, args, state, control, logs, **others) -> None:
        if "update" in logs:
            print(f"update {state.global_step} of {state.max_steps}: score {logs['objective/score']:.2f}, "
                  f"KL {logs['objective/kl']:.2f}", flush=True)


def progress(callback: TrainerCallback) -> list[TrainerCallback]:
    """Return the callbacks of this process: the main one alone prints."""
    return [callback] if processes.is_main() else []
