"""Assembly: the trainings of notebooks 02 and 04, put together once, for the notebook, the command line and the plan."""
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from datasets import Dataset
from transformers import TrainerCallback

from npkit.errors import NpkitError
from npkit.study import artifacts
from npkit.study.artifacts import STAGES, Artifact, Run
from npkit.study.profiles import PolicyConfig, Profile
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


# Before anything is trained ------------------------------------------------------------------------------------------
def refuse_early(config: Profile, dataset: Dataset, stages: Collection[str] = tuple(STAGES)) -> None:
    """Raise for what one of the planned `stages` would refuse, after minutes of training, in settings or corpus.

    `dataset` is the corpus as stage `data` writes it: columns prompt, prefix, completion and split.
    """
    if "neurologic" in stages:
        refuse_recurrent(config.policy)
    for stage in ("ppo", "neurologic", "evaluation"):
        if stage in stages and (stage == "ppo" or not config.policy.pretrained):  # which may read longer prompts
            refuse_full(stage, config.policy, getattr(config, stage).max_new_tokens)
    if "ppo" in stages:
        refuse_few_prefixes(config, dataset)


def refuse_recurrent(config: PolicyConfig) -> None:
    """Raise where the policy is of a kind that NeuroLogic decoding cannot read: one without keys and values."""
    from npkit.text.policy import is_recurrent_kind
    if is_recurrent_kind(config):
        raise NpkitError(f"policy {config.pretrained or config.architecture!r} keeps no keys and values of past "
                         f"tokens, which {STAGES['neurologic'].notebook} needs: choose another (gpt2, llama and "
                         f"gpt_neox keep them), or plan less with --until {STAGES['ppo'].notebook}")


def refuse_full(section: str, policy: PolicyConfig, max_new_tokens: int) -> None:
    """Raise where the longest prefix allowed leaves no room for the completion."""
    if policy.max_prefix_tokens + max_new_tokens > policy.max_prompt_tokens:
        raise NpkitError(f"policy.max_prefix_tokens {policy.max_prefix_tokens} and {section}.max_new_tokens "
                         f"{max_new_tokens} are more than policy.max_prompt_tokens {policy.max_prompt_tokens}: "
                         "lower one of the first two, or raise the last")


def refuse_few_prefixes(config: Profile, dataset: Dataset) -> None:
    """Raise where PPO's split has fewer prefixes that the policy can read than an update needs."""
    from npkit.text.policy import early_tokenizer, fits
    prompts, prefixes = ([row[column] for row in dataset if row["split"] == split]
                         for column, split in (("prompt", "sft"), ("prefix", "ppo")))
    prefixes, tokenizer = list(dict.fromkeys(prefixes)), early_tokenizer(config.policy, prompts)
    if tokenizer:
        prefixes = [prefix for prefix, ok in
                    zip(prefixes, fits(tokenizer, prefixes, config.policy.max_prefix_tokens), strict=True) if ok]
    if len(prefixes) < config.ppo.episodes_per_update:
        raise NpkitError(f"PPO needs at least as many prefixes as ppo.episodes_per_update = "
                         f"{config.ppo.episodes_per_update}, and the corpus leaves {len(prefixes)} of at most "
                         f"policy.max_prefix_tokens = {config.policy.max_prefix_tokens} tokens for it: raise "
                         f"data.ppo_share (now {config.data.ppo_share:g}), use a larger corpus, or lower "
                         "ppo.episodes_per_update")
