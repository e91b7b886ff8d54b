"""What the gains of several trainings vary with: `python benchmarks/variance.py --out gains.parquet`.

Every training writes prompts for the same prefixes: `ppo` by sampling and `ppo+nl` under default clauses, each with
several draws (of the samples, or of the clauses), and each prompt is painted from several picture seeds. So all that a
study draws at random is crossed, and the analysis of variance tells the parts apart, which the finished studies cannot
(each has its own prefixes, one draw and one picture of each). Printed is the deviation of each part, a row a variant
and judge. `benchmarks/intervals.py` simulates with these parts. The studies must have been made, for instance by
`npkit run --seed 1`.
"""
import argparse
import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from npkit.errors import NpkitError
from npkit.findings.evaluation import picture_seeds
from npkit.findings.variants import test_prefixes
from npkit.neurologic import decode
from npkit.scoring.cache import ScoreCache
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import load_judges
from npkit.scoring.rewards import Scorer
from npkit.study.artifacts import open_run
from npkit.study.profiles import Profile, parse_settings
from npkit.text import policy
from npkit.wishes import read_wishes

FACTORS = ["training", "prefix", "draw", "picture"]


def parts(gains: np.ndarray) -> dict[str, float]:
    """Return the variance of each part, by the mean squares of a table (trainings, prefixes, draws, pictures).

    Trainings and prefixes are crossed; draws and pictures are crossed with each other within a training and prefix.
    A part whose estimate is below 0 is 0. Source: Searle, Casella and McCulloch, Variance Components (1992), chapter 4.
    """
    trainings, prefixes, draws, pictures = gains.shape
    cells = gains.mean((2, 3))
    by_draw, by_picture = gains.mean(3) - cells[..., None], gains.mean(2) - cells[..., None]
    rest = gains - cells[..., None, None] - by_draw[..., None] - by_picture[:, :, None]
    squares = {"rest": (rest**2).sum() / cells.size / (draws - 1) / (pictures - 1),
               "draw": pictures * (by_draw**2).sum() / cells.size / (draws - 1),
               "picture": draws * (by_picture**2).sum() / cells.size / (pictures - 1)}
    rows, columns = cells.mean(1), cells.mean(0)
    both = cells - rows[:, None] - columns + cells.mean()
    mean_square = (both**2).sum() / (trainings - 1) / (prefixes - 1)  # of a mean over draws and pictures
    found = {"training": rows.var(ddof=1) - mean_square / prefixes,
             "prefix": columns.var(ddof=1) - mean_square / trainings,
             "draw": (squares["draw"] - squares["rest"]) / pictures,
             "picture": (squares["picture"] - squares["rest"]) / draws, "rest": squares["rest"]}
    found["training x prefix"] = (mean_square - found["draw"] / draws - found["picture"] / pictures
                                  - squares["rest"] / draws / pictures)
    return {name: max(0.0, float(value)) for name, value in found.items()}


def written(trained: policy.Policy, config: Profile, prefixes: list[str], number: int) -> dict[str, list[str]]:
    """Return variant -> the prompts that a trained policy writes, another set for every `number`."""
    model, tokenizer = trained
    sampled = policy.generate(model, tokenizer, prefixes, max_new_tokens=config.evaluation.max_new_tokens,
                              generator_seed=number)
    wishes = read_wishes(config, seed=number)
    decoded = decode(model, tokenizer, prefixes, list(map(wishes, prefixes)), config.neurologic)
    return {"ppo": [prefix + rest for prefix, rest in zip(prefixes, sampled)],
            "ppo+nl": [found.prompt for found in decoded]}


def measured(folders: list[Path], config: Profile, prefixes: list[str], draws: int, seeds: list[int],
             out: Path) -> pd.DataFrame:
    """Return one row per (training, prefix, draw, picture seed, variant, judge) with its gain over the prefix.

    `out` grows by a training and draw at a time; those that it has are not made again.
    """
    parts_made = [pd.read_parquet(out)] if out.is_file() else []
    known = set(zip(parts_made[0]["training"], parts_made[0]["draw"])) if parts_made else set()
    missing = [pair for pair in itertools.product(range(len(folders)), range(draws)) if pair not in known]
    if missing:
        scorer = Scorer(load_image_model(config.images, "cpu"), load_judges(config, "cpu"), ScoreCache())
        ask = partial(scorer.scores, prefixes)
        plain = {seed: ask(prefixes, seed) for seed in seeds}
    for training, draw in missing:
        trained = policy.load_policy(folders[training])
        number = 1000 * (training + 1) + draw  # of the samples and of the clauses: no two trainings share a draw
        for variant, prompts in written(trained, config, prefixes, number).items():
            parts_made += [pd.DataFrame({"training": training, "prefix": prefixes, "draw": draw, "picture": seed,
                                         "variant": variant, "judge": judge, "gain": scores - plain[seed][judge]})
                           for seed in seeds for judge, scores in ask(prompts, seed).items()]
        pd.concat(parts_made, ignore_index=True).to_parquet(out, index=False)
    return pd.concat(parts_made, ignore_index=True)


def trainings(seeds: list[int], settings: dict[str, object]) -> list[Path]:
    """Return the folders of the policies that the studies of some seeds trained, or say what is missing."""
    runs = [open_run("ppo", "tiny", seed, settings) for seed in seeds]
    if missing := [run for run in runs if not run.artifact]:
        raise NpkitError(f"{len(missing)} of {len(runs)} trainings are not there yet: {missing[0].command()}")
    return [run.artifact.path / "model" for run in runs]


def printed(table: pd.DataFrame) -> str:
    """Return the deviations of the parts as text, a row a variant and judge."""
    rows, shares = {}, []
    for names, group in table.groupby(["variant", "judge"], sort=False):
        gains = group.sort_values(FACTORS)["gain"].to_numpy().reshape([group[name].nunique() for name in FACTORS])
        found = parts(gains)
        rows[names] = {name: np.sqrt(value) for name, value in found.items()}
        within = sum(found.values()) - found["training"]
        shares.append((found["prefix"] / within, (found["picture"] + found["rest"]) / within))
    shape = " x ".join(f"{table[name].nunique()} {name}s" for name in FACTORS).replace("prefixs", "prefixes")
    prefix, picture = np.median(shares, axis=0)
    return (f"{shape}: deviations of the parts of one gain\n{pd.DataFrame(rows).T.round(3).to_string()}\n"
            f"medians of their shares of the variance within a training: prefix {prefix:.2f}, pictures {picture:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the studies")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the studies")
    parser.add_argument("--policies", type=Path, nargs="+", metavar="FOLDER", help="in place of the studies' policies")
    parser.add_argument("--prefixes", type=int, default=24)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True, help="a parquet file of the gains; a second call goes on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = parse_settings(args.set)
    folders = args.policies or trainings(args.seeds, settings)
    data = open_run("data", "tiny", args.seeds[0], settings)
    if not data.artifact:
        raise NpkitError(f"the study of seed {args.seeds[0]} has no prompts yet: {data.command()}")
    prefixes = test_prefixes(data.artifact.dataset("prompts"), args.prefixes, args.seeds[0])
    print(printed(measured(folders, data.config, prefixes, args.draws, picture_seeds(args.seeds[0], args.pictures),
                           args.out)))


if __name__ == "__main__":
    main()
