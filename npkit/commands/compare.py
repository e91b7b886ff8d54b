"""`npkit compare`: two runs side by side, or ppo against sft over training seeds."""
import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from npkit.commands.options import add_profile, add_verb, whole_number
from npkit.errors import NpkitError


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "compare", run,
                    "Print the metrics of two runs side by side, or what studies of several seeds have in common.",
                    "npkit compare --seeds 0 1 2 3 4")
    verb.add_argument("runs", nargs="*", metavar="RUN", help="two folders of runs/, by name or path")
    verb.add_argument("--seeds", type=whole_number, nargs="+", metavar="N",
                      help="in their place: the gains of these studies, and ppo - sft seed by seed")
    verb.add_argument("--csv", type=Path, metavar="FILE",
                      help="with --seeds: write ppo - sft here too, a line a seed and judge")
    add_profile(verb, "of the studies of --seeds (default tiny)")


def run(args: argparse.Namespace) -> int:
    """Print every metric that two runs both have or one of them lacks, and the difference; or the tables of seeds."""
    from npkit.study.profiles import parse_settings
    from npkit.study.report import comparison, find_folder
    if args.seeds and not args.runs:
        print(seeds_text(args.profile, args.seeds, parse_settings(args.settings), args.csv))
    elif len(args.runs) == 2 and not args.seeds:
        print(comparison(*map(find_folder, args.runs)))
    else:
        raise NpkitError("compare takes two runs, such as tiny-seed0 tiny-seed1, or --seeds and their numbers")
    return 0


def seeds_text(profile: str, seeds: Sequence[int], settings: Mapping[str, object], csv: Path | None = None) -> str:
    """Return every variant's gain over the seeds, then ppo - sft seed by seed, in the eyes of every judge.

    What is missing is said with the command that makes it; `csv` is written with the seeds that are there.
    """
    from npkit.findings import across_seeds
    from npkit.study.artifacts import open_run, write_whole
    runs = [open_run("evaluation", profile, seed, settings) for seed in dict.fromkeys(seeds)]
    found = {run.seed: run.artifact.metrics for run in runs if run.artifact}
    if not found:
        raise NpkitError(f"none of the seeds {', '.join(map(str, seeds))} has been evaluated: "
                         f"begin with {runs[0].command()}")
    judges = [judge.name for judge in runs[0].config.judges]
    differences = across_seeds.difference_table(found, judges)
    if csv:
        write_whole(csv, differences.round(4).to_csv(index=False))
    missing = [f"seed {run.seed} is not there yet: {run.command()}" for run in runs if not run.artifact]
    return "\n".join([
        "Gain over the prefix: mean over the seeds, with its 95 % interval by Student's t over the seeds", "",
        across_seeds.readable_gains(across_seeds.gain_table(found, judges)).to_string(), "",
        f"{across_seeds.CONTRAST}, seed by seed: a seed's interval is over its prefixes, the mean's over the seeds",
        "", across_seeds.readable_differences(differences).to_string(), *missing, "",
        f"{len(found)} of {len(runs)} training seeds, {runs[0].config.evaluation.num_prefixes} test prefixes each"])
