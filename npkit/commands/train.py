"""`npkit train`: one training without its notebook, in one process or several."""
import argparse

from npkit.commands.options import add_choice, add_verb, whole_number


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "train", run, "Make the artifact of one training without its notebook; torchrun starts "
                    "it as several processes.", "npkit train sft --set sft.num_epochs=1")
    verb.add_argument("stage", choices=("sft", "ppo"), help="which training")
    add_choice(verb)
    verb.add_argument("--processes", type=whole_number, default=0, metavar="N",
                      help="refuse to run as another number of processes than N")


def run(args: argparse.Namespace) -> int:
    """Train and print where the artifact is, and its metrics."""
    from npkit.study.profiles import parse_settings
    from npkit.training import processes
    from npkit.training.assembly import train
    artifact = train(args.stage, args.profile, args.seed, parse_settings(args.settings), args.processes)
    if processes.is_main():
        print(artifact.path, *(f"{name} {value:.6g}" for name, value in artifact.metrics.items()), sep="\n")
    return 0
