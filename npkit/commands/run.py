"""`npkit run`: the notebooks executed in order, and the result table."""
import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from npkit.commands.check import add_check, tell
from npkit.commands.options import add_choice, add_verb, names
from npkit.errors import NpkitError

if TYPE_CHECKING:
    from npkit.findings.tolerances import Expected
    from npkit.study.artifacts import Run
    from npkit.study.gate import Reference
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
    add_check(verb, "compare every metric with these reference metrics; exit code 3 when one has moved")


def show_plan(runs: Sequence["Run"], kept: Sequence[bool], corpus: "Corpus | None") -> None:
    """Print what would be run and what kept, a line a stage, and what the corpus holds."""
    from npkit.study import preflight
    from npkit.study.artifacts import STAGES, WITHOUT_CORPUS
    for each, is_kept in zip(runs, kept, strict=True):
        print(f"{STAGES[each.stage].notebook:<24}{'keep' if is_kept else 'run '} {each.folder}")
    if not {each.stage for each in runs} <= WITHOUT_CORPUS:
        print(f"\n{preflight.account(corpus or preflight.find_corpus(runs[0]))}")


def run(args: argparse.Namespace) -> int:
    """Execute the study and print its table; 3 if a metric has moved."""
    from npkit.ablations.records import records_of
    from npkit.study import gate, runner
    from npkit.study.profiles import parse_settings
    from npkit.study.report import result_table, write_report
    reference = read_check(args)
    planned = runner.plan(args.profile, args.seed, parse_settings(args.settings), args.only, args.until)
    expected = None
    if reference:
        gate.check_fits(args.check, reference, planned.runs[0])
        expected = expected_of(args, reference, planned.runs[0])
    if args.dry_run:
        show_plan(planned.runs, [not args.fresh and planned.kept(each) for each in planned.runs], planned.corpus)
        return 0
    runner.run_study(planned, args.fresh)
    index = write_report(planned.folder, records_of(args.profile))
    print(*filter(None, (result_table(planned.runs[0]), str(index))), sep="\n\n")  # the table begins with blanks
    study = gate.study_of(planned.runs) if args.check else None
    code = tell(gate.check(expected, [study]), args.junit, planned.folder.name) if expected else 0
    if args.refresh is not None:
        gate.refresh(args.check, reference, [planned.runs], args.refresh)
        print(f"npkit: {args.check} now expects this study's values", file=sys.stderr)
        return 0
    return code


def read_check(args: argparse.Namespace) -> "Reference | None":
    """Return the reference metrics of --check before anything runs; None without it, or where --refresh makes them."""
    from npkit.study import gate
    given = [f"--{name}" for name in ("refresh", "tight", "junit") if getattr(args, name) not in (None, False)]
    if given and not args.check:
        raise NpkitError(f"{given[0]} goes with the file of --check: name one")
    if args.junit and args.junit.resolve() == args.check.resolve():
        raise NpkitError("--junit and --check name the same file: the reference metrics would be lost")
    if args.refresh is not None:
        gate.check_reason(args.refresh)
    if not args.check or (args.refresh is not None and not args.check.exists()):
        return None
    return gate.read_reference(args.check)


def expected_of(args: argparse.Namespace, reference: "Reference", run: "Run") -> "dict[str, Expected] | None":
    """Return what is expected of a study; None where one study is about to be replaced by another."""
    from npkit.study import gate
    try:
        return gate.expectations(reference, run if args.tight else None)
    except NpkitError:
        if args.refresh is None:
            raise
        return None
