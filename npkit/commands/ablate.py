"""`npkit ablate`: one question about the method, answered over several seeds; what is there is not run again."""
import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.commands.options import add_profile, add_verb, whole_number

if TYPE_CHECKING:
    from npkit.ablations.arms import Ablation

MOST_SEEDS = 1000  # each is a whole training


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "ablate", run, "Run an ablation and print its table. Killed, it goes on where it stopped; "
                    "runs that are done are kept. Without a name: say which ablations there are, and what is done.",
                    "npkit ablate decoding --seeds 1")
    verb.add_argument("name", nargs="?", metavar="NAME", help="which ablation")
    add_profile(verb, "tiny (default), small or paper")
    verb.add_argument("--seeds", type=whole_number, default=3, metavar="N",
                      help="how many training seeds, 0 to N - 1 (default 3)")
    verb.add_argument("--csv", type=Path, metavar="FILE", help="write the gains here too, a line a judge and arm")
    verb.add_argument("--dry-run", action="store_true", help="say what is missing and how long it should take")


def announced(ablation: "Ablation", args: argparse.Namespace, settings: Mapping[str, object]) -> str:
    """Return what is done of an ablation under these settings, or why it cannot be run with them."""
    from npkit.ablations import engine
    from npkit.errors import NpkitError
    try:
        return engine.announcement(engine.trials_of(ablation, args.profile, range(args.seeds), settings))
    except NpkitError as error:
        return f"{ablation.name}: {error}"


def run(args: argparse.Namespace) -> int:
    """Announce, run what is missing, print the table and what was found; 1 where a run could not be made."""
    from npkit.ablations import engine, tables
    from npkit.ablations.arms import ABLATIONS, find_ablation
    from npkit.commands.compare import write_table
    from npkit.errors import NpkitError
    from npkit.study.profiles import parse_settings
    settings = parse_settings(args.settings)
    if not 1 <= args.seeds <= MOST_SEEDS:
        raise NpkitError(f"--seeds is 1 or more, at most {MOST_SEEDS}, got {args.seeds}")
    if args.csv and (args.csv.is_dir() or not args.csv.parent.is_dir()):
        raise NpkitError(f"--csv {str(args.csv)!r} cannot be written: name a file in a folder that exists")
    if args.name is None:
        for each in ABLATIONS.values():
            print(announced(each, args, settings))
            print(f"    {each.question}")
        return 0
    trials = engine.trials_of(find_ablation(args.name), args.profile, range(args.seeds), settings)
    print(engine.announcement(trials), file=sys.stderr)
    if args.dry_run:
        return 0
    failures = engine.run_missing(trials, lambda line: print(line, file=sys.stderr, flush=True))
    print(tables.report(trials))
    if args.csv:
        write_table(tables.gain_table(engine.rows_of(trials), trials[0].ablation.baseline), args.csv)
    for failure in failures:
        print(f"npkit: {failure}", file=sys.stderr)
    return 1 if failures else 0
