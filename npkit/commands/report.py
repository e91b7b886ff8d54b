"""`npkit report`: a run's page, written again."""
import argparse

from npkit.commands.options import add_verb


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "report", run, "Write a run's index.html again.", "npkit report tiny-seed0")
    verb.add_argument("run", metavar="RUN", help="a folder of runs/, by name or path")


def run(args: argparse.Namespace) -> int:
    """Write the report and print its path."""
    from npkit.ablations.records import records_of
    from npkit.study.report import find_folder, runs_of, write_report
    folder = find_folder(args.run)
    print(write_report(folder, records_of(runs_of(folder)[0].config.name)))
    return 0
