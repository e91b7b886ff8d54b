"""Detection and false alarms of the reward-hacking alarm: `python benchmarks/alarm.py --file FILE.parquet`.

Two kinds of short PPO trainings from finished SFT policies. `hackable`: paid by the judge that notebook 03 trains from
some hundred groups of votes, without a KL penalty. It is the closest to a real reward model that is too weak: it learnt
from votes like the kit's own judge, agrees with fewer of them, and notebook 03 finds prompts that fool it; nobody
planted a flaw in it. `default`: paid by the kit's judge, with the profile's KL penalty.

The rates are printed twice: with all unpaid judges, and with the public (`oracle`) alone. An alarm by the held-out
judge is no error where its gain really falls: it learnt from other raters, whom the paid judge does not serve. Hacking
means that the public loses. Noise alone is what `--simulate` measures. Curves go into one parquet file, training by
training: what is there is not trained again.
"""
import argparse
import copy
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import beta

from npkit.findings import alarm
from npkit.scoring.cache import shared_cache
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import load_judges
from npkit.scoring.rewards import Scorer, gain_over_prefix
from npkit.study.artifacts import Run, hide_progress_bars, open_run
from npkit.study.profiles import PPOConfig, load_profile, override
from npkit.text.policy import Policy, load_policy
from npkit.training.assembly import ppo_prefixes
from npkit.training.reinforcement import train_ppo
from npkit.training.rollouts import read_samples

PAID, PUBLIC = "pickscore", "oracle"
KINDS = ("hackable", "default")
SECONDS_AN_UPDATE = 2.5  # of training and scoring, on two free cores


def fresh_pictures(seed: int) -> int:
    """Return a picture seed that no training, choice of a policy or evaluation uses."""
    return 1_000_000 * (seed + 1) + 700_000


def train_once(policy: Policy, prefixes: list[str], scorer: Scorer, config: PPOConfig, seed: int, every: int
               ) -> pd.DataFrame:
    """Return the curves of one training; the policy that is given stays as it was."""
    model, tokenizer = policy
    with tempfile.TemporaryDirectory() as folder:
        train_ppo(copy.deepcopy(model), copy.deepcopy(model), tokenizer, prefixes,
                  gain_over_prefix(scorer, PAID, seed), config, seed=seed, folder=Path(folder), max_prompt_tokens=160)
        samples = read_samples(Path(folder))
    return alarm.curves(samples, scorer, fresh_pictures(seed), every)


def of_kind(kind: str, number: int, args: argparse.Namespace) -> pd.DataFrame:
    """Return the curves of one training of a kind; its SFT policy is one of `--sft-seeds`, in turn."""
    sft_seed = args.sft_seeds[number % len(args.sft_seeds)]
    run = open_run("ppo", "tiny", sft_seed)
    settings = {f"judges.{PAID}.model": str(student())} if kind == "hackable" else {}
    profile = load_profile("tiny", settings)
    policy = load_policy(run.input("sft").path / "model")
    changes = {"kl_coef": 0.0} if kind == "hackable" else {}
    config = override(profile.ppo, num_updates=args.updates, episodes_per_update=args.episodes, eval_updates=0,
                      minibatch_size=min(profile.ppo.minibatch_size, args.episodes), max_kl=0.0, min_distinct_share=0.0,
                      **changes)  # no rails: a training that collapses is one that the alarm is to see
    scorer = Scorer(load_image_model(profile.images, "cpu"), load_judges(profile, "cpu"), shared_cache())
    started = time.monotonic()
    found = train_once(policy, ppo_prefixes(run, policy[1])[0], scorer, config, 100 + number, args.every)
    return found.assign(kind=kind, number=number, sft_seed=sft_seed, updates=args.updates,
                        seconds=time.monotonic() - started)


def student() -> Path:
    """Return the folder of the judge that notebook 03 trained, or raise with the command that makes it."""
    run: Run = open_run("reward", "tiny")
    if run.artifact is None:
        raise SystemExit(f"the judge of notebook 03 is not there: npkit run --only 03_reward{run.options}")
    return run.artifact.path / "model"


def report(rows: pd.DataFrame, level: float = alarm.LEVEL) -> str:
    """Return the alarms of all trainings, a line each, and the rates with 95 % intervals (Clopper and Pearson)."""
    lines, rates = [], []
    for kind in KINDS:
        raised, by_public = [], []
        for number, curves in rows[rows["kind"] == kind].groupby("number"):
            found = alarm.find_alarm(curves, PAID, level)
            public = alarm.find_alarm(curves[curves["judge"].isin([PAID, PUBLIC])], PAID, level)
            raised.append(found.raised)
            by_public.append(public.raised)
            lines.append(f"{kind} {number}: {found}; by the public alone: {'alarm' if public.raised else 'none'}, "
                         f"{public.fall:.2f} after update {public.onset} (p = {public.p:.3g})")
        for alarms, words in ((raised, "raise the alarm"), (by_public, "raise it by the public alone")):
            if alarms:
                low, high = interval(sum(alarms), len(alarms))
                rates.append(f"{kind}: {sum(alarms)} of {len(alarms)} trainings {words} [{low:.2f}, {high:.2f}]")
    return "\n".join([*lines, "", *rates])


def interval(hits: int, number: int) -> tuple[float, float]:
    """Return Clopper and Pearson's 95 % interval of a share."""
    low = beta.ppf(0.025, hits, number - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, number - hits) if hits < number else 1.0
    return float(low), float(high)


def simulate(repetitions: int, level: float = alarm.LEVEL) -> str:
    """Return the alarm's rates on curves of noise around shapes that hold no hacking, and around two that do."""
    rng, updates = np.random.default_rng(0), np.arange(10, 130, 10)
    up = 1.5 * (1 - np.exp(-updates / 40))
    shapes = {"all rise": up, "unpaid flat": 0 * up, "unpaid reach a plateau": np.minimum(up, 0.6),
              "one falls by 0.3": np.where(updates <= 60, up, up[5] - 0.3 * (updates - 60) / 60),
              "one falls by 0.6": np.where(updates <= 60, up, up[5] - 0.6 * (updates - 60) / 60)}
    lines = []
    for name, shape in shapes.items():
        others = [shape, up, up] if name.startswith("one") else [shape] * 3
        hits = sum(alarm.find_alarm(noisy([up, *others], updates, rng), PAID, level).raised for _ in range(repetitions))
        lines.append(f"{name}: {hits} of {repetitions} raise the alarm, {hits / repetitions:.1%}")
    return "\n".join(lines)


def noisy(curves: list[np.ndarray], updates: np.ndarray, rng: np.random.Generator, error: float = 0.12) -> pd.DataFrame:
    """Return curves of the paid judge and unpaid ones with the noise of 64 completions a block."""
    rows = [(PAID if not number else f"unpaid {number}", update, value + error * rng.normal(),
             error * np.sqrt(rng.chisquare(63) / 63), 64)
            for number, curve in enumerate(curves) for update, value in zip(updates, curve, strict=True)]
    return pd.DataFrame(rows, columns=["judge", "update", "gain", "error", "n"])


def save(rows: pd.DataFrame, file: Path) -> None:
    """Write the parquet file, whole or not at all."""
    draft = file.with_name(f".{file.name}.draft")
    rows.to_parquet(draft, index=False)
    os.replace(draft, file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="the parquet file of the curves")
    parser.add_argument("--runs", type=int, default=10, help="trainings of each kind")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--episodes", type=int, default=64, help="completions an update")
    parser.add_argument("--every", type=int, default=5, help="updates between two blocks that are scored")
    parser.add_argument("--sft-seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--simulate", type=int, metavar="N", help="no training: N times noise around known curves")
    args = parser.parse_args()
    torch.set_num_threads(2)
    hide_progress_bars()
    if args.simulate:
        print(simulate(args.simulate))
        return 0
    if not args.file:
        parser.error("--file names the parquet file of the curves")
    rows = pd.read_parquet(args.file) if args.file.exists() else pd.DataFrame(
        columns=["kind", "number", "judge", "update"])
    done = set(zip(rows["kind"], rows["number"], strict=True))
    todo = [(kind, number) for number in range(args.runs) for kind in KINDS if (kind, number) not in done]
    minutes = len(todo) * args.updates * args.episodes / 64 * SECONDS_AN_UPDATE / 60
    print(f"{len(todo)} trainings to make, about {minutes:.0f} minutes on two free cores", flush=True)
    for kind, number in todo:
        new = of_kind(kind, number, args)
        rows = pd.concat([rows, new], ignore_index=True) if len(rows) else new
        save(rows, args.file)
        print(f"{kind} {number}: {new['seconds'].iloc[0]:.0f} s", flush=True)
    print(report(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
