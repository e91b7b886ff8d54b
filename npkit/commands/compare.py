"""`npkit compare`: two runs, or studies and reference metrics, or ppo against sft over training seeds."""
import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.commands.check import add_check, tell
from npkit.commands.options import add_profile, add_verb, names, whole_number
from npkit.errors import NpkitError

if TYPE_CHECKING:
    from pandas import DataFrame  # for type hints only: --help needs none


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "compare", run,
                    "Compare two runs, or finished studies with reference metrics, or print what studies of several "
                    "seeds have in common.\nExit code 3: a metric has moved.",
                    "npkit compare --seeds 0 1 2 3 4")
    verb.add_argument("runs", nargs="*", metavar="RUN", help="two folders of runs/, by name or path")
    verb.add_argument("--seeds", type=whole_number, nargs="+", metavar="N",
                      help="in their place: the gains of these studies, and ppo - sft seed by seed")
    verb.add_argument("--csv", type=Path, metavar="FILE",
                      help="with --seeds: write ppo - sft here too, a line a seed and judge")
    verb.add_argument("--readme", type=Path, metavar="FILE",
                      help="with --seeds: write the table into this Markdown file too, between its two markers")
    verb.add_argument("--only", type=names, default=[], metavar="A,B", help="only the metrics of these stages")
    add_check(verb, "compare the studies of --seeds with these reference metrics, of several seeds the means; with two "
                    "runs: take the spread of metrics from here (default: the repository's for their profile)")
    verb.add_argument("--add", action="store_true",
                      help="with --refresh: keep the file's studies and add these, such as another machine's")
    add_profile(verb, "of the studies of --seeds (default tiny)")


def run(args: argparse.Namespace) -> int:
    """Do what the options ask for; 3 if a metric has moved."""
    from npkit.study.profiles import parse_settings
    settings = parse_settings(args.settings)
    refuse_mixtures(args)
    if args.seeds and args.check:
        return against_reference(args, list(dict.fromkeys(args.seeds)), settings)
    if args.seeds:
        from npkit.findings.across_seeds import write_readme
        seeds = list(dict.fromkeys(args.seeds))
        found, text = seeds_text(args.profile, seeds, settings)
        print(text)
        if args.csv:
            write_table(found, args.csv)
        if args.readme:
            print(write_readme(args.readme, args.profile, seeds, settings))
        return 0
    return two_runs(args)


def refuse_mixtures(args: argparse.Namespace) -> None:
    """Raise where the options do not say one thing."""
    if bool(args.seeds) == bool(args.runs) or (args.runs and (len(args.runs) != 2 or args.csv or args.readme)):
        raise NpkitError("compare takes two runs, such as tiny-seed0 tiny-seed1, or --seeds and their numbers; "
                         "--csv goes with --seeds, and so does --readme")
    checks = [f"--{name}" for name in ("refresh", "add", "tight") if getattr(args, name) not in (None, False)]
    if checks and not (args.seeds and args.check):
        raise NpkitError(f"{checks[0]} goes with --seeds and --check FILE")
    if args.junit and args.check and args.junit.resolve() == args.check.resolve():
        raise NpkitError("--junit and --check name the same file: the reference metrics would be lost")
    if args.refresh is not None and args.junit:
        raise NpkitError("--junit writes verdicts, and --refresh has none: use one of them")
    if args.add and args.refresh is None:
        raise NpkitError("--add goes with --refresh")
    if args.seeds and args.check and (args.csv or args.readme):
        raise NpkitError("--csv and --readme write the table of --seeds, and --check FILE compares in its place: use "
                         "one of them")
    if args.seeds and not args.check and (args.only or args.junit):
        raise NpkitError("--only and --junit go with two runs, or with --seeds and --check FILE")


def against_reference(args: argparse.Namespace, seeds: Sequence[int], settings: Mapping[str, object]) -> int:
    """Compare finished studies with a file of reference metrics, or write that file."""
    from npkit.study import gate
    from npkit.study.artifacts import open_run
    from npkit.study.runner import choose
    stages = choose(args.only, "")
    runs = [[open_run(stage, args.profile, seed, settings) for stage in stages] for seed in seeds]
    if args.refresh is not None:
        gate.check_reason(args.refresh)
        old = gate.read_reference(args.check) if args.check.exists() else None
        if old and (args.add or len(runs) == 1):  # otherwise nothing of it stays
            gate.check_fits(args.check, old, runs[0][0])
        gate.refresh(args.check, old, runs, args.refresh, args.add)
        print(f"{args.check}: reference metrics of {len(runs)} studies written")
        return 0
    reference = gate.read_reference(args.check)
    gate.check_fits(args.check, reference, runs[0][0])
    if args.tight and len(runs) > 1:
        raise NpkitError("--tight checks the study of one seed, within the spread of that seed")
    expected = gate.expectations(reference, runs[0][0] if args.tight else None)
    verdicts = gate.check(expected, [gate.study_of(each) for each in runs])
    print(gate.verdict_table(verdicts))
    return tell(verdicts, args.junit, f"{args.profile}-{runs[0][0].label}")


def two_runs(args: argparse.Namespace) -> int:
    """Print every metric of two runs, the difference, how large it may be, and a verdict."""
    from npkit.study import gate
    from npkit.study.report import find_folder, runs_of
    from npkit.study.runner import choose
    stages, folders = choose(args.only, ""), [find_folder(name) for name in args.runs]
    first, second = ([run for run in runs_of(folder) if run.stage in stages] for folder in folders)
    if first[0].config.name != second[0].config.name:
        raise NpkitError(f"{folders[0].name} is of profile {first[0].config.name}, {folders[1].name} of profile "
                         f"{second[0].config.name}: runs of different profiles cannot be compared")
    file = args.check or gate.shipped(first[0].config.name)
    reference = gate.read_reference(file) if file else None
    if reference and args.check:
        for runs in (first, second):
            gate.check_fits(file, reference, runs[0])
    elif reference and not all(gate.fits(reference, runs[0]) for runs in (first, second)):
        reference = None  # the repository's are of other settings: their spread says nothing of these
    verdicts = gate.check_two(reference, gate.study_of(first), gate.study_of(second))
    print(gate.verdict_table(verdicts, (folders[0].name, folders[1].name)))
    return tell(verdicts, args.junit, f"{folders[0].name} {folders[1].name}")


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
