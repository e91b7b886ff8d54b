"""Transfer: one run of the ablation of that name: a policy paid by one image model's pictures, judged on another's too.

The other image model is named by `ablation.transfer_to`. Policies differ in the pictures that PPO was paid for; the
prompts that a policy writes are painted by both models, each with the same picture seed for all arms.
"""
from collections.abc import Sequence
from functools import partial

from npkit.ablations.engine import Trial
from npkit.ablations.payments import load_scorer
from npkit.ablations.policies import describe, joined, judged, make_data, on_device, prefixes_of, sampled, sft_of
from npkit.errors import NpkitError
from npkit.findings.variants import human_prompts
from npkit.study.artifacts import Artifact, Run, set_threads
from npkit.text.policy import Policy, load_policy
from npkit.training.assembly import load_and_write_ppo

OTHER = ", other painter"  # ends the names of the arm that it paid and of the judges that saw its pictures


def measure(trial: Trial) -> dict[str, object]:
    """Return one row: the gains by every judge on the pictures of the study's image model, then on the other's."""
    run = trial.run("ppo")
    set_threads(run.config)
    make_data(run)
    policy, sft = (on_device(load_policy(each.path / "model"), run) for each in (train(trial), sft_of(trial)))
    prefixes = prefixes_of(trial, policy[1])
    prompts = write(trial, run, policy, prefixes)
    completions = [prompt.removeprefix(prefix) for prompt, prefix in zip(prompts, prefixes, strict=True)]
    here, there = (judged(prefixes, prompts, load_scorer(each), trial.seed)
                   for each in (run, with_other_painter(trial)))
    elsewhere = {f"{name}{OTHER}": values for name, values in there.items() if name.startswith("gain/")}
    return here | elsewhere | describe(policy, sft, prefixes, completions)


def with_other_painter(trial: Trial) -> Run:
    """Return the PPO run of the ablation's length that is paid for the pictures of `ablation.transfer_to`."""
    config = trial.run("ppo").config.ablation
    if not config.transfer_to:
        raise NpkitError("ablation.transfer_to is empty: name the folder or hub id of another image model")
    return trial.run("ppo", **{"images.model": config.transfer_to, "ppo.num_updates": config.num_updates})


def train(trial: Trial) -> Artifact:
    """Return the artifact of the arm's policy, trained where it is missing: SFT, or PPO with one of the painters."""
    sft = sft_of(trial)
    if not trial.arm.name.startswith("ppo"):
        return sft
    updates = trial.run("ppo").config.ablation.num_updates
    run = (with_other_painter(trial) if trial.arm.name.endswith(OTHER)
           else trial.run("ppo", **{"ppo.num_updates": updates}))
    return run.make(partial(load_and_write_ppo, run))


def write(trial: Trial, run: Run, policy: Policy, prefixes: Sequence[str]) -> list[str]:
    """Return the arm's prompts: people's own, or what its policy samples."""
    if trial.arm.name == "human":
        return human_prompts(run.input("data").dataset("prompts"), prefixes)
    return joined(prefixes, sampled(trial, policy, prefixes))
