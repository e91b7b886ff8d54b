"""Command line: run the study, see where it stands, optimise one prompt, compare runs."""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from npkit import __version__
from npkit.errors import NotebookFailed, NpkitError

CATEGORIES = ("style", "artist", "format", "perspective", "booster", "vibe")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence and whose help ends with an example."""

    def __init__(self, *args, **options):
        super().__init__(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str):
        self.exit(2, f"npkit: {message}; see {self.prog} --help\n")


def build_parser() -> Parser:
    """Return the parser of every verb; each sets `function`, which takes the arguments and returns an exit code."""
    parser = Parser(prog="npkit", description="Study kit for NeuroPrompts.", epilog="example: npkit run")
    parser.add_argument("--version", action="version", version=f"npkit {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add_run(verbs)
    add_train(verbs)
    add_status(verbs)
    add_optimize(verbs)
    add_report(verbs)
    add_compare(verbs)
    add_cache(verbs)
    return parser


def add_verb(verbs, name: str, function, summary: str, example: str) -> Parser:
    """Add a verb with its summary and its example, which works as typed."""
    verb = verbs.add_parser(name, help=summary, description=summary, epilog=f"example: {example}")
    verb.set_defaults(function=function)
    return verb


def add_choice(verb: Parser) -> None:
    """Add the options that choose a study."""
    verb.add_argument("--profile", default="tiny", metavar="P", help="tiny (default), small or paper")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="seeds everything random (default 0)")
    add_set(verb)


def add_set(verb: Parser) -> None:
    """Add the option that changes the profile's settings."""
    verb.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=VALUE",
                      help="change a setting of the profile, such as ppo.kl_coef=0.1; may be repeated")


def add_run(verbs) -> None:
    verb = add_verb(verbs, "run", run, "Execute the notebooks in order and print the result table.",
                    "npkit run --only 00_glyphworld,01_data_and_prefixes --seed 1")
    add_choice(verb)
    verb.add_argument("--only", type=names, default=[], metavar="A,B", help="only these notebooks")
    verb.add_argument("--until", default="", metavar="NOTEBOOK", help="stop after this notebook")
    verb.add_argument("--fresh", action="store_true", help="make the chosen notebooks' artifacts again")
    verb.add_argument("--dry-run", action="store_true", help="say what would run, and write nothing")
    verb.add_argument("--check", type=Path, metavar="FILE",
                      help="compare metrics with {stage: {metric: {value, tolerance}}}; exit code 3 when one is off")
    verb.add_argument("--refresh", action="store_true", help="write this run's values into the file of --check")


def add_train(verbs) -> None:
    verb = add_verb(verbs, "train", train, "Make the artifact of one training without its notebook; torchrun starts "
                    "it as several processes.", "npkit train sft --set sft.num_epochs=1")
    verb.add_argument("stage", choices=("sft", "ppo"), help="which training")
    add_choice(verb)
    verb.add_argument("--processes", type=int, default=0, metavar="N",
                      help="refuse to run as another number of processes than N")


def add_status(verbs) -> None:
    add_choice(add_verb(verbs, "status", status, "Say versions, device, which artifacts exist and what is next.",
                        "npkit status --profile tiny"))


def add_optimize(verbs) -> None:
    verb = add_verb(verbs, "optimize", optimize, "Optimise one prompt, or one a line from standard input.",
                    'npkit optimize "a castle tower" --style "pixel art" --exclude 8k --out castle.png')
    verb.add_argument("prompt", metavar="PROMPT", help="the plain prompt; - reads one a line from standard input")
    verb.add_argument("--profile", default="tiny", metavar="P", help="tiny (default), small or paper")
    add_set(verb)
    verb.add_argument("--policy", default="ppo", metavar="ppo|sft|FOLDER", help="which policy writes (default ppo)")
    for category in CATEGORIES:
        verb.add_argument(f"--{category}", action="append", default=[], metavar="W",
                          help=f"wanted {category}; repeated: any of these")
    verb.add_argument("--require", action="append", default=[], metavar="PHRASE", help="a phrase that must occur")
    verb.add_argument("--exclude", action="append", default=[], metavar="PHRASE", help="a phrase that must not occur")
    verb.add_argument("--no-defaults", action="store_true", help="no default clause for the categories left open")
    verb.add_argument("--seed", type=int, default=0, metavar="N", help="draws keywords and pictures (default 0)")
    verb.add_argument("--beam", type=int, metavar="N", help="beam size; the profile's where not given")
    verb.add_argument("--max-new-tokens", type=int, metavar="N", help="length of a completion; the profile's")
    verb.add_argument("--prices", action="store_true", help="say what each clause costs, by decoding without it")
    verb.add_argument("--out", metavar="PNG", help="save both pictures side by side, and score them")
    verb.add_argument("--scores", action="store_true", help="score both pictures")
    verb.add_argument("--json", action="store_true", help="one JSON object a prompt on standard output")


def add_report(verbs) -> None:
    verb = add_verb(verbs, "report", report, "Write a run's index.html again.", "npkit report tiny-seed0")
    verb.add_argument("run", metavar="RUN", help="a folder of runs/, by name or path")


def add_compare(verbs) -> None:
    verb = add_verb(verbs, "compare", compare,
                    "Print the metrics of two runs side by side, or ppo against sft over training seeds.",
                    "npkit compare --seeds 0 1 2 3 4")
    verb.add_argument("runs", nargs="*", metavar="RUN", help="two folders of runs/, by name or path")
    verb.add_argument("--seeds", type=int, nargs="+", metavar="N", help="in their place: ppo - sft of these studies")
    verb.add_argument("--profile", default="tiny", metavar="P", help="of the studies of --seeds (default tiny)")
    add_set(verb)


def add_cache(verbs) -> None:
    verb = add_verb(verbs, "cache", cache, "Say how many scores are remembered, by judge, and in how many bytes.",
                    "npkit cache --clear")
    verb.add_argument("--clear", action="store_true", help="forget them all: pictures are painted and judged again")


def names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


# The verbs -----------------------------------------------------------------------------------------------------------
def run(args: argparse.Namespace) -> int:
    """Execute the study and print its table; 3 if a metric is out of tolerance."""
    from npkit.study import runner
    from npkit.study.profiles import parse_settings
    from npkit.study.report import result_table, write_report
    if args.refresh and not args.check:
        raise NpkitError("--refresh writes into the file of --check: name one")
    expected = runner.read_expected(args.check) if args.check else {}
    planned = runner.plan(args.profile, args.seed, parse_settings(args.settings), args.only, args.until)
    if args.dry_run:
        for each in planned.runs:
            kept = not args.fresh and planned.kept(each)
            print(f"{runner.source_of(each).stem:<24}{'keep' if kept else 'run '} {each.folder}")
        return 0
    runner.run_study(planned, args.fresh)
    index = write_report(planned.folder)
    print(f"{result_table(planned.runs[0])}\n\n{index}".strip())
    wrong = runner.out_of_tolerance(planned.runs, expected)
    for sentence in wrong:
        print(f"npkit: {sentence}", file=sys.stderr)
    if args.refresh:
        runner.refresh_expected(args.check, planned.runs, expected)
        print(f"npkit: {args.check} now expects this run's values", file=sys.stderr)
    return 3 if wrong and not args.refresh else 0


def train(args: argparse.Namespace) -> int:
    """Train and print where the artifact is, and its metrics."""
    from npkit.study.profiles import parse_settings
    from npkit.training import processes
    from npkit.training.assembly import train
    artifact = train(args.stage, args.profile, args.seed, parse_settings(args.settings), args.processes)
    if processes.is_main():
        print(artifact.path, *(f"{name} {value:.6g}" for name, value in artifact.metrics.items()), sep="\n")
    return 0


def status(args: argparse.Namespace) -> int:
    """Print what there is and what to do next."""
    from npkit.study.artifacts import STAGES, home, open_run, versions
    from npkit.study.profiles import parse_settings
    from npkit.study.report import age, headline
    runs = [open_run(stage, args.profile, args.seed, parse_settings(args.settings)) for stage in STAGES]
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"device {runs[0].device}; profile {args.profile}, seed {args.seed}; artifacts in {home() / 'artifacts'}\n")
    for each in runs:
        print(f"{each.stage:<12}{each.key:<14}{age(each):<14}{headline(each)}".rstrip())
    missing = [each for each in runs if each.artifact is None]
    print("\nnext: " + (f"npkit run --until {STAGES[missing[0].stage].notebook}{missing[0].options}" if missing else
                        f"all artifacts are there; npkit run{runs[0].options} shows the table and writes the report"))
    return 0


def optimize(args: argparse.Namespace) -> int:
    """Optimise the prompt; see `npkit.optimize`."""
    from npkit.optimize import run_command
    return run_command(args)


def report(args: argparse.Namespace) -> int:
    """Write the report and print its path."""
    from npkit.study.report import find_folder, write_report
    print(write_report(find_folder(args.run)))
    return 0


def compare(args: argparse.Namespace) -> int:
    """Print every metric that two runs both have or one of them lacks, and the difference; or a table of seeds."""
    from npkit.study.profiles import parse_settings
    from npkit.study.report import comparison, find_folder, seeds_table
    if args.seeds and not args.runs:
        print(seeds_table(args.profile, args.seeds, parse_settings(args.settings)))
    elif len(args.runs) == 2 and not args.seeds:
        print(comparison(*map(find_folder, args.runs)))
    else:
        raise NpkitError("compare takes two runs, such as tiny-seed0 tiny-seed1, or --seeds and their numbers")
    return 0


def cache(args: argparse.Namespace) -> int:
    """Print what the score cache holds, or empty it."""
    from npkit.scoring.cache import cache_path, shared_cache, size_report
    if not cache_path().exists():
        print(f"no score cache yet: PPO and evaluation will make {cache_path()}")
        return 0
    scores = shared_cache()
    if args.clear:
        print(f"{scores.clear():,} scores removed")
    print(size_report(scores))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; every error is a sentence on standard error and an exit code."""
    args = build_parser().parse_args(arguments)
    try:
        return args.function(args)
    except NpkitError as error:
        print(f"npkit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nnpkit: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except NotebookFailed as error:
        print(f"npkit: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
