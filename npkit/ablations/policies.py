"""Policies: one run of an ablation that trains: its policy is trained where it is missing, writes, and is judged.

Data, SFT and PPO are the study's own artifacts under the arm's settings, so what two ablations or a study share is
trained once, and a killed training goes on from its checkpoint.
"""
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from npkit.ablations.engine import Trial
from npkit.ablations.laws import best_of_n_kl, expected_best
from npkit.ablations.payments import PaidRun, load_scorer, paid_run, write_paid
from npkit.errors import NpkitError
from npkit.findings.alarm import curves
from npkit.findings.baselines import choosing_seed
from npkit.findings.evaluation import evaluate, gains, picture_seeds
from npkit.findings.variants import test_prefixes
from npkit.neurologic.published import decode_as_set
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import Artifact, Run, set_threads
from npkit.text.corpus import write_corpus
from npkit.text.policy import Policy, fits, generate, load_policy, sequence_logprobs
from npkit.training import assembly
from npkit.wishes import read_wishes


def measure(trial: Trial) -> dict[str, object]:
    """Return one row: the gains by every judge, a number a test prefix, and what can be said of the texts."""
    run = trial.run("ppo")
    set_threads(run.config)
    scorer = load_scorer(run)
    trained = train(trial)
    policy, sft = (on_device(load_policy(artifact.path / "model"), run) for artifact in (trained, sft_of(trial)))
    prefixes = prefixes_of(trial, policy[1])
    if trial.arm.options.get("way") == "best":
        completions, points = best_of_n(trial, policy, prefixes, scorer)
    else:
        completions, points = write(trial, policy, prefixes), curve(trained, scorer, trial.seed)
    return (judged(prefixes, joined(prefixes, completions), scorer, trial.seed)
            | describe(policy, sft, prefixes, completions) | training_facts(trained) | points)


def on_device(policy: Policy, run: Run) -> Policy:
    """Return the policy on the run's device, ready to write."""
    model, tokenizer = policy
    return model.to(run.device).eval(), tokenizer


# 1. Train ------------------------------------------------------------------------------------------------------------
def make_data(run: Run) -> None:
    """Make the corpus of a run where it is missing, as notebook 01 does."""
    data = Run("data", run.config, run.seed, run.settings)
    if data.artifact is None:
        data.make(lambda folder: write_corpus(run.config.data, run.seed, folder))


def sft_of(trial: Trial) -> Artifact:
    """Return the arm's SFT policy, trained where it is missing."""
    run = trial.run("sft")
    make_data(run)
    return run.artifact or assembly.train("sft", trial.profile, trial.seed, run.settings)


def ppo_run(trial: Trial) -> Run:
    """Return the arm's PPO run: of the ablation's number of updates, or `whole`, and paid in the arm's way."""
    options = trial.arm.options
    updates = trial.run("ppo").config.ablation.num_updates
    run = trial.run("ppo") if options.get("whole") else trial.run("ppo", **{"ppo.num_updates": updates})
    payment = options.get("payment", "gain")
    return run if payment == "gain" else paid_run(run, payment)


def train(trial: Trial) -> Artifact:
    """Return the artifact of the policy that writes, trained where it is missing."""
    sft = sft_of(trial)
    if trial.arm.options.get("train", "ppo") == "sft":
        return sft
    run = ppo_run(trial)
    writer = write_paid if isinstance(run, PaidRun) else assembly.load_and_write_ppo
    return run.make(partial(writer, run))


# 2. Write ------------------------------------------------------------------------------------------------------------
def prefixes_of(trial: Trial, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return the test prefixes that all arms of a seed share: those of the study without any arm's settings."""
    run = trial.run("data", own=False)
    make_data(run)
    dataset: Dataset = run.artifact.dataset("prompts")
    readable = partial(fits, tokenizer, max_prefix_tokens=run.config.policy.max_prefix_tokens)
    try:
        return test_prefixes(dataset, run.config.ablation.num_prefixes, trial.seed, readable)
    except NpkitError as error:
        raise NpkitError(str(error).replace("evaluation.num_prefixes", "ablation.num_prefixes")) from error


def write(trial: Trial, policy: Policy, prefixes: Sequence[str]) -> list[str]:
    """Return a completion of each prefix, written in the arm's way: sampled, or by NeuroLogic."""
    config, way = trial.run("evaluation").config, trial.arm.options.get("way", "sample")
    if way == "nl":
        wishes = read_wishes(config, seed=trial.seed)
        found = decode_as_set(*policy, prefixes, list(map(wishes, prefixes)), config.neurologic)
        return [each.completion for each in found]
    return sampled(trial, policy, prefixes)


def sampled(trial: Trial, policy: Policy, prefixes: Sequence[str]) -> list[str]:
    """Return a sampled completion of each prefix, as evaluation samples."""
    config = trial.run("evaluation").config.evaluation
    return generate(*policy, prefixes, generator_seed=trial.seed, max_new_tokens=config.max_new_tokens,
                    temperature=config.temperature)


def best_of_n(trial: Trial, policy: Policy, prefixes: Sequence[str], scorer: Scorer
              ) -> tuple[list[str], dict[str, list[float]]]:
    """Return of many sampled completions of each prefix the one that the paid judge scores highest, and the curve.

    The curve has for 1, 2, 4 ... completions the KL to the policy, log n - (n - 1) / n, and the mean gain by every
    judge. Chosen is by pictures from a seed that neither training nor evaluation uses; they make the curve as well.
    """
    config, number = trial.run("evaluation").config, trial.run("evaluation").config.ablation.best_of
    many = [prefix for prefix in prefixes for _ in range(number)]
    completions = sampled(trial, policy, many)
    prompts, seed = joined(many, completions), choosing_seed(trial.seed)
    scores = {judge: values.view(len(prefixes), number).numpy()
              for judge, values in scorer.scores(many, prompts, seed).items()}
    plain = {judge: values.numpy() for judge, values in scorer.scores(prefixes, prefixes, seed).items()}
    paid = scores[config.ppo.reward_judge]
    sizes = [2 ** power for power in range(number.bit_length()) if 2 ** power <= number]
    points = {"curve/kl": [best_of_n_kl(size) for size in sizes]} | {
        f"curve/{judge}": [mean_best(paid, values, size) - float(plain[judge].mean()) for size in sizes]
        for judge, values in scores.items()}
    return [completions[row * number + int(best)] for row, best in enumerate(paid.argmax(1))], points


def mean_best(paid: np.ndarray, scores: np.ndarray, size: int) -> float:
    """Return the mean over prefixes (rows) of what the best of `size` by the paid judge scores by another one."""
    return float(np.mean([expected_best(*row, size) for row in zip(paid, scores, strict=True)]))


# 3. Judge ------------------------------------------------------------------------------------------------------------
def joined(prefixes: Sequence[str], completions: Sequence[str]) -> list[str]:
    """Return the prompts that completions make of their prefixes."""
    return [prefix + rest for prefix, rest in zip(prefixes, completions, strict=True)]


def judged(prefixes: Sequence[str], prompts: Sequence[str], scorer: Scorer, seed: int) -> dict[str, object]:
    """Return the prompts and every judge's gain over the bare prefix, a list with a number a prefix."""
    rows = evaluate({"prefix": prefixes, "arm": prompts}, prefixes, scorer, picture_seeds(seed, 1))
    return {"prompts": list(prompts)} | {f"gain/{judge}": gains(rows, judge)["arm"].loc[list(prefixes)].tolist()
                                   for judge in rows["judge"].unique()}


def describe(policy: Policy, sft: Policy, prefixes: Sequence[str], completions: Sequence[str]) -> dict[str, float]:
    """Return what can be said of the texts: distinct share, words added, and KL to the SFT policy in nats a text."""
    (model, tokenizer), (reference, _) = policy, sft
    own, before = (np.array(sequence_logprobs(each, tokenizer, prefixes, completions)) for each in (model, reference))
    return {"distinct_share": len(set(completions)) / len(completions),
            "words_added": float(np.mean([len(text.split()) for text in completions])),
            "kl": float((own - before).mean()),
            "parameters": float(sum(weight.numel() for weight in model.parameters()))}


def training_facts(trained: Artifact) -> dict[str, float]:
    """Return what the training's manifest says: its seconds and, where they are there, perplexity and episodes."""
    metrics = trained.metrics
    wanted = {"perplexity": "eval/perplexity", "episodes": "episodes", "paid": "objective/score"}
    return {"training_seconds": float(trained.manifest["seconds"])} | {
        name: metrics[metric] for name, metric in wanted.items() if metric in metrics}


def curve(trained: Artifact, scorer: Scorer, seed: int) -> dict[str, list[float]]:
    """Return how KL and the mean gain by every judge went on during PPO, by the samples that training left behind.

    Their pictures are painted from evaluation's seed, which paid nothing. Of SFT there is no curve.
    """
    if not (trained.path / "samples.parquet").exists():
        return {}
    found = curves(trained.table("samples"), scorer, picture_seeds(seed, 1)[0])
    gain = found.pivot(index="update", columns="judge", values="gain")
    kl = pd.read_json(trained.path / "metrics.jsonl", lines=True).set_index("update")["objective/kl"]
    return {"curve/update": gain.index.astype(float).tolist(), "curve/kl": kl[gain.index].tolist()} | {
        f"curve/{judge}": gain[judge].tolist() for judge in scorer.judges}
