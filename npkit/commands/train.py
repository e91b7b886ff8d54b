"""`npkit train`: one training without its notebook, in one process or several."""
import argparse

from npkit.commands.options import add_choice, add_verb, whole_number
from npkit.commands.run import show_plan


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "train", run, "Make the artifact of one training without its notebook; torchrun starts "
                    "it as several processes.", "npkit train sft --set sft.num_epochs=1")
    verb.add_argument("stage", choices=("sft", "ppo"), help="which training")
    add_choice(verb)
    verb.add_argument("--processes", type=whole_number, default=0, metavar="N",
                      help="refuse to run as another number of processes than N")
    verb.add_argument("--dry-run", action="store_true",
                      help="say whether it would train and what the corpus holds, and write nothing")


def run(args: argparse.Namespace) -> int:
    """Train and print where the artifact is, and its metrics."""
    from npkit.study import preflight
    from npkit.study.artifacts import STAGES, open_run
    from npkit.study.profiles import parse_settings
    from npkit.study.runner import is_shipped
    from npkit.training import processes
    from npkit.training.assembly import train
    settings = parse_settings(args.settings)
    wanted = open_run(args.stage, args.profile, args.seed, settings)
    wanted.need(STAGES[args.stage].inputs)
    is_there = wanted.artifact is not None
    corpus = None if is_there or is_shipped(wanted) else preflight.check_training(wanted)
    if args.dry_run:
        show_plan([wanted], [is_there], corpus)
        return 0
    artifact = train(args.stage, args.profile, args.seed, settings, args.processes)
    if processes.is_main():
        print(artifact.path, *(f"{name} {value:.6g}" for name, value in artifact.metrics.items()), sep="\n")
    return 0
