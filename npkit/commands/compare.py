"""`npkit compare`: two runs side by side, or ppo against sft over training seeds."""
import argparse

from npkit.commands.options import add_profile, add_verb, whole_number
from npkit.errors import NpkitError


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "compare", run,
                    "Print the metrics of two runs side by side, or ppo against sft over training seeds.",
                    "npkit compare --seeds 0 1 2 3 4")
    verb.add_argument("runs", nargs="*", metavar="RUN", help="two folders of runs/, by name or path")
    verb.add_argument("--seeds", type=whole_number, nargs="+", metavar="N",
                      help="in their place: ppo - sft of these studies")
    add_profile(verb, "of the studies of --seeds (default tiny)")


def run(args: argparse.Namespace) -> int:
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
