"""`npkit run`: the notebooks executed in order, and the result table."""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.commands.options import add_choice, add_verb, names
from npkit.errors import NpkitError

if TYPE_CHECKING:
    from npkit.study.artifacts import Run
    from npkit.study.preflight import Corpus


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "run", run, "Execute the notebooks in order and print the result table.",
                    "npkit run --only 00_glyphworld,01_data_and_prefixes --seed 1")
    add_choice(verb)
    verb.add_argument("--only", type=names, default=[], metavar="A,B", help="only these notebooks")
    verb.add_argument("--until", default="", metavar="NOTEBOOK", help="stop after this notebook")
    verb.add_argument("--fresh", action="store_true", help="make the chosen notebooks' artifacts again")
    verb.add_argument("--dry-run", action="store_true",
                      help="say what would run and what the corpus holds, and write nothing")
    verb.add_argument("--check", type=Path, metavar="FILE",
                      help="compare metrics with {stage: {metric: {value, tolerance}}}; exit code 3 when one is off")
    verb.add_argument("--refresh", action="store_true", help="write this run's values into the file of --check")


def show_plan(runs: Sequence["Run"], kept: Sequence[bool], corpus: "Corpus | None") -> None:
    """Print what would be run and what kept, a line a stage, and what the corpus holds."""
    from npkit.study import preflight
    from npkit.study.artifacts import STAGES, WITHOUT_CORPUS
    for each, is_kept in zip(runs, kept, strict=True):
        print(f"{STAGES[each.stage].notebook:<24}{'keep' if is_kept else 'run '} {each.folder}")
    if not {each.stage for each in runs} <= WITHOUT_CORPUS:
        print(f"\n{preflight.account(corpus or preflight.find_corpus(runs[0]))}")


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
        show_plan(planned.runs, [not args.fresh and planned.kept(each) for each in planned.runs], planned.corpus)
        return 0
    runner.run_study(planned, args.fresh)
    index = write_report(planned.folder)
    print(*filter(None, (result_table(planned.runs[0]), str(index))), sep="\n\n")  # the table begins with blanks
    wrong = runner.out_of_tolerance(planned.runs, expected)
    for sentence in wrong:
        print(f"npkit: {sentence}", file=sys.stderr)
    if args.refresh:
        runner.refresh_expected(args.check, planned.runs, expected)
        print(f"npkit: {args.check} now expects this run's values", file=sys.stderr)
    return 3 if wrong and not args.refresh else 0
