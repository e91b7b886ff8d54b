"""`npkit compare`: two runs side by side, or ppo against sft over training seeds."""
import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.commands.options import add_profile, add_verb, whole_number
from npkit.errors import NpkitError

if TYPE_CHECKING:
    from pandas import DataFrame  # for type hints only: --help needs none


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
    verb.add_argument("--readme", type=Path, metavar="FILE",
                      help="with --seeds: write the table into this Markdown file too, between its two markers")
    add_profile(verb, "of the studies of --seeds (default tiny)")


def run(args: argparse.Namespace) -> int:
    """Print every metric that two runs both have or one of them lacks, and the difference; or the tables of seeds."""
    from npkit.study.profiles import parse_settings
    from npkit.study.report import comparison, find_folder
    if args.seeds and not args.runs:
        from npkit.findings.across_seeds import write_readme
        seeds, settings = list(dict.fromkeys(args.seeds)), parse_settings(args.settings)
        found, text = seeds_text(args.profile, seeds, settings)
        print(text)
        if args.csv:
            write_table(found, args.csv)
        if args.readme:
            print(write_readme(args.readme, args.profile, seeds, settings))
    elif len(args.runs) == 2 and not (args.seeds or args.csv or args.readme):
        print(comparison(*map(find_folder, args.runs)))
    else:
        raise NpkitError("compare takes two runs, such as tiny-seed0 tiny-seed1, or --seeds and their numbers; "
                         "--csv goes with --seeds, and so does --readme")
    return 0


def seeds_text(profile: str, seeds: Sequence[int], settings: Mapping[str, object]) -> tuple["DataFrame", str]:
    """Return ppo - sft of every seed as a table; and as text every variant's gain over the seeds, then that table.

    What is missing is said with the command that makes it.
    """
    from npkit.findings import across_seeds
    from npkit.study.artifacts import open_run
    runs = [open_run("evaluation", profile, seed, settings) for seed in seeds]
    found = {run.seed: run.artifact.metrics for run in runs if run.artifact}
    if not found:
        names = f"seed {seeds[0]} has not" if len(seeds) == 1 else f"none of the seeds {', '.join(map(str, seeds))} has"
        raise NpkitError(f"{names} been evaluated: begin with {runs[0].command()}")
    judges = [judge.name for judge in runs[0].config.judges]
    differences = across_seeds.difference_table(found, judges)
    missing = [f"seed {run.seed} is not there yet: {run.command()}" for run in runs if not run.artifact]
    interval = ("mean over the seeds, with its 95 % interval by Student's t over the seeds" if len(found) > 1 else
                "of one seed; two and more have an interval")
    return differences, "\n".join([
        f"Gain over the prefix: {interval}", "",
        across_seeds.readable_gains(across_seeds.gain_table(found, judges)).to_string(), "",
        f"{across_seeds.CONTRAST}, seed by seed: a seed's interval is over its prefixes, the mean's over the seeds",
        "", across_seeds.readable_differences(differences).to_string(), *missing, "",
        f"{len(found)} of {len(runs)} training seeds, {runs[0].config.evaluation.num_prefixes} test prefixes each"])


def write_table(table: "DataFrame", path: Path) -> None:
    """Write a table as CSV, whole or not at all; raise where that cannot be."""
    from npkit.study.artifacts import write_whole
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no ordinary file")
        write_whole(path, table.round(4).to_csv(index=False))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NpkitError(f"--csv {str(path)!r} cannot be written: {reason}") from None
